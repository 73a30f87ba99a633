// `RegisterCustomOps`: what SessionOptions.register_custom_ops_library calls. A registered op takes the place of the function body.
#include "dlm_parallel_unmask.h"
#include "unmask_kernel.h"

namespace dlm {
namespace {

constexpr ONNXTensorElementDataType FLOAT = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, INT64 = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;

constexpr ONNXTensorElementDataType INPUTS[INPUT_COUNT] = {
    FLOAT /* logits: see UnmaskOp */, INT64, ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, INT64, INT64, FLOAT, INT64, FLOAT, FLOAT, INT64, FLOAT,
    FLOAT, INT64, INT64,
};

constexpr ONNXTensorElementDataType OUTPUTS[OUTPUT_COUNT] = {INT64, INT64, INT64, FLOAT, FLOAT, INT64, FLOAT};

// One op per type of logits, all by the same name; ONNX Runtime picks by the types of a node's inputs.
struct UnmaskOp : OrtCustomOp {
  ONNXTensorElementDataType logits;
  int32_t logits_type;

  UnmaskOp(ONNXTensorElementDataType element, int32_t type) : OrtCustomOp{}, logits(element), logits_type(type) {
    version = ORT_API_OF_OP;
    GetName = [](const OrtCustomOp*) { return "ParallelUnmask"; };
    GetExecutionProviderType = [](const OrtCustomOp*) { return "CPUExecutionProvider"; };
    GetInputTypeCount = [](const OrtCustomOp*) { return INPUT_COUNT; };
    GetInputType = [](const OrtCustomOp* op, size_t i) { return i == 0 ? static_cast<const UnmaskOp*>(op)->logits : INPUTS[i]; };
    GetOutputTypeCount = [](const OrtCustomOp*) { return OUTPUT_COUNT; };
    GetOutputType = [](const OrtCustomOp*, size_t i) { return OUTPUTS[i]; };
    GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
    GetOutputCharacteristic = GetInputCharacteristic;
    GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
    GetStartVersion = [](const OrtCustomOp*) { return 1; };
    GetEndVersion = [](const OrtCustomOp*) { return 2147483647; };
    CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** kernel) {
      return UnmaskKernel::create(api, info, static_cast<const UnmaskOp*>(op)->logits_type, kernel);
    };
    KernelComputeV2 = [](void* kernel, OrtKernelContext* context) { return static_cast<UnmaskKernel*>(kernel)->compute(context); };
    KernelDestroy = [](void* kernel) { delete static_cast<UnmaskKernel*>(kernel); };
  }
};

}  // namespace
}  // namespace dlm

extern "C" DLM_UNMASK_API OrtStatusPtr ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(dlm::ORT_API_OF_OP);
  if (api == nullptr) return nullptr;  // older than 1.18: nothing is registered, and the function body runs
  static const dlm::UnmaskOp ops[] = {{ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, DLM_LOGITS_FLOAT32},
                                      {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, DLM_LOGITS_FLOAT16},
                                      {ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, DLM_LOGITS_BFLOAT16}};
  // One domain for the process, as sessions keep pointing to it.
  static OrtCustomOpDomain* domain = nullptr;
  static const OrtStatusPtr failed = [&]() -> OrtStatusPtr {
    OrtStatusPtr status = api->CreateCustomOpDomain("dlm", &domain);
    for (const dlm::UnmaskOp& op : ops) {
      if (status == nullptr) status = api->CustomOpDomain_Add(domain, &op);
    }
    return status;
  }();
  return failed != nullptr ? api->CreateStatus(ORT_FAIL, api->GetErrorMessage(failed)) : api->AddCustomOpDomain(options, domain);
}
