// The K likeliest tokens and the drawn one. Every comparison is a total order (higher value first, then lower id), so that the outcome does
// not depend on who looked at which token first.
#pragma once

#include "floats.h"

namespace dlm {

constexpr int32_t NO_TOKEN = 2147483647;

struct Candidate {
  float value;
  int32_t id;
};

DLM_HOST_DEVICE bool ahead(float value, int32_t id, float other_value, int32_t other_id) {
  return value > other_value || (value == other_value && id < other_id);
}

DLM_HOST_DEVICE bool ahead(Candidate one, Candidate other) { return ahead(one.value, one.id, other.value, other.id); }

// The best K so far, best first; unfilled places are -inf and NO_TOKEN. K is a compile-time number so that a GPU thread can keep the list
// in registers: every index below is known after unrolling.
template <int K>
struct TopList {
  float value[K];
  int32_t id[K];

  DLM_HOST_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < K; ++i) {
      value[i] = -infinity();
      id[i] = NO_TOKEN;
    }
  }

  DLM_HOST_DEVICE bool admits(float z, int32_t token) const { return ahead(z, token, value[K - 1], id[K - 1]); }

  DLM_HOST_DEVICE void insert(float z, int32_t token) {
    if (!admits(z, token)) return;
    value[K - 1] = z;
    id[K - 1] = token;
#pragma unroll
    for (int i = K - 1; i > 0; --i) {
      if (!ahead(value[i], id[i], value[i - 1], id[i - 1])) return;
      const float lower_value = value[i - 1];
      const int32_t lower_id = id[i - 1];
      value[i - 1] = value[i];
      id[i - 1] = id[i];
      value[i] = lower_value;
      id[i] = lower_id;
    }
  }

  DLM_HOST_DEVICE Candidate head() const { return {value[0], id[0]}; }

  DLM_HOST_DEVICE void drop_head() {
#pragma unroll
    for (int i = 0; i + 1 < K; ++i) {
      value[i] = value[i + 1];
      id[i] = id[i + 1];
    }
    value[K - 1] = -infinity();
    id[K - 1] = NO_TOKEN;
  }
};

// The token whose perturbed logit is highest, with the logit itself, which would otherwise have to be read again for its probability.
struct Drawn {
  float score;
  float logit;
  int32_t id;

  DLM_HOST_DEVICE void clear() {
    score = -infinity();
    logit = -infinity();
    id = NO_TOKEN;
  }

  DLM_HOST_DEVICE void merge(const Drawn& other) {
    if (ahead(other.score, other.id, score, id)) *this = other;
  }
};

// Calls `use` with the length of a list, as a compile-time number, that holds `top_k` <= 32 tokens and the two that the margin needs. Few
// lengths, because each is a kernel of its own per type of logits.
template <int K>
struct ListLength {
  static constexpr int value = K;
};

template <typename Use>
auto with_list_length(int32_t top_k, Use&& use) {
  if (top_k <= 4) return use(ListLength<4>{});
  if (top_k <= 8) return use(ListLength<8>{});
  return use(ListLength<32>{});
}

}  // namespace dlm
