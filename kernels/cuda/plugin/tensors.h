// Inputs and outputs of dlm::ParallelUnmask in the node's order, and the types TensorRT may hand them over in.
#pragma once

#include <NvInferRuntime.h>

#include <cstdint>

namespace dlm {

enum Input : int32_t {
  LOGITS,
  TOKENS,
  LIVE,
  POSITIONS,
  ALLOW_ROWS,
  ALLOW_TABLE,
  QUOTA,
  THRESHOLD,
  FACTOR,
  MEASURE,
  TEMPERATURE,
  RANK_TEMPERATURE,
  SEED,
  STEP,
  INPUT_COUNT
};

enum Output : int32_t { CANVAS, COMMITTED, SAMPLED_IDS, CONFIDENCE, ENTROPY, TOP_IDS, TOP_LOGPROBS, OUTPUT_COUNT };

constexpr nvinfer1::DataType INPUT_TYPES[INPUT_COUNT] = {
    nvinfer1::DataType::kFLOAT,  // logits: or half or bfloat16, see takes_input
    nvinfer1::DataType::kINT64, nvinfer1::DataType::kBOOL,  nvinfer1::DataType::kINT64, nvinfer1::DataType::kINT64,
    nvinfer1::DataType::kFLOAT, nvinfer1::DataType::kINT64, nvinfer1::DataType::kFLOAT, nvinfer1::DataType::kFLOAT,
    nvinfer1::DataType::kINT64, nvinfer1::DataType::kFLOAT, nvinfer1::DataType::kFLOAT, nvinfer1::DataType::kINT64,
    nvinfer1::DataType::kINT64,
};

constexpr nvinfer1::DataType OUTPUT_TYPES[OUTPUT_COUNT] = {
    nvinfer1::DataType::kINT64, nvinfer1::DataType::kINT64, nvinfer1::DataType::kINT64, nvinfer1::DataType::kFLOAT,
    nvinfer1::DataType::kFLOAT, nvinfer1::DataType::kINT64, nvinfer1::DataType::kFLOAT,
};

inline bool takes_input(int32_t input, nvinfer1::DataType type) {
  if (type == INPUT_TYPES[input]) return true;
  return input == LOGITS && (type == nvinfer1::DataType::kHALF || type == nvinfer1::DataType::kBF16);
}

}  // namespace dlm
