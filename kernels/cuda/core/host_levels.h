// Builds of one function for different instruction sets. All give the same bits, because no level may fuse or reorder operations.
#pragma once

#include "dlm_parallel_unmask.h"

namespace dlm {

using MeasurePositions = void(const DlmUnmaskParams& params, int64_t begin, int64_t end);

namespace baseline {
MeasurePositions measure_positions;
}

// Present where DLM_HOST_X86_LEVELS is defined.
namespace avx2 {
MeasurePositions measure_positions;
}

namespace avx512 {
MeasurePositions measure_positions;
}

}  // namespace dlm
