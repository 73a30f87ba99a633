// Launches of the kernels of dlm::ParallelUnmask.
#include <cuda_runtime.h>

#include "kernels.cuh"

namespace dlm {
namespace {

// Enough threads for the memory system, few enough that each has several loads to make.
int threads_for(int64_t vocab) {
  if (vocab <= 2048) return 128;
  return vocab <= 16384 ? 256 : MOST_THREADS;
}

template <typename Logit>
void launch_measure(const DlmUnmaskParams& params, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(params.rows * params.window);
  with_list_length(params.top_k, [&](auto length) {
    measure_positions<Logit, decltype(length)::value><<<blocks, threads_for(params.vocab), 0, stream>>>(params, scores_of(params));
  });
}

void launch_measure(const DlmUnmaskParams& params, cudaStream_t stream) {
  switch (params.logits_type) {
    case DLM_LOGITS_FLOAT16: return launch_measure<Half>(params, stream);
    case DLM_LOGITS_BFLOAT16: return launch_measure<Bfloat>(params, stream);
    default: return launch_measure<float>(params, stream);
  }
}

}  // namespace
}  // namespace dlm

extern "C" int32_t dlm_parallel_unmask_launch(const DlmUnmaskParams* params, cudaStream_t stream) {
  const int32_t status = dlm::check(params);
  if (status != DLM_UNMASK_OK) return status;
  if (params->rows == 0) return DLM_UNMASK_OK;
  if (params->window > 0) {
    dlm::launch_measure(*params, stream);
    if (cudaPeekAtLastError() != cudaSuccess) return DLM_UNMASK_CUDA_ERROR;
  }
  const auto rows = static_cast<unsigned>(params->rows);
  dlm::commit_rows<<<rows, dlm::ROW_THREADS, 0, stream>>>(*params, dlm::scores_of(*params), dlm::ranks_of(*params));
  return cudaPeekAtLastError() == cudaSuccess ? DLM_UNMASK_OK : DLM_UNMASK_CUDA_ERROR;
}
