#include "creator.h"

#include <cstring>
#include <new>

#include "dlm_parallel_unmask.h"
#include "log.h"

using namespace nvinfer1;

namespace dlm {
namespace {

// One whole number by name. ONNX parsers hand integers over as INT32 or as INT64, depending on the version.
bool read_integer(PluginFieldCollection const& fields, char const* name, int64_t& value) {
  for (int32_t i = 0; i < fields.nbFields; ++i) {
    PluginField const& field = fields.fields[i];
    if (field.name == nullptr || std::strcmp(field.name, name) != 0 || field.data == nullptr || field.length != 1) continue;
    if (field.type == PluginFieldType::kINT32) {
      value = *static_cast<int32_t const*>(field.data);
      return true;
    }
    if (field.type == PluginFieldType::kINT64) {
      std::memcpy(&value, field.data, sizeof value);  // may lie unaligned in a serialised engine
      return true;
    }
  }
  log_error("attribute %s is missing or no single INT32 or INT64", name);
  return false;
}

}  // namespace

ParallelUnmaskCreator::ParallelUnmaskCreator() noexcept
    : fields_{PluginField{"mask_token_id", nullptr, PluginFieldType::kINT64, 1}, PluginField{"top_k", nullptr, PluginFieldType::kINT64, 1}},
      field_collection_{static_cast<int32_t>(fields_.size()), fields_.data()} {}

IPluginV3* ParallelUnmaskCreator::createPlugin(char const*, PluginFieldCollection const* fc, TensorRTPhase) noexcept {
  UnmaskAttributes attributes{};
  if (fc == nullptr || !read_integer(*fc, "mask_token_id", attributes.mask_token_id) || !read_integer(*fc, "top_k", attributes.top_k)) {
    return nullptr;
  }
  if (attributes.top_k < 1 || attributes.top_k > DLM_UNMASK_MAX_TOP_K) {
    log_error("top_k = %lld is not between 1 and %d; export with fewer, or leave the plugin out", static_cast<long long>(attributes.top_k),
              DLM_UNMASK_MAX_TOP_K);
    return nullptr;
  }
  return new (std::nothrow) ParallelUnmaskPlugin(attributes);
}

}  // namespace dlm
