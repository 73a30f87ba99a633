// Float arithmetic that host and device do alike: conversion of 16-bit logits, exp and log.
//
// exp and log are written out instead of taken from the C library because then the two sides round the same, and because a compiler turns
// them into SIMD code. That needs every operation to be rounded on its own: build without contraction to fused multiply-add
// (-ffp-contract=off, --fmad=false) and without fast-math.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#define DLM_HOST_DEVICE __host__ __device__ __forceinline__
#elif defined(_MSC_VER)
#define DLM_HOST_DEVICE __forceinline
#else
#define DLM_HOST_DEVICE inline __attribute__((always_inline))
#endif

namespace dlm {

constexpr float LOWEST_FLOAT = -3.402823466e+38f;

DLM_HOST_DEVICE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

DLM_HOST_DEVICE float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

DLM_HOST_DEVICE float infinity() { return float_of(0x7f800000u); }

struct Half {
  uint16_t bits;
};

struct Bfloat {
  uint16_t bits;
};

DLM_HOST_DEVICE float to_float(float x) { return x; }

DLM_HOST_DEVICE float to_float(Bfloat x) { return float_of(static_cast<uint32_t>(x.bits) << 16); }

DLM_HOST_DEVICE float to_float(Half x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  const float finite = float_of(magnitude) * 5.192296858534828e+33f;  // 2^112 moves the exponent's bias; subnormals come out right too
  const uint32_t exponent = magnitude >= 0x0f800000u ? 0x7f800000u : 0u;  // infinity and NaN
  return float_of(bits_of(finite) | exponent | static_cast<uint32_t>(x.bits & 0x8000u) << 16);
#endif
}

constexpr float EXP_FLOOR = -87.0f;  // below, exp would leave the normal floats

// e^x for x <= 0; exactly 0 below EXP_FLOOR and for NaN. Within 1 ulp of the true value or so. The polynomial is a minimax fit of
// (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2.
DLM_HOST_DEVICE float exp_of_negative(float x) {
  const bool vanishes = !(x >= EXP_FLOOR);
  const float kept = vanishes ? 0.0f : x;
  const float shifted = kept * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the sum is rounded to a whole number, kept in its low bits
  const float whole = shifted - 12582912.0f;
  const float r = (kept - whole * 0.693359375f) - whole * -2.12194440e-4f;  // ln 2 in two parts, the first exact times any `whole`
  float q = 0.0013814467f;
  q = q * r + 0.0083687808f;
  q = q * r + 0.0416683927f;
  q = q * r + 0.1666651964f;
  q = q * r + 0.4999999404f;
  const float fraction = (q * r * r + r) + 1.0f;
  const float scale = float_of((bits_of(shifted) << 23) + 0x3f800000u);
  return vanishes ? 0.0f : fraction * scale;
}

// ln x for normal x > 0, within 1 ulp or so, also next to 1. The polynomial is a minimax fit of (ln(1 + f) - f + f^2 / 2) / f^3 for
// sqrt(1/2) <= 1 + f <= sqrt(2).
DLM_HOST_DEVICE float log_of_positive(float x) {
  const uint32_t bits = bits_of(x);
  const uint32_t above = bits - 0x3f3504f3u;  // how far above sqrt(1/2), as bits
  const float exponent = static_cast<float>(static_cast<int32_t>(above) >> 23);
  const float f = float_of((above & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float q = 0.0674663857f;
  q = q * f - 0.1167565137f;
  q = q * f + 0.1188816279f;
  q = q * f - 0.1240558922f;
  q = q * f + 0.1421955228f;
  q = q * f - 0.1666799635f;
  q = q * f + 0.2000211924f;
  q = q * f - 0.2500000894f;
  q = q * f + 0.3333331347f;
  const float square = f * f;
  const float tail = (q * f * square - 0.5f * square) + exponent * -2.12194440e-4f;
  return (tail + f) + exponent * 0.693359375f;
}

}  // namespace dlm
