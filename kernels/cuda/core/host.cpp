#include "host.h"

#include <algorithm>

#include "commit.h"
#include "host_levels.h"
#include "parameters.h"

namespace dlm {
namespace {

MeasurePositions* best_level() {
#if defined(DLM_HOST_X86_LEVELS)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return avx512::measure_positions;
  }
  if (__builtin_cpu_supports("avx2")) return avx2::measure_positions;
#endif
  return baseline::measure_positions;
}

int64_t rank_of(const float* scores, int64_t window, int64_t place) {
  int64_t rank = 0;
  for (int64_t other = 0; other < window; ++other) rank += outranks(scores[other], other, scores[place], place);
  return rank;
}

}  // namespace

int32_t measure_positions(const DlmUnmaskParams& params, int64_t begin, int64_t end) {
  for (int64_t position = begin; position < end; ++position) {
    const int64_t row = allow_row_of(params, position);
    if (row < 0 || row >= params.allow_rows_count) return DLM_UNMASK_BAD_ALLOW_ROW;
  }
  static MeasurePositions* const measure = best_level();
  measure(params, begin, end);
  return DLM_UNMASK_OK;
}

void commit_row(const DlmUnmaskParams& params, int64_t row) {
  const int64_t start = row * params.window, end = start + params.window;
  int32_t* ranks = ranks_of(params);
  CommitRule rule{params.quota[row], params.threshold[row], params.factor[row], params.window};
  for (int64_t i = start; i < end; ++i) {
    if (!eligible(params, i)) continue;
    ranks[i] = static_cast<int32_t>(rank_of(scores_of(params) + start, params.window, i - start));
    if (factor_fails(rule.factor, params.confidence[i], ranks[i])) rule.reach = std::min<int64_t>(rule.reach, ranks[i]);
  }
  int64_t committed = 0;
  for (int64_t i = start; i < end; ++i) {
    const bool commit = eligible(params, i) && rule.commits(params.confidence[i], ranks[i]);
    params.canvas[i] = commit ? params.sampled_ids[i] : params.tokens[i];
    committed += commit;
  }
  params.committed[row] = committed;
}

}  // namespace dlm

extern "C" int32_t dlm_parallel_unmask_host(const DlmUnmaskParams* params) {
  const int32_t status = dlm::check(params);
  if (status != DLM_UNMASK_OK) return status;
  const int32_t measured = dlm::measure_positions(*params, 0, params->rows * params->window);
  if (measured != DLM_UNMASK_OK) return measured;
  for (int64_t row = 0; row < params->rows; ++row) dlm::commit_row(*params, row);
  return DLM_UNMASK_OK;
}
