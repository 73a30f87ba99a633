// Makes plugins from a node's attributes, or from the fields of a serialised engine.
#pragma once

#include <NvInferRuntime.h>

#include <array>

#include "parallel_unmask_plugin.h"

namespace dlm {

class ParallelUnmaskCreator final : public nvinfer1::IPluginCreatorV3One {
 public:
  ParallelUnmaskCreator() noexcept;

  nvinfer1::IPluginV3* createPlugin(char const* name, nvinfer1::PluginFieldCollection const* fc,
                                    nvinfer1::TensorRTPhase phase) noexcept override;
  nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override { return &field_collection_; }
  char const* getPluginName() const noexcept override { return PLUGIN_NAME; }
  char const* getPluginVersion() const noexcept override { return PLUGIN_VERSION; }
  char const* getPluginNamespace() const noexcept override { return PLUGIN_NAMESPACE; }

 private:
  std::array<nvinfer1::PluginField, 2> fields_;
  nvinfer1::PluginFieldCollection field_collection_{};
};

}  // namespace dlm
