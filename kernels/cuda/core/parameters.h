// Checks of a call's parameters, and where things lie in the workspace. For host and device alike.
#pragma once

#include "dlm_parallel_unmask.h"
#include "position.h"

namespace dlm {

inline size_t workspace_bytes(int64_t rows, int64_t window) {
  if (rows < 0 || window < 0) return 0;
  return static_cast<size_t>(rows) * static_cast<size_t>(window) * (sizeof(int32_t) + sizeof(float));
}

// Ranks [B, W], then scores [B, W].
DLM_HOST_DEVICE int32_t* ranks_of(const DlmUnmaskParams& params) { return static_cast<int32_t*>(params.workspace); }

DLM_HOST_DEVICE float* scores_of(const DlmUnmaskParams& params) {
  return reinterpret_cast<float*>(ranks_of(params) + params.rows * params.window);
}

inline bool has_null(const DlmUnmaskParams& p) {
  const bool per_row = p.quota && p.threshold && p.factor && p.measure && p.temperature && p.rank_temperature && p.seed && p.step;
  const bool per_position = p.logits && p.tokens && p.live && p.positions && p.allow_rows && p.allow_table && p.workspace;
  const bool outputs = p.canvas && p.sampled_ids && p.confidence && p.entropy && p.top_ids && p.top_logprobs;
  if (p.rows > 0 && (!per_row || !p.committed)) return true;
  return p.rows > 0 && p.window > 0 && (!per_position || !outputs);
}

inline int32_t check(const DlmUnmaskParams* params) {
  constexpr int64_t MOST_POSITIONS = 2147483647;  // of one launch: a block each
  if (params == nullptr) return DLM_UNMASK_NULL_POINTER;
  const DlmUnmaskParams& p = *params;
  if (p.struct_size != sizeof(DlmUnmaskParams)) return DLM_UNMASK_BAD_STRUCT_SIZE;
  if (p.rows < 0 || p.window < 0 || p.allow_rows_count < 1 || p.vocab < 1 || p.vocab > DLM_UNMASK_MAX_VOCAB) return DLM_UNMASK_BAD_SHAPE;
  if (p.window > 0 && p.rows > MOST_POSITIONS / p.window) return DLM_UNMASK_BAD_SHAPE;
  if (p.logits_type < DLM_LOGITS_FLOAT32 || p.logits_type > DLM_LOGITS_BFLOAT16) return DLM_UNMASK_BAD_LOGITS_TYPE;
  if (p.top_k < 1 || p.top_k > DLM_UNMASK_MAX_TOP_K || p.top_k > p.vocab) return DLM_UNMASK_BAD_TOP_K;
  if (has_null(p)) return DLM_UNMASK_NULL_POINTER;
  if (p.workspace_bytes < workspace_bytes(p.rows, p.window)) return DLM_UNMASK_WORKSPACE_TOO_SMALL;
  return DLM_UNMASK_OK;
}

// Everything a position's row asks of it.
DLM_HOST_DEVICE PositionQuestion question_of(const DlmUnmaskParams& params, int64_t row, int64_t position) {
  PositionQuestion question;
  question.keys = position_keys(params.seed[row], params.step[row], params.positions[position]);
  question.temperature = params.temperature[row];
  question.rank_temperature = params.rank_temperature[row];
  question.measure = params.measure[row];
  question.vocab = static_cast<int32_t>(params.vocab);
  return question;
}

DLM_HOST_DEVICE bool eligible(const DlmUnmaskParams& params, int64_t position) {
  return params.live[position] != 0 && params.tokens[position] == params.mask_token_id;
}

DLM_HOST_DEVICE void store(const DlmUnmaskParams& params, float* scores, int64_t position, const PositionAnswer& answer) {
  params.sampled_ids[position] = answer.sampled;
  params.confidence[position] = answer.confidence;
  params.entropy[position] = answer.entropy;
  scores[position] = eligible(params, position) ? answer.score : -infinity();
}

DLM_HOST_DEVICE void store_top(const DlmUnmaskParams& params, int64_t position, int place, Candidate token, const SoftmaxMass& mass) {
  const int64_t at = position * params.top_k + place;
  params.top_ids[at] = token.id == NO_TOKEN ? place : token.id;  // NO_TOKEN only if logits are NaN
  params.top_logprobs[at] = mass.log_probability(token.value);
}

// Row of the allow-table, counted from the end if negative.
DLM_HOST_DEVICE int64_t allow_row_of(const DlmUnmaskParams& params, int64_t position) {
  const int64_t row = params.allow_rows[position];
  return row < 0 ? row + params.allow_rows_count : row;
}

}  // namespace dlm
