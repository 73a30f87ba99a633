// One window position: what a thread gathers while it passes over the vocabulary, and what is made of it in the end.
#pragma once

#include "draws.h"
#include "ranking.h"
#include "softmax_mass.h"

namespace dlm {

// What a row calls confidence; any other number means minus the entropy.
constexpr int64_t PROBABILITY = 0, MARGIN = 1;

// How a position is asked about; the same for all of its tokens.
struct PositionQuestion {
  PositionKeys keys;
  float temperature;
  float rank_temperature;
  int64_t measure;
  int32_t vocab;

  DLM_HOST_DEVICE bool warm() const { return temperature > 0.0f; }
};

struct PositionAnswer {
  int32_t sampled;
  float confidence;
  float entropy;
  float score;  // what positions are ranked by
};

template <int K>
struct PositionTally {
  SoftmaxMass mass;
  TopList<K> top;
  Drawn drawn;  // only kept for a warm position; a cold one takes the head of `top`

  DLM_HOST_DEVICE void clear() {
    mass.clear();
    top.clear();
    drawn.clear();
  }

  // The logits (bias included) of the tokens first, first + 1, ..., of which the first `count` are real and the rest -inf. Callers go
  // upwards through the vocabulary.
  template <int N, int LANES>
  DLM_HOST_DEVICE void add(const PositionQuestion& question, const float (&z)[N], int32_t first, int count) {
    const float largest = largest_of<N, LANES>(z);
    mass.template add<N, LANES>(z, largest);
    if (top.admits(largest, first)) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        if (i < count) top.insert(z[i], first + i);
      }
    }
    if (question.warm()) draw<N, LANES>(question, z, first, count);
  }

 private:
  template <int N, int LANES>
  DLM_HOST_DEVICE static float largest_of(const float (&z)[N]) {
    float lanes[LANES];
#pragma unroll
    for (int lane = 0; lane < LANES; ++lane) lanes[lane] = -infinity();
#pragma unroll
    for (int start = 0; start < N; start += LANES) {
#pragma unroll
      for (int lane = 0; lane < LANES; ++lane) lanes[lane] = z[start + lane] > lanes[lane] ? z[start + lane] : lanes[lane];
    }
    float largest = lanes[0];
#pragma unroll
    for (int lane = 1; lane < LANES; ++lane) largest = lanes[lane] > largest ? lanes[lane] : largest;
    return largest;
  }

  template <int N, int LANES>
  DLM_HOST_DEVICE void draw(const PositionQuestion& question, const float (&z)[N], int32_t first, int count) {
    float scores[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float noise = negative_gumbel(question.keys, static_cast<uint32_t>(first) + static_cast<uint32_t>(i));
      scores[i] = z[i] - noise * question.temperature;
    }
    const float largest = largest_of<N, LANES>(scores);
    if (!ahead(largest, first, drawn.score, drawn.id)) return;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      if (i < count && ahead(scores[i], first + i, drawn.score, drawn.id)) drawn = {scores[i], z[i], first + i};
    }
  }
};

DLM_HOST_DEVICE float confidence_of(const PositionQuestion& question, const SoftmaxMass& mass, float sampled_logit, float second_logit) {
  if (question.measure != PROBABILITY && question.measure != MARGIN) {
    return mass.all_banned() ? -log_of_positive(static_cast<float>(question.vocab)) : -mass.entropy();
  }
  if (mass.all_banned()) return 0.0f;
  if (question.measure == MARGIN) return mass.probability(mass.peak) - mass.probability(second_logit);
  return mass.probability(sampled_logit);
}

// `first` and `second` are the two likeliest tokens.
DLM_HOST_DEVICE PositionAnswer answer(const PositionQuestion& question, const SoftmaxMass& mass, Candidate first, Candidate second,
                                      const Drawn& drawn) {
  PositionAnswer out;
  const Candidate chosen = question.warm() ? Candidate{drawn.logit, drawn.id} : first;
  out.sampled = mass.all_banned() || chosen.id == NO_TOKEN ? 0 : chosen.id;
  out.confidence = confidence_of(question, mass, chosen.value, second.value);
  out.entropy = mass.entropy();
  out.score = out.confidence;
  if (question.rank_temperature > 0.0f) {
    out.score -= question.rank_temperature * negative_gumbel(question.keys, static_cast<uint32_t>(question.vocab));
  }
  return out;
}

}  // namespace dlm
