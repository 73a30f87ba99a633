#include "unmask_kernel.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <new>

#include "dlm_parallel_unmask.h"
#include "host.h"
#include "parameters.h"

namespace dlm {
namespace {

constexpr int64_t TOKENS_PER_TASK = 32768;  // logits that are worth handing to another thread

struct Failure {
  OrtStatusPtr status;
};

// Inputs and outputs of one call. Throws Failure, which compute() catches.
class Tensors {
 public:
  Tensors(const OrtApi* api, OrtKernelContext* context) : api_(api), context_(context) {}

  void check(OrtStatusPtr status) const {
    if (status != nullptr) throw Failure{status};
  }

  void require(bool good, const char* message) const {
    if (!good) throw Failure{api_->CreateStatus(ORT_INVALID_ARGUMENT, message)};
  }

  // Fills `dims`; the tensor must have `rank` of them.
  const void* input(size_t index, size_t rank, int64_t* dims) const {
    const OrtValue* value = nullptr;
    check(api_->KernelContext_GetInput(context_, index, &value));
    OrtTensorTypeAndShapeInfo* found = nullptr;
    check(api_->GetTensorTypeAndShape(value, &found));
    const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> info(found, api_->ReleaseTensorTypeAndShapeInfo);
    size_t count = 0;
    check(api_->GetDimensionsCount(found, &count));
    require(count == rank, "dlm::ParallelUnmask: an input has the wrong number of dimensions; export the model anew");
    check(api_->GetDimensions(found, dims, rank));
    void* data = nullptr;
    check(api_->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
    return data;
  }

  template <typename T>
  const T* of_rows(size_t index, int64_t rows) const {
    int64_t dims[1];
    const void* data = input(index, 1, dims);
    require(dims[0] == rows, "dlm::ParallelUnmask: an input of one number per row has another number of rows than the logits");
    return static_cast<const T*>(data);
  }

  template <typename T>
  const T* of_positions(size_t index, int64_t rows, int64_t window) const {
    int64_t dims[2];
    const void* data = input(index, 2, dims);
    require(dims[0] == rows && dims[1] == window, "dlm::ParallelUnmask: an input of one number per position has another shape");
    return static_cast<const T*>(data);
  }

  template <typename T>
  T* output(size_t index, std::initializer_list<int64_t> dims) const {
    OrtValue* value = nullptr;
    check(api_->KernelContext_GetOutput(context_, index, dims.begin(), dims.size(), &value));
    void* data = nullptr;
    check(api_->GetTensorMutableData(value, &data));
    return static_cast<T*>(data);
  }

 private:
  const OrtApi* api_;
  OrtKernelContext* context_;
};

void take_inputs(const Tensors& tensors, DlmUnmaskParams& p) {
  int64_t dims[3];
  p.logits = tensors.input(0, 3, dims);
  p.rows = dims[0];
  p.window = dims[1];
  p.vocab = dims[2];
  p.tokens = tensors.of_positions<int64_t>(1, p.rows, p.window);
  p.live = tensors.of_positions<uint8_t>(2, p.rows, p.window);
  p.positions = tensors.of_positions<int64_t>(3, p.rows, p.window);
  p.allow_rows = tensors.of_positions<int64_t>(4, p.rows, p.window);
  p.allow_table = static_cast<const float*>(tensors.input(5, 2, dims));
  p.allow_rows_count = dims[0];
  tensors.require(dims[1] == p.vocab, "dlm::ParallelUnmask: allow_table is not as wide as the logits");
  p.quota = tensors.of_rows<int64_t>(6, p.rows);
  p.threshold = tensors.of_rows<float>(7, p.rows);
  p.factor = tensors.of_rows<float>(8, p.rows);
  p.measure = tensors.of_rows<int64_t>(9, p.rows);
  p.temperature = tensors.of_rows<float>(10, p.rows);
  p.rank_temperature = tensors.of_rows<float>(11, p.rows);
  p.seed = tensors.of_rows<int64_t>(12, p.rows);
  p.step = tensors.of_rows<int64_t>(13, p.rows);
}

void take_outputs(const Tensors& tensors, DlmUnmaskParams& p) {
  p.canvas = tensors.output<int64_t>(0, {p.rows, p.window});
  p.committed = tensors.output<int64_t>(1, {p.rows});
  p.sampled_ids = tensors.output<int64_t>(2, {p.rows, p.window});
  p.confidence = tensors.output<float>(3, {p.rows, p.window});
  p.entropy = tensors.output<float>(4, {p.rows, p.window});
  p.top_ids = tensors.output<int64_t>(5, {p.rows, p.window, p.top_k});
  p.top_logprobs = tensors.output<float>(6, {p.rows, p.window, p.top_k});
}

// The measuring, cut into runs of positions for ONNX Runtime's threads.
struct SharedWork {
  const DlmUnmaskParams& params;
  int64_t per_task;
  std::atomic<int32_t> status{DLM_UNMASK_OK};

  static void run(void* self, size_t task) {
    auto& work = *static_cast<SharedWork*>(self);
    const int64_t begin = static_cast<int64_t>(task) * work.per_task;
    const int64_t end = std::min(begin + work.per_task, work.params.rows * work.params.window);
    const int32_t status = measure_positions(work.params, begin, end);
    if (status != DLM_UNMASK_OK) work.status = status;
  }
};

int32_t unmask(const OrtApi* api, const OrtKernelContext* context, const DlmUnmaskParams& p, const Tensors& tensors) {
  const int32_t status = dlm::check(&p);
  if (status != DLM_UNMASK_OK) return status;
  SharedWork work{p, std::max<int64_t>(1, TOKENS_PER_TASK / p.vocab)};
  const int64_t tasks = (p.rows * p.window + work.per_task - 1) / work.per_task;
  if (tasks > 0) tensors.check(api->KernelContext_ParallelFor(context, SharedWork::run, static_cast<size_t>(tasks), 0, &work));
  if (work.status != DLM_UNMASK_OK) return work.status;
  for (int64_t row = 0; row < p.rows; ++row) commit_row(p, row);
  return DLM_UNMASK_OK;
}

}  // namespace

OrtStatusPtr UnmaskKernel::create(const OrtApi* api, const OrtKernelInfo* info, int32_t logits_type, void** kernel) {
  *kernel = nullptr;
  int64_t mask_token_id = 0, top_k = 0;
  OrtStatusPtr failed = api->KernelInfoGetAttribute_int64(info, "mask_token_id", &mask_token_id);
  if (failed == nullptr) failed = api->KernelInfoGetAttribute_int64(info, "top_k", &top_k);
  if (failed != nullptr) return failed;
  if (top_k < 1 || top_k > DLM_UNMASK_MAX_TOP_K) {
    return api->CreateStatus(ORT_INVALID_ARGUMENT, "dlm::ParallelUnmask: top_k is not between 1 and 32; run without the custom op library");
  }
  *kernel = new (std::nothrow) UnmaskKernel(api, mask_token_id, top_k, logits_type);
  return *kernel == nullptr ? api->CreateStatus(ORT_FAIL, "dlm::ParallelUnmask: out of memory") : nullptr;
}

OrtStatusPtr UnmaskKernel::compute(OrtKernelContext* context) const try {
  const Tensors tensors(api_, context);
  DlmUnmaskParams params{};
  params.struct_size = sizeof params;
  params.mask_token_id = mask_token_id_;
  params.top_k = static_cast<int32_t>(top_k_);
  params.logits_type = logits_type_;
  take_inputs(tensors, params);
  take_outputs(tensors, params);
  params.workspace_bytes = workspace_bytes(params.rows, params.window);
  const std::unique_ptr<int64_t[]> workspace(new int64_t[params.workspace_bytes / sizeof(int64_t) + 1]);
  params.workspace = workspace.get();
  const int32_t status = unmask(api_, context, params, tensors);
  return status == DLM_UNMASK_OK ? nullptr : api_->CreateStatus(ORT_INVALID_ARGUMENT, dlm_parallel_unmask_status_text(status));
} catch (const Failure& failure) {
  return failure.status;
} catch (const std::bad_alloc&) {
  return api_->CreateStatus(ORT_FAIL, "dlm::ParallelUnmask: out of memory");
}

}  // namespace dlm
