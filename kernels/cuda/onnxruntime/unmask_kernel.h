// dlm::ParallelUnmask as a CPU kernel of ONNX Runtime, on its C API alone.
#pragma once

#include <onnxruntime_c_api.h>

#include <cstdint>

namespace dlm {

// The oldest ONNX Runtime served: 1.18, where the last members that OrtCustomOp has today were added.
constexpr uint32_t ORT_API_OF_OP = 18;

constexpr size_t INPUT_COUNT = 14, OUTPUT_COUNT = 7;

// One node of a session: its attributes.
class UnmaskKernel {
 public:
  // Returns null and a status of the API if an attribute is missing or out of range.
  static OrtStatusPtr create(const OrtApi* api, const OrtKernelInfo* info, int32_t logits_type, void** kernel);

  OrtStatusPtr compute(OrtKernelContext* context) const;

 private:
  UnmaskKernel(const OrtApi* api, int64_t mask_token_id, int64_t top_k, int32_t logits_type)
      : api_(api), mask_token_id_(mask_token_id), top_k_(top_k), logits_type_(logits_type) {}

  const OrtApi* api_;
  int64_t mask_token_id_;
  int64_t top_k_;
  int32_t logits_type_;
};

}  // namespace dlm
