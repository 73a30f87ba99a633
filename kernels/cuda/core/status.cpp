// What host and device libraries both export besides the op.
#include "parameters.h"

extern "C" size_t dlm_parallel_unmask_workspace_bytes(int64_t rows, int64_t window) { return dlm::workspace_bytes(rows, window); }

extern "C" const char* dlm_parallel_unmask_status_text(int32_t status) {
  switch (status) {
    case DLM_UNMASK_OK: return "ok";
    case DLM_UNMASK_NULL_POINTER: return "a pointer is null; only arrays without elements may be";
    case DLM_UNMASK_BAD_SHAPE: return "rows, window, vocab or allow_rows_count is out of range; vocab and allow_rows_count are at least 1";
    case DLM_UNMASK_BAD_LOGITS_TYPE: return "logits_type is none of DlmLogitsType";
    case DLM_UNMASK_BAD_TOP_K: return "top_k is not between 1 and the vocabulary's size, at most 32; for more use the ONNX function";
    case DLM_UNMASK_WORKSPACE_TOO_SMALL: return "workspace_bytes is below dlm_parallel_unmask_workspace_bytes(rows, window)";
    case DLM_UNMASK_BAD_ALLOW_ROW: return "an element of allow_rows is no row of allow_table";
    case DLM_UNMASK_CUDA_ERROR: return "CUDA refused a kernel launch; cudaPeekAtLastError says why";
    case DLM_UNMASK_BAD_STRUCT_SIZE: return "struct_size differs: caller and library were built from different headers";
    default: return "unknown status";
  }
}
