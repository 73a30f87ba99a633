// From the tallies of a block's threads to one tally. All merges happen in an order that only depends on thread numbers.
#pragma once

#include "position.h"

namespace dlm {

constexpr int WARP = 32;
constexpr int MOST_WARPS = 16;
constexpr unsigned WHOLE_WARP = 0xffffffffu;

// Every lane ends up with the merge of the warp's 32. Butterfly: partners add the same two numbers, so all lanes hold the same bits.
__device__ __forceinline__ void merge_across_warp(SoftmaxMass& mass) {
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2) {
    SoftmaxMass other;
    other.peak = __shfl_xor_sync(WHOLE_WARP, mass.peak, distance);
    other.total = __shfl_xor_sync(WHOLE_WARP, mass.total, distance);
    other.moment = __shfl_xor_sync(WHOLE_WARP, mass.moment, distance);
    mass.merge(other);
  }
}

__device__ __forceinline__ void merge_across_warp(Drawn& drawn) {
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2) {
    Drawn other;
    other.score = __shfl_xor_sync(WHOLE_WARP, drawn.score, distance);
    other.logit = __shfl_xor_sync(WHOLE_WARP, drawn.logit, distance);
    other.id = __shfl_xor_sync(WHOLE_WARP, drawn.id, distance);
    drawn.merge(other);
  }
}

// The best of the lanes' candidates, on every lane.
__device__ __forceinline__ Candidate best_of_warp(Candidate own) {
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2) {
    Candidate other;
    other.value = __shfl_xor_sync(WHOLE_WARP, own.value, distance);
    other.id = __shfl_xor_sync(WHOLE_WARP, own.id, distance);
    if (ahead(other, own)) own = other;
  }
  return own;
}

template <int K>
struct SharedTallies {
  SoftmaxMass mass[MOST_WARPS];
  Drawn drawn[MOST_WARPS];
  Candidate top[MOST_WARPS][K];
};

// Each warp's merge goes to shared memory: K times the best head of the 32 lists, whose owner then drops it.
template <int K>
__device__ void share_warp_tally(PositionTally<K>& tally, bool warm, SharedTallies<K>& shared) {
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  merge_across_warp(tally.mass);
  if (warm) merge_across_warp(tally.drawn);
  if (lane == 0) {
    shared.mass[warp] = tally.mass;
    shared.drawn[warp] = tally.drawn;
  }
#pragma unroll 1
  for (int place = 0; place < K; ++place) {
    const Candidate best = best_of_warp(tally.top.head());
    if (lane == 0) shared.top[warp][place] = best;
    if (best.id != NO_TOKEN && tally.top.id[0] == best.id) tally.top.drop_head();
  }
}

// Lane w of the first warp stands for warp w. `mass` and `drawn` become the block's, on every lane.
template <int K>
__device__ void merge_warps(const SharedTallies<K>& shared, int warps, bool warm, SoftmaxMass& mass, Drawn& drawn) {
  const int lane = threadIdx.x % WARP;
  mass.clear();
  drawn.clear();
  if (lane < warps) {
    mass = shared.mass[lane];
    drawn = shared.drawn[lane];
  }
  merge_across_warp(mass);
  if (warm) merge_across_warp(drawn);
}

// The next best of the warps' lists; `cursor` is how many of its list this lane has given away.
template <int K>
__device__ Candidate next_best(const SharedTallies<K>& shared, int warps, int& cursor) {
  const int lane = threadIdx.x % WARP;
  const Candidate own = lane < warps && cursor < K ? shared.top[lane][cursor] : Candidate{-infinity(), NO_TOKEN};
  const Candidate best = best_of_warp(own);
  if (best.id != NO_TOKEN && own.id == best.id) ++cursor;
  return best;
}

}  // namespace dlm
