// The TensorRT face of the CUDA core: an IPluginV3 for TensorRT 10 and 11 and for TensorRT for RTX. It holds the two attributes, no state.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstdint>

namespace dlm {

constexpr char PLUGIN_NAME[] = "ParallelUnmask";
constexpr char PLUGIN_VERSION[] = "1";
constexpr char PLUGIN_NAMESPACE[] = "dlm";

struct UnmaskAttributes {
  int64_t mask_token_id;
  int64_t top_k;
};

class ParallelUnmaskPlugin final : public nvinfer1::IPluginV3,
                                   public nvinfer1::IPluginV3OneCore,
                                   public nvinfer1::IPluginV3OneBuild,
                                   public nvinfer1::IPluginV3OneRuntime {
 public:
  explicit ParallelUnmaskPlugin(UnmaskAttributes attributes) noexcept;

  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  // IPluginV3OneCore
  char const* getPluginName() const noexcept override { return PLUGIN_NAME; }
  char const* getPluginVersion() const noexcept override { return PLUGIN_VERSION; }
  char const* getPluginNamespace() const noexcept override { return PLUGIN_NAMESPACE; }

  // IPluginV3OneBuild
  int32_t getNbOutputs() const noexcept override;
  int32_t getOutputDataTypes(nvinfer1::DataType* outputTypes, int32_t nbOutputs, nvinfer1::DataType const* inputTypes,
                             int32_t nbInputs) const noexcept override;
  int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t nbInputs, nvinfer1::DimsExprs const* shapeInputs,
                          int32_t nbShapeInputs, nvinfer1::DimsExprs* outputs, int32_t nbOutputs,
                          nvinfer1::IExprBuilder& exprBuilder) noexcept override;
  bool supportsFormatCombination(int32_t pos, nvinfer1::DynamicPluginTensorDesc const* inOut, int32_t nbInputs,
                                 int32_t nbOutputs) noexcept override;
  int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* in, int32_t nbInputs, nvinfer1::DynamicPluginTensorDesc const* out,
                          int32_t nbOutputs) noexcept override;
  size_t getWorkspaceSize(nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t nbInputs,
                          nvinfer1::DynamicPluginTensorDesc const* outputs, int32_t nbOutputs) const noexcept override;

  // IPluginV3OneRuntime
  int32_t onShapeChange(nvinfer1::PluginTensorDesc const* in, int32_t nbInputs, nvinfer1::PluginTensorDesc const* out,
                        int32_t nbOutputs) noexcept override;
  int32_t enqueue(nvinfer1::PluginTensorDesc const* inputDesc, nvinfer1::PluginTensorDesc const* outputDesc, void const* const* inputs,
                  void* const* outputs, void* workspace, cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
  nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

 private:
  UnmaskAttributes attributes_;
  std::array<nvinfer1::PluginField, 2> fields_;  // point into attributes_; rebuilt whenever they are asked for
  nvinfer1::PluginFieldCollection field_collection_{};
};

}  // namespace dlm
