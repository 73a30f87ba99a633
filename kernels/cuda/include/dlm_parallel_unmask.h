/* dlm::ParallelUnmask, version 2, as a C function: on a CUDA stream, and the same arithmetic on the host.
 *
 * B = rows, W = window positions per row, V = vocabulary, G = rows of the allow-table, K = reported likeliest tokens. All arrays are in C
 * order without gaps. What the op computes is written down in kernels/dlm_kernels/unmask/parallel_unmask.onnxtxt.
 */
#ifndef DLM_PARALLEL_UNMASK_H
#define DLM_PARALLEL_UNMASK_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#if defined(DLM_UNMASK_BUILD)
#define DLM_UNMASK_API __declspec(dllexport)
#elif defined(DLM_UNMASK_STATIC)
#define DLM_UNMASK_API
#else
#define DLM_UNMASK_API __declspec(dllimport)
#endif
#else
#define DLM_UNMASK_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Largest K. Beyond it use the ONNX function. */
#define DLM_UNMASK_MAX_TOP_K 32

/* Longest vocabulary; token ids are 32-bit inside. */
#define DLM_UNMASK_MAX_VOCAB 2147483646

typedef enum DlmLogitsType {
  DLM_LOGITS_FLOAT32 = 0,
  DLM_LOGITS_FLOAT16 = 1,
  DLM_LOGITS_BFLOAT16 = 2
} DlmLogitsType;

typedef enum DlmUnmaskStatus {
  DLM_UNMASK_OK = 0,
  DLM_UNMASK_NULL_POINTER = 1,
  DLM_UNMASK_BAD_SHAPE = 2,
  DLM_UNMASK_BAD_LOGITS_TYPE = 3,
  DLM_UNMASK_BAD_TOP_K = 4,
  DLM_UNMASK_WORKSPACE_TOO_SMALL = 5,
  DLM_UNMASK_BAD_ALLOW_ROW = 6, /* host only; the device takes the nearest row instead of reading out of bounds */
  DLM_UNMASK_CUDA_ERROR = 7,    /* ask cudaPeekAtLastError for the reason */
  DLM_UNMASK_BAD_STRUCT_SIZE = 8
} DlmUnmaskStatus;

/* One call. Pointers are to device memory for the launcher and to host memory for the host twin; the struct itself is on the host. */
typedef struct DlmUnmaskParams {
  size_t struct_size; /* sizeof(DlmUnmaskParams), so that a caller compiled against another version is refused */
  int64_t rows;       /* B */
  int64_t window;     /* W */
  int64_t vocab;      /* V */
  int64_t allow_rows_count; /* G */
  int64_t mask_token_id;
  int32_t top_k;       /* K, 1 <= K <= min(V, DLM_UNMASK_MAX_TOP_K) */
  int32_t logits_type; /* DlmLogitsType */

  const void* logits;           /* [B, W, V] */
  const int64_t* tokens;        /* [B, W] */
  const uint8_t* live;          /* [B, W], 0 or 1 */
  const int64_t* positions;     /* [B, W], >= 0 */
  const int64_t* allow_rows;    /* [B, W], -G <= row < G as in ONNX Gather */
  const float* allow_table;     /* [G, V] */
  const int64_t* quota;         /* [B] */
  const float* threshold;       /* [B] */
  const float* factor;          /* [B] */
  const int64_t* measure;       /* [B], 0 probability, 1 margin, 2 negative entropy */
  const float* temperature;     /* [B] */
  const float* rank_temperature; /* [B] */
  const int64_t* seed;          /* [B] */
  const int64_t* step;          /* [B], >= 0 */

  int64_t* canvas;      /* [B, W] */
  int64_t* committed;   /* [B] */
  int64_t* sampled_ids; /* [B, W] */
  float* confidence;    /* [B, W] */
  float* entropy;       /* [B, W] */
  int64_t* top_ids;     /* [B, W, K] */
  float* top_logprobs;  /* [B, W, K] */

  void* workspace; /* 8-byte aligned, overwritten */
  size_t workspace_bytes;
} DlmUnmaskParams;

/* How much workspace a call needs; the same for host and device. */
DLM_UNMASK_API size_t dlm_parallel_unmask_workspace_bytes(int64_t rows, int64_t window);

/* The whole op on the calling thread. Only in the libraries that hold the host twin. */
DLM_UNMASK_API int32_t dlm_parallel_unmask_host(const DlmUnmaskParams* params);

/* What a status means, in English. Never NULL. */
DLM_UNMASK_API const char* dlm_parallel_unmask_status_text(int32_t status);

#if defined(DLM_UNMASK_WITH_CUDA)
struct CUstream_st;
/* Enqueues the whole op on `stream` (a cudaStream_t) and returns at once; allocates and synchronises nothing, so it can be captured. */
DLM_UNMASK_API int32_t dlm_parallel_unmask_launch(const DlmUnmaskParams* params, struct CUstream_st* stream);
#endif

#ifdef __cplusplus
}
#endif

#endif
