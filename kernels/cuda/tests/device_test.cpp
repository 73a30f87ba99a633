// `dlm_unmask_device_test CASE.bin ...`: the CUDA kernels against the shared test vectors, each case twice, because the second run must
// give the same bits. Exit code 77, "skipped", where there is no GPU.
#include <cuda_runtime_api.h>

#include <memory>

#include "case_file.h"

namespace {

void require(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

// Device memory of one case, freed together.
class Arena {
 public:
  ~Arena() {
    for (void* pointer : owned_) cudaFree(pointer);
  }

  void* bytes(size_t size) {
    void* pointer = nullptr;
    require(cudaMalloc(&pointer, size + 1));
    owned_.push_back(pointer);
    return pointer;
  }

  template <typename T>
  const T* copy(const std::vector<T>& values) {
    void* pointer = bytes(values.size() * sizeof(T));
    require(cudaMemcpy(pointer, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    return static_cast<const T*>(pointer);
  }

  template <typename T>
  T* room(const std::vector<T>& values) {
    return static_cast<T*>(bytes(values.size() * sizeof(T)));
  }

 private:
  std::vector<void*> owned_;
};

template <typename T>
void fetch(std::vector<T>& values, const T* pointer) {
  require(cudaMemcpy(values.data(), pointer, values.size() * sizeof(T), cudaMemcpyDeviceToHost));
}

DlmUnmaskParams on_device(const dlm_test::Case& c, dlm_test::Results& r, Arena& arena) {
  DlmUnmaskParams p = dlm_test::sizes_of(c);
  p.logits = arena.copy(c.logits);
  p.tokens = arena.copy(c.tokens);
  p.live = arena.copy(c.live);
  p.positions = arena.copy(c.positions);
  p.allow_rows = arena.copy(c.allow_rows);
  p.allow_table = arena.copy(c.allow_table);
  p.quota = arena.copy(c.quota);
  p.threshold = arena.copy(c.threshold);
  p.factor = arena.copy(c.factor);
  p.measure = arena.copy(c.measure);
  p.temperature = arena.copy(c.temperature);
  p.rank_temperature = arena.copy(c.rank_temperature);
  p.seed = arena.copy(c.seed);
  p.step = arena.copy(c.step);
  p.canvas = arena.room(r.canvas);
  p.committed = arena.room(r.committed);
  p.sampled_ids = arena.room(r.sampled_ids);
  p.confidence = arena.room(r.confidence);
  p.entropy = arena.room(r.entropy);
  p.top_ids = arena.room(r.top_ids);
  p.top_logprobs = arena.room(r.top_logprobs);
  p.workspace = arena.bytes(p.workspace_bytes);
  return p;
}

int32_t run_once(const DlmUnmaskParams& p, dlm_test::Results& r) {
  const int32_t status = dlm_parallel_unmask_launch(&p, nullptr);
  if (status != DLM_UNMASK_OK) return status;
  require(cudaDeviceSynchronize());
  fetch(r.canvas, p.canvas);
  fetch(r.committed, p.committed);
  fetch(r.sampled_ids, p.sampled_ids);
  fetch(r.confidence, p.confidence);
  fetch(r.entropy, p.entropy);
  fetch(r.top_ids, p.top_ids);
  fetch(r.top_logprobs, p.top_logprobs);
  return DLM_UNMASK_OK;
}

template <typename T>
bool same_bits(const std::vector<T>& one, const std::vector<T>& other) {
  return std::memcmp(one.data(), other.data(), one.size() * sizeof(T)) == 0;
}

int32_t run_device(const dlm_test::Case& c, dlm_test::Results& r) {
  Arena arena;
  const DlmUnmaskParams p = on_device(c, r, arena);
  dlm_test::Results again = r;
  const int32_t status = run_once(p, again);
  if (status != DLM_UNMASK_OK) return status;
  const int32_t second = run_once(p, r);
  if (!same_bits(r.confidence, again.confidence) || !same_bits(r.entropy, again.entropy) || !same_bits(r.canvas, again.canvas)) {
    throw std::runtime_error("two runs of one case differ");
  }
  return second;
}

}  // namespace

int main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("no CUDA device; skipped\n");
    return 77;
  }
  try {
    return dlm_test::run_cases(argc, argv, run_device);
  } catch (const std::exception& error) {
    std::printf("FAIL %s\n", error.what());
    return 1;
  }
}
