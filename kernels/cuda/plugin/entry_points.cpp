// What TensorRT looks up in a plugin library: IPluginRegistry::loadLibrary, trtexec --dynamicPlugins, plugins serialised into an engine.
#include "creator.h"
#include "log.h"

#if defined(_WIN32)
#define DLM_PLUGIN_API extern "C" __declspec(dllexport)
#else
#define DLM_PLUGIN_API extern "C" __attribute__((visibility("default")))
#endif

DLM_PLUGIN_API nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& nbCreators) {
  static dlm::ParallelUnmaskCreator creator;
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
  nbCreators = 1;
  return creators;
}

DLM_PLUGIN_API void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { dlm::set_logger_finder(finder); }
