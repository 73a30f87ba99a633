// The commit rule of one row: which masked positions are filled in.
#pragma once

#include "floats.h"

namespace dlm {

// The pairwise rule behind a rank: does `other` come before `own`? Positions that may not be committed score -inf and beat nobody.
DLM_HOST_DEVICE bool outranks(float other_score, int64_t other_place, float own_score, int64_t own_place) {
  return other_score > own_score || (other_score == own_score && other_place < own_place);
}

// Does the factor rule stop at the eligible position of this rank? Rank 0 never fails.
DLM_HOST_DEVICE bool factor_fails(float factor, float confidence, int64_t rank) {
  return rank >= 1 && confidence < 1.0f - factor / static_cast<float>(rank + 2);
}

struct CommitRule {
  int64_t quota;
  float threshold;
  float factor;
  int64_t reach;  // smallest rank at which the factor rule fails, or beyond all ranks

  DLM_HOST_DEVICE bool commits(float confidence, int64_t rank) const {
    return rank < quota || confidence >= threshold || (factor > 0.0f && rank < reach);
  }
};

}  // namespace dlm
