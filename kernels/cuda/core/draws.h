// The counter-based random numbers of dlm_kernels/unmask/draws.py, bit for bit: (seed, step, position, token) decide every draw.
#pragma once

#include "floats.h"

namespace dlm {

constexpr uint32_t PRIME = 2147483647u;  // 2^31 - 1, so that a remainder is shifts and additions
constexpr uint32_t SALT_1 = 1013904223u;
constexpr uint32_t SALT_2 = 1597334677u;

// x mod p for x <= 2p.
DLM_HOST_DEVICE uint32_t wrap(uint32_t x) { return x >= PRIME ? x - PRIME : x; }

// a * b mod p for a, b < p.
DLM_HOST_DEVICE uint32_t multiply(uint32_t a, uint32_t b) {
  const uint64_t product = static_cast<uint64_t>(a) * b;
  return wrap(static_cast<uint32_t>(product & PRIME) + static_cast<uint32_t>(product >> 31));
}

// x^5 mod p for x < p.
DLM_HOST_DEVICE uint32_t fifth_power(uint32_t x) {
  const uint32_t square = multiply(x, x);
  return multiply(multiply(square, square), x);
}

// x^5 mod p for x < 2^62.
DLM_HOST_DEVICE uint32_t scramble(uint64_t x) {
  return fifth_power(wrap(wrap(static_cast<uint32_t>(x & PRIME) + static_cast<uint32_t>(x >> 31))));
}

// What all draws at one position have in common.
struct PositionKeys {
  uint32_t first, second;
};

DLM_HOST_DEVICE PositionKeys position_keys(int64_t seed, int64_t step, int64_t position) {
  const int64_t p = PRIME;
  const uint64_t low = static_cast<uint64_t>(seed % p + p);
  const uint64_t high = static_cast<uint64_t>(seed / p % p + p);
  uint32_t state = scramble(scramble(low + SALT_1) + high);
  state = scramble(state + static_cast<uint64_t>(step));
  state = scramble(state + static_cast<uint64_t>(position));
  const uint32_t first = scramble(static_cast<uint64_t>(state) + SALT_2);
  return {first, scramble(static_cast<uint64_t>(first) + SALT_1)};
}

// Strictly between 0 and 1, exact. `token` < 2^31 - 1.
DLM_HOST_DEVICE float uniform(PositionKeys keys, uint32_t token) {
  const uint32_t state = fifth_power(wrap(keys.first + wrap(token)));
  const uint32_t hash = fifth_power(wrap(state + keys.second));
  return (static_cast<float>(static_cast<int32_t>(hash >> 8)) + 0.5f) * 1.1920928955078125e-07f;
}

// Minus a standard Gumbel number: z / T - this is largest at a draw from softmax(z / T).
DLM_HOST_DEVICE float negative_gumbel(PositionKeys keys, uint32_t token) { return log_of_positive(-log_of_positive(uniform(keys, token))); }

}  // namespace dlm
