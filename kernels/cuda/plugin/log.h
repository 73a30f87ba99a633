// Messages to the logger of the TensorRT that loaded this library.
#pragma once

#include <NvInferRuntime.h>

namespace dlm {

void set_logger_finder(nvinfer1::ILoggerFinder* finder);

// printf-style; silent where no logger is known.
void log_error(char const* format, ...);

}  // namespace dlm
