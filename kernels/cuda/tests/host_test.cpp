// `dlm_unmask_host_test CASE.bin ...`: the host twin against the shared test vectors, and its refusals. No GPU.
#include "case_file.h"

namespace {

int32_t run_host(const dlm_test::Case& c, dlm_test::Results& r) {
  std::vector<int64_t> workspace(static_cast<size_t>(c.positions_count()) + 1);
  const DlmUnmaskParams p = dlm_test::params_of(c, r, c.logits.data(), workspace.data());
  return dlm_parallel_unmask_host(&p);
}

int refused(const char* what, const DlmUnmaskParams& params, int32_t expected) {
  const int32_t status = dlm_parallel_unmask_host(&params);
  if (status == expected) return 0;
  std::printf("FAIL %s: status %d (%s), expected %d\n", what, status, dlm_parallel_unmask_status_text(status), expected);
  return 1;
}

int check_refusals() {
  DlmUnmaskParams good = {};
  good.struct_size = sizeof good;
  good.vocab = good.allow_rows_count = 4;
  good.top_k = 2;
  int failed = refused("nothing to do", good, DLM_UNMASK_OK);
  DlmUnmaskParams bad = good;
  bad.struct_size = 1;
  failed += refused("struct_size", bad, DLM_UNMASK_BAD_STRUCT_SIZE);
  bad = good;
  bad.vocab = 0;
  failed += refused("vocab", bad, DLM_UNMASK_BAD_SHAPE);
  bad = good;
  bad.top_k = 5;
  failed += refused("top_k above the vocabulary", bad, DLM_UNMASK_BAD_TOP_K);
  bad = good;
  bad.logits_type = 3;
  failed += refused("logits_type", bad, DLM_UNMASK_BAD_LOGITS_TYPE);
  bad = good;
  bad.rows = 1;
  failed += refused("null pointers", bad, DLM_UNMASK_NULL_POINTER);
  return failed;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int refusals = check_refusals();
    if (argc == 1) return refusals;
    return dlm_test::run_cases(argc, argv, run_host) | refusals;
  } catch (const std::exception& error) {
    std::printf("FAIL %s\n", error.what());
    return 1;
  }
}
