// softmax and its entropy in one pass: sums of exp(z - peak) and of (z - peak) exp(z - peak), rescaled when the peak rises.
#pragma once

#include "floats.h"

namespace dlm {

constexpr float BANNED_BELOW = -1e29f;  // a position whose likeliest token is below has nothing allowed
constexpr float BIAS_FLOOR = -1e30f;

template <int N, int LANES>
DLM_HOST_DEVICE float sum_of(const float (&terms)[N]) {
  float lanes[LANES];
#pragma unroll
  for (int lane = 0; lane < LANES; ++lane) lanes[lane] = terms[lane];
#pragma unroll
  for (int start = LANES; start < N; start += LANES) {
#pragma unroll
    for (int lane = 0; lane < LANES; ++lane) lanes[lane] += terms[start + lane];
  }
#pragma unroll
  for (int width = LANES / 2; width > 0; width /= 2) {
#pragma unroll
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

struct SoftmaxMass {
  float peak;    // largest z so far, LOWEST_FLOAT if none: finite, so that z - peak is never inf - inf
  float total;   // sum of e^(z - peak)
  float moment;  // sum of (z - peak) e^(z - peak)

  DLM_HOST_DEVICE void clear() {
    peak = LOWEST_FLOAT;
    total = 0.0f;
    moment = 0.0f;
  }

  DLM_HOST_DEVICE void raise(float higher) {
    const float difference = peak - higher;
    const float drop = difference >= EXP_FLOOR ? difference : EXP_FLOOR;
    const float scale = exp_of_negative(difference);
    moment = (moment + total * drop) * scale;
    total = total * scale;
    peak = higher;
  }

  DLM_HOST_DEVICE void merge(SoftmaxMass other) {
    if (other.peak > peak) raise(other.peak);
    if (peak > other.peak) other.raise(peak);
    total += other.total;
    moment += other.moment;
  }

  // N logits at once, of which `largest` is the largest. LANES partial sums let a host compiler use SIMD without reordering on its own.
  template <int N, int LANES>
  DLM_HOST_DEVICE void add(const float (&z)[N], float largest) {
    if (largest > peak) raise(largest);
    float weights[N], terms[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float difference = z[i] - peak;
      const float kept = difference >= EXP_FLOOR ? difference : EXP_FLOOR;  // -inf and NaN weigh nothing
      weights[i] = exp_of_negative(difference);
      terms[i] = kept * weights[i];
    }
    total += sum_of<N, LANES>(weights);
    moment += sum_of<N, LANES>(terms);
  }

  DLM_HOST_DEVICE bool all_banned() const { return !(peak >= BANNED_BELOW); }

  DLM_HOST_DEVICE float probability(float z) const { return exp_of_negative(z - peak) / total; }

  DLM_HOST_DEVICE float log_probability(float z) const {
    return z >= BANNED_BELOW ? (z - peak) - log_of_positive(total) : -infinity();
  }

  // -sum p log p, at least 0.
  DLM_HOST_DEVICE float entropy() const {
    if (all_banned()) return 0.0f;
    const float h = log_of_positive(total) - moment / total;
    return h > 0.0f ? h : 0.0f;
  }
};

DLM_HOST_DEVICE float biased(float logit, float bias) { return logit + (bias >= BIAS_FLOOR ? bias : BIAS_FLOOR); }

}  // namespace dlm
