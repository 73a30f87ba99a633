// The host twin's pass over the vocabulary. Built once for every level of SIMD instructions that the library offers (host_levels.h);
// nothing here may be shared between those builds, hence the anonymous namespace and no standard library.
#include "host_levels.h"
#include "parameters.h"

#if !defined(DLM_HOST_LEVEL)
#define DLM_HOST_LEVEL baseline
#endif

namespace dlm {
namespace {

constexpr int CHUNK = 64;  // logits looked at together
constexpr int LANES = 16;

template <typename Logit>
void load(const Logit* logits, const float* bias, int count, float (&z)[CHUNK]) {
  if (count == CHUNK) {
    for (int i = 0; i < CHUNK; ++i) z[i] = biased(to_float(logits[i]), bias[i]);
    return;
  }
  for (int i = 0; i < CHUNK; ++i) z[i] = i < count ? biased(to_float(logits[i]), bias[i]) : -infinity();
}

template <typename Logit, int K>
void measure(const DlmUnmaskParams& params, int64_t position) {
  const PositionQuestion question = question_of(params, position / params.window, position);
  const Logit* logits = static_cast<const Logit*>(params.logits) + position * params.vocab;
  const float* bias = params.allow_table + allow_row_of(params, position) * params.vocab;
  PositionTally<K> tally;
  tally.clear();
  for (int64_t first = 0; first < params.vocab; first += CHUNK) {
    float z[CHUNK];
    const int count = static_cast<int>(params.vocab - first < CHUNK ? params.vocab - first : CHUNK);
    load(logits + first, bias + first, count, z);
    tally.template add<CHUNK, LANES>(question, z, static_cast<int32_t>(first), count);
  }
  const Candidate second{tally.top.value[1], tally.top.id[1]};
  store(params, scores_of(params), position, answer(question, tally.mass, tally.top.head(), second, tally.drawn));
  for (int place = 0; place < K && place < params.top_k; ++place) {
    store_top(params, position, place, {tally.top.value[place], tally.top.id[place]}, tally.mass);
  }
}

template <typename Logit>
void measure_all(const DlmUnmaskParams& params, int64_t begin, int64_t end) {
  with_list_length(params.top_k, [&](auto length) {
    for (int64_t position = begin; position < end; ++position) measure<Logit, decltype(length)::value>(params, position);
  });
}

}  // namespace

namespace DLM_HOST_LEVEL {

void measure_positions(const DlmUnmaskParams& params, int64_t begin, int64_t end) {
  if (params.logits_type == DLM_LOGITS_FLOAT32) measure_all<float>(params, begin, end);
  if (params.logits_type == DLM_LOGITS_FLOAT16) measure_all<Half>(params, begin, end);
  if (params.logits_type == DLM_LOGITS_BFLOAT16) measure_all<Bfloat>(params, begin, end);
}

}  // namespace DLM_HOST_LEVEL
}  // namespace dlm
