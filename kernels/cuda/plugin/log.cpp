#include "log.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>

namespace dlm {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

}  // namespace

void set_logger_finder(nvinfer1::ILoggerFinder* finder) { logger_finder = finder; }

void log_error(char const* format, ...) {
  nvinfer1::ILoggerFinder* finder = logger_finder;
  nvinfer1::ILogger* logger = finder == nullptr ? nullptr : finder->findLogger();
  if (logger == nullptr) return;
  char message[512];
  const int prefix = std::snprintf(message, sizeof message, "dlm::ParallelUnmask: ");
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message + prefix, sizeof message - static_cast<size_t>(prefix), format, arguments);
  va_end(arguments);
  logger->log(nvinfer1::ILogger::Severity::kERROR, message);
}

}  // namespace dlm
