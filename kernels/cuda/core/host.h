// The host twin in two parts, so that a caller with threads of its own can share the work out. Parameters must have passed `check`.
#pragma once

#include "dlm_parallel_unmask.h"

namespace dlm {

// Everything but canvas and committed, for the positions begin <= b * W + w < end. Returns a DlmUnmaskStatus.
int32_t measure_positions(const DlmUnmaskParams& params, int64_t begin, int64_t end);

// canvas and committed of one row, once all of its positions are measured.
void commit_row(const DlmUnmaskParams& params, int64_t row);

}  // namespace dlm
