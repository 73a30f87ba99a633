// The two kernels: one block per window position passes over the vocabulary once, then one block per row decides the commits.
#pragma once

#include "block_merge.cuh"
#include "commit.h"
#include "logit_reader.cuh"
#include "parameters.h"

namespace dlm {

constexpr int ROW_THREADS = 128;
constexpr int MOST_THREADS = MOST_WARPS * WARP;

// The device cannot report a bad row, so it takes the nearest one rather than read out of bounds.
__device__ inline const float* bias_row(const DlmUnmaskParams& params, int64_t position) {
  const int64_t row = allow_row_of(params, position);
  const int64_t last = params.allow_rows_count - 1;
  return params.allow_table + (row < 0 ? 0 : row > last ? last : row) * params.vocab;
}

template <typename Logit, int K>
__global__ void __launch_bounds__(MOST_THREADS) measure_positions(const DlmUnmaskParams params, float* scores) {
  __shared__ SharedTallies<K> shared;
  const int64_t position = blockIdx.x;
  const PositionQuestion question = question_of(params, position / params.window, position);
  const LogitReader<Logit> reader{static_cast<const Logit*>(params.logits) + position * params.vocab, bias_row(params, position),
                                  question.vocab};
  PositionTally<K> tally;
  tally.clear();
  reader.read(tally, question);
  share_warp_tally(tally, question.warm(), shared);
  __syncthreads();
  if (threadIdx.x >= WARP) return;

  const int warps = static_cast<int>(blockDim.x) / WARP;
  SoftmaxMass mass;
  Drawn drawn;
  merge_warps(shared, warps, question.warm(), mass, drawn);
  int cursor = 0;
  Candidate first{-infinity(), NO_TOKEN}, second = first;
  const int places = params.top_k > 2 ? params.top_k : 2;
  for (int place = 0; place < places; ++place) {
    const Candidate best = next_best(shared, warps, cursor);
    if (place == 0) first = best;
    if (place == 1) second = best;
    if (threadIdx.x == 0 && place < params.top_k) store_top(params, position, place, best, mass);
  }
  if (threadIdx.x == 0) store(params, scores, position, answer(question, mass, first, second, drawn));
}

// Rank of every eligible position of the block's row; the smallest at which the factor rule fails goes to `reach`.
__device__ inline void rank_row(const DlmUnmaskParams& params, const float* scores, int32_t* ranks, int* reach) {
  const int64_t start = blockIdx.x * params.window;
  for (int64_t own = threadIdx.x; own < params.window; own += blockDim.x) {
    if (!eligible(params, start + own)) continue;
    const float score = scores[start + own];
    int32_t rank = 0;
    for (int64_t other = 0; other < params.window; ++other) rank += outranks(scores[start + other], other, score, own);
    ranks[start + own] = rank;
    if (factor_fails(params.factor[blockIdx.x], params.confidence[start + own], rank)) atomicMin(reach, rank);
  }
}

static __global__ void __launch_bounds__(ROW_THREADS) commit_rows(const DlmUnmaskParams params, const float* scores, int32_t* ranks) {
  __shared__ int reach, committed;
  const int64_t row = blockIdx.x;
  if (threadIdx.x == 0) {
    reach = static_cast<int>(params.window);
    committed = 0;
  }
  __syncthreads();
  rank_row(params, scores, ranks, &reach);
  __syncthreads();
  const CommitRule rule{params.quota[row], params.threshold[row], params.factor[row], reach};
  int own = 0;
  for (int64_t i = row * params.window + threadIdx.x; i < (row + 1) * params.window; i += blockDim.x) {
    const bool commit = eligible(params, i) && rule.commits(params.confidence[i], ranks[i]);
    params.canvas[i] = commit ? params.sampled_ids[i] : params.tokens[i];
    own += commit;
  }
  if (own > 0) atomicAdd(&committed, own);
  __syncthreads();
  if (threadIdx.x == 0) params.committed[row] = committed;
}

}  // namespace dlm
