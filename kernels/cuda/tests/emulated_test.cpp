// `dlm_unmask_emulated_test THREADS CASE.bin ...`: the CUDA kernels, threads and all, on a CPU, with blocks of THREADS threads.
// It shows that the kernels compute the right thing; it says nothing about a GPU's compiler or speed.
#include "emulated_gpu.h"

// The kernels come after the stand-ins that they are written against.
#include "case_file.h"
#include "kernels.cuh"

namespace {

unsigned threads = 0;

template <typename Logit>
void measure(const DlmUnmaskParams& p) {
  dlm::with_list_length(p.top_k, [&](auto length) {
    emulated::launch(static_cast<unsigned>(p.rows * p.window), threads,
                     [&] { dlm::measure_positions<Logit, decltype(length)::value>(p, dlm::scores_of(p)); });
  });
}

// The case's logits, on a 16-byte boundary or 4 bytes off it: aligned rows become others and the other way round.
struct Shifted {
  std::vector<char> bytes;
  size_t start;

  Shifted(const dlm_test::Case& c, size_t shift) : bytes(c.logits.size() + 32) {
    start = 16 - reinterpret_cast<uintptr_t>(bytes.data()) % 16 + shift;
    std::memcpy(data(), c.logits.data(), c.logits.size());
  }

  char* data() { return bytes.data() + start; }
};

int32_t run_shifted(const dlm_test::Case& c, dlm_test::Results& r, size_t shift) {
  Shifted logits(c, shift);
  std::vector<int64_t> workspace(static_cast<size_t>(c.positions_count()) + 1);
  const DlmUnmaskParams p = dlm_test::params_of(c, r, logits.data(), workspace.data());
  const int32_t status = dlm::check(&p);
  if (status != DLM_UNMASK_OK) return status;
  emulated::watched = logits.data();
  emulated::watched_bytes = c.logits_bytes();
  emulated::bytes_read = 0;
  if (p.logits_type == DLM_LOGITS_FLOAT32) measure<float>(p);
  if (p.logits_type == DLM_LOGITS_FLOAT16) measure<dlm::Half>(p);
  if (p.logits_type == DLM_LOGITS_BFLOAT16) measure<dlm::Bfloat>(p);
  if (emulated::bytes_read != c.logits_bytes()) throw std::runtime_error("the logits were not read exactly once");
  emulated::launch(static_cast<unsigned>(p.rows), dlm::ROW_THREADS, [&] { dlm::commit_rows(p, dlm::scores_of(p), dlm::ranks_of(p)); });
  return DLM_UNMASK_OK;
}

int32_t run_emulated(const dlm_test::Case& c, dlm_test::Results& r) {
  dlm_test::Results aligned = r;
  const int32_t status = run_shifted(c, aligned, 0);
  if (status != DLM_UNMASK_OK) return status;
  const int32_t second = run_shifted(c, r, 4);
  if (r.confidence != aligned.confidence || r.entropy != aligned.entropy) throw std::runtime_error("results depend on the address");
  return second;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 3) throw std::runtime_error("usage: dlm_unmask_emulated_test THREADS CASE.bin ...");
    threads = static_cast<unsigned>(std::stoul(argv[1]));
    return dlm_test::run_cases(argc - 1, argv + 1, run_emulated);
  } catch (const std::exception& error) {
    std::printf("FAIL %s\n", error.what());
    return 1;
  }
}
