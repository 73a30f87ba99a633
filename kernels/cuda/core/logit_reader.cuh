// A block's single pass over the logits of one position, every logit read once.
#pragma once

#include "position.h"

namespace dlm {

__device__ __forceinline__ float load_logit(const float* at) { return __ldg(at); }

template <typename Logit>
__device__ __forceinline__ float load_logit(const Logit* at) {
  return to_float(Logit{__ldg(reinterpret_cast<const unsigned short*>(at))});
}

// Tokens go to threads in groups of 16 bytes, counted from token 0 and not from an address: which thread adds up what must not depend on
// where a row happens to lie, or two positions that say the same would differ in the last bit, and their tie would not be one.
template <typename Logit>
struct LogitReader {
  static constexpr int WIDTH = 16 / sizeof(Logit);

  const Logit* logits;
  const float* bias;
  int32_t vocab;

  // Logits of the group of tokens from `first` on; -inf beyond the vocabulary.
  __device__ void load(int32_t first, int count, bool aligned, float (&z)[WIDTH]) const {
    if (aligned && count == WIDTH) {
      union {
        uint4 words;
        Logit logit[WIDTH];
      } loaded;
      loaded.words = __ldcs(reinterpret_cast<const uint4*>(logits + first));  // streaming: nobody reads them again
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) z[i] = to_float(loaded.logit[i]);
    } else {
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) z[i] = i < count ? load_logit(logits + first + i) : -infinity();
    }
  }

  __device__ void add_bias(int32_t first, int count, bool aligned, float (&z)[WIDTH]) const {
    if (aligned && count == WIDTH) {
#pragma unroll
      for (int i = 0; i < WIDTH; i += 4) {
        const float4 four = __ldg(reinterpret_cast<const float4*>(bias + first + i));
        z[i] = biased(z[i], four.x);
        z[i + 1] = biased(z[i + 1], four.y);
        z[i + 2] = biased(z[i + 2], four.z);
        z[i + 3] = biased(z[i + 3], four.w);
      }
    } else {
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) z[i] = i < count ? biased(z[i], __ldg(bias + first + i)) : z[i];
    }
  }

  // What falls to this thread, upwards through the vocabulary.
  template <int K>
  __device__ void read(PositionTally<K>& tally, const PositionQuestion& question) const {
    const bool logits_aligned = reinterpret_cast<uintptr_t>(logits) % 16 == 0;
    const bool bias_aligned = reinterpret_cast<uintptr_t>(bias) % 16 == 0;
    const auto stride = static_cast<int64_t>(blockDim.x) * WIDTH;
    for (int64_t start = static_cast<int64_t>(threadIdx.x) * WIDTH; start < vocab; start += stride) {
      const auto first = static_cast<int32_t>(start);
      const int count = vocab - first < WIDTH ? vocab - first : WIDTH;
      float z[WIDTH];
      load(first, count, logits_aligned, z);
      add_bias(first, count, bias_aligned, z);
      tally.template add<WIDTH, 1>(question, z, first, count);
    }
  }
};

}  // namespace dlm
