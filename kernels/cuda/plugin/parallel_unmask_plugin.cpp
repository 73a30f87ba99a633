#include "parallel_unmask_plugin.h"

#include <new>

#include "dlm_parallel_unmask.h"
#include "log.h"
#include "tensors.h"

using namespace nvinfer1;

namespace dlm {
namespace {

constexpr int32_t OK = 0, REFUSED = -1;

bool counts_fit(int32_t inputs, int32_t outputs) {
  if (inputs == INPUT_COUNT && outputs == OUTPUT_COUNT) return true;
  log_error("the node has %d inputs and %d outputs, version 2 of the op has %d and %d: export the model anew", inputs, outputs,
            static_cast<int32_t>(INPUT_COUNT), static_cast<int32_t>(OUTPUT_COUNT));
  return false;
}

int32_t logits_type(DataType type) {
  if (type == DataType::kHALF) return DLM_LOGITS_FLOAT16;
  return type == DataType::kBF16 ? DLM_LOGITS_BFLOAT16 : DLM_LOGITS_FLOAT32;
}

void point_at_inputs(DlmUnmaskParams& params, void const* const* inputs) {
  params.logits = inputs[LOGITS];
  params.tokens = static_cast<int64_t const*>(inputs[TOKENS]);
  params.live = static_cast<uint8_t const*>(inputs[LIVE]);
  params.positions = static_cast<int64_t const*>(inputs[POSITIONS]);
  params.allow_rows = static_cast<int64_t const*>(inputs[ALLOW_ROWS]);
  params.allow_table = static_cast<float const*>(inputs[ALLOW_TABLE]);
  params.quota = static_cast<int64_t const*>(inputs[QUOTA]);
  params.threshold = static_cast<float const*>(inputs[THRESHOLD]);
  params.factor = static_cast<float const*>(inputs[FACTOR]);
  params.measure = static_cast<int64_t const*>(inputs[MEASURE]);
  params.temperature = static_cast<float const*>(inputs[TEMPERATURE]);
  params.rank_temperature = static_cast<float const*>(inputs[RANK_TEMPERATURE]);
  params.seed = static_cast<int64_t const*>(inputs[SEED]);
  params.step = static_cast<int64_t const*>(inputs[STEP]);
}

void point_at_outputs(DlmUnmaskParams& params, void* const* outputs) {
  params.canvas = static_cast<int64_t*>(outputs[CANVAS]);
  params.committed = static_cast<int64_t*>(outputs[COMMITTED]);
  params.sampled_ids = static_cast<int64_t*>(outputs[SAMPLED_IDS]);
  params.confidence = static_cast<float*>(outputs[CONFIDENCE]);
  params.entropy = static_cast<float*>(outputs[ENTROPY]);
  params.top_ids = static_cast<int64_t*>(outputs[TOP_IDS]);
  params.top_logprobs = static_cast<float*>(outputs[TOP_LOGPROBS]);
}

}  // namespace

ParallelUnmaskPlugin::ParallelUnmaskPlugin(UnmaskAttributes attributes) noexcept : attributes_(attributes) {}

IPluginCapability* ParallelUnmaskPlugin::getCapabilityInterface(PluginCapabilityType type) noexcept {
  switch (type) {
    case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
    case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
    case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
  }
  return nullptr;
}

IPluginV3* ParallelUnmaskPlugin::clone() noexcept { return new (std::nothrow) ParallelUnmaskPlugin(attributes_); }

int32_t ParallelUnmaskPlugin::getNbOutputs() const noexcept { return OUTPUT_COUNT; }

int32_t ParallelUnmaskPlugin::getOutputDataTypes(DataType* outputTypes, int32_t nbOutputs, DataType const*,
                                                 int32_t nbInputs) const noexcept {
  if (!counts_fit(nbInputs, nbOutputs)) return REFUSED;
  for (int32_t i = 0; i < OUTPUT_COUNT; ++i) outputTypes[i] = OUTPUT_TYPES[i];
  return OK;
}

int32_t ParallelUnmaskPlugin::getOutputShapes(DimsExprs const* inputs, int32_t nbInputs, DimsExprs const*, int32_t, DimsExprs* outputs,
                                              int32_t nbOutputs, IExprBuilder& exprBuilder) noexcept {
  if (!counts_fit(nbInputs, nbOutputs)) return REFUSED;
  DimsExprs window{};  // [B, W]
  window.nbDims = 2;
  window.d[0] = inputs[TOKENS].d[0];
  window.d[1] = inputs[TOKENS].d[1];
  DimsExprs rows{};  // [B]
  rows.nbDims = 1;
  rows.d[0] = window.d[0];
  DimsExprs likeliest = window;  // [B, W, K]
  likeliest.nbDims = 3;
  likeliest.d[2] = exprBuilder.constant(attributes_.top_k);
  for (int32_t i = 0; i < OUTPUT_COUNT; ++i) outputs[i] = window;
  outputs[COMMITTED] = rows;
  outputs[TOP_IDS] = outputs[TOP_LOGPROBS] = likeliest;
  return OK;
}

bool ParallelUnmaskPlugin::supportsFormatCombination(int32_t pos, DynamicPluginTensorDesc const* inOut, int32_t nbInputs,
                                                     int32_t nbOutputs) noexcept {
  if (!counts_fit(nbInputs, nbOutputs)) return false;
  const PluginTensorDesc& tensor = inOut[pos].desc;
  if (tensor.format != TensorFormat::kLINEAR) return false;
  return pos < INPUT_COUNT ? takes_input(pos, tensor.type) : tensor.type == OUTPUT_TYPES[pos - INPUT_COUNT];
}

int32_t ParallelUnmaskPlugin::configurePlugin(DynamicPluginTensorDesc const* in, int32_t nbInputs, DynamicPluginTensorDesc const*,
                                              int32_t nbOutputs) noexcept {
  if (!counts_fit(nbInputs, nbOutputs)) return REFUSED;
  const int64_t vocab = in[LOGITS].max.d[2];
  if (vocab < attributes_.top_k) {
    log_error("top_k = %lld exceeds the vocabulary of %lld", static_cast<long long>(attributes_.top_k), static_cast<long long>(vocab));
    return REFUSED;
  }
  return OK;
}

size_t ParallelUnmaskPlugin::getWorkspaceSize(DynamicPluginTensorDesc const* inputs, int32_t, DynamicPluginTensorDesc const*,
                                              int32_t) const noexcept {
  return dlm_parallel_unmask_workspace_bytes(inputs[TOKENS].max.d[0], inputs[TOKENS].max.d[1]);
}

int32_t ParallelUnmaskPlugin::onShapeChange(PluginTensorDesc const*, int32_t nbInputs, PluginTensorDesc const*,
                                            int32_t nbOutputs) noexcept {
  return counts_fit(nbInputs, nbOutputs) ? OK : REFUSED;
}

int32_t ParallelUnmaskPlugin::enqueue(PluginTensorDesc const* inputDesc, PluginTensorDesc const*, void const* const* inputs,
                                      void* const* outputs, void* workspace, cudaStream_t stream) noexcept {
  DlmUnmaskParams params{};
  params.struct_size = sizeof params;
  params.rows = inputDesc[LOGITS].dims.d[0];
  params.window = inputDesc[LOGITS].dims.d[1];
  params.vocab = inputDesc[LOGITS].dims.d[2];
  params.allow_rows_count = inputDesc[ALLOW_TABLE].dims.d[0];
  params.mask_token_id = attributes_.mask_token_id;
  params.top_k = static_cast<int32_t>(attributes_.top_k);
  params.logits_type = logits_type(inputDesc[LOGITS].type);
  point_at_inputs(params, inputs);
  point_at_outputs(params, outputs);
  params.workspace = workspace;
  params.workspace_bytes = dlm_parallel_unmask_workspace_bytes(params.rows, params.window);  // at most what getWorkspaceSize asked for
  const int32_t status = dlm_parallel_unmask_launch(&params, stream);
  if (status != DLM_UNMASK_OK) log_error("%s", dlm_parallel_unmask_status_text(status));
  return status;
}

IPluginV3* ParallelUnmaskPlugin::attachToContext(IPluginResourceContext*) noexcept { return clone(); }

PluginFieldCollection const* ParallelUnmaskPlugin::getFieldsToSerialize() noexcept {
  fields_[0] = PluginField{"mask_token_id", &attributes_.mask_token_id, PluginFieldType::kINT64, 1};
  fields_[1] = PluginField{"top_k", &attributes_.top_k, PluginFieldType::kINT64, 1};
  field_collection_ = PluginFieldCollection{static_cast<int32_t>(fields_.size()), fields_.data()};
  return &field_collection_;
}

}  // namespace dlm
