// Reads the test cases of dlm_kernels/vectors (format: case_file.py there), and compares a result with what a case expects.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "dlm_parallel_unmask.h"

namespace dlm_test {

struct Results {
  std::vector<int64_t> canvas, committed, sampled_ids, top_ids;
  std::vector<float> confidence, entropy, top_logprobs;
};

struct Case {
  int64_t logits_type, rows, window, vocab, allow_rows_count, top_k, mask_token_id;
  std::vector<char> logits;
  std::vector<int64_t> tokens, positions, allow_rows, quota, measure, seed, step;
  std::vector<uint8_t> live;
  std::vector<float> allow_table, threshold, factor, temperature, rank_temperature;
  Results expected;

  int64_t positions_count() const { return rows * window; }
  size_t logits_bytes() const { return static_cast<size_t>(rows * window * vocab) * (logits_type == DLM_LOGITS_FLOAT32 ? 4 : 2); }
};

class Reader {
 public:
  explicit Reader(const std::string& path) : stream_(path, std::ios::binary), path_(path) {
    if (!stream_) throw std::runtime_error(path + ": cannot be read");
  }

  template <typename T>
  std::vector<T> take(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    const size_t bytes = values.size() * sizeof(T);
    bytes_to(values.data(), bytes);
    char filling[8];
    bytes_to(filling, (8 - bytes % 8) % 8);
    return values;
  }

 private:
  void bytes_to(void* out, size_t bytes) {
    if (bytes > 0 && !stream_.read(static_cast<char*>(out), static_cast<std::streamsize>(bytes))) {
      throw std::runtime_error(path_ + ": ends too early");
    }
  }

  std::ifstream stream_;
  std::string path_;
};

inline void read_inputs(Reader& reader, Case& c) {
  const int64_t all = c.positions_count();
  c.logits = reader.take<char>(static_cast<int64_t>(c.logits_bytes()));
  c.tokens = reader.take<int64_t>(all);
  c.live = reader.take<uint8_t>(all);
  c.positions = reader.take<int64_t>(all);
  c.allow_rows = reader.take<int64_t>(all);
  c.allow_table = reader.take<float>(c.allow_rows_count * c.vocab);
  c.quota = reader.take<int64_t>(c.rows);
  c.threshold = reader.take<float>(c.rows);
  c.factor = reader.take<float>(c.rows);
  c.measure = reader.take<int64_t>(c.rows);
  c.temperature = reader.take<float>(c.rows);
  c.rank_temperature = reader.take<float>(c.rows);
  c.seed = reader.take<int64_t>(c.rows);
  c.step = reader.take<int64_t>(c.rows);
}

inline Case read_case(const std::string& path) {
  Reader reader(path);
  const std::vector<char> magic = reader.take<char>(8);
  const std::vector<int64_t> header = reader.take<int64_t>(9);
  if (std::memcmp(magic.data(), "DLMUNMSK", 8) != 0 || header[0] != 1 || header[1] != 2) {
    throw std::runtime_error(path + ": no ParallelUnmask test case of format 1 for version 2 of the op");
  }
  Case c;
  c.logits_type = header[2];
  c.rows = header[3];
  c.window = header[4];
  c.vocab = header[5];
  c.allow_rows_count = header[6];
  c.top_k = header[7];
  c.mask_token_id = header[8];
  read_inputs(reader, c);
  const int64_t all = c.positions_count();
  c.expected.canvas = reader.take<int64_t>(all);
  c.expected.committed = reader.take<int64_t>(c.rows);
  c.expected.sampled_ids = reader.take<int64_t>(all);
  c.expected.confidence = reader.take<float>(all);
  c.expected.entropy = reader.take<float>(all);
  c.expected.top_ids = reader.take<int64_t>(all * c.top_k);
  c.expected.top_logprobs = reader.take<float>(all * c.top_k);
  return c;
}

inline Results empty_results(const Case& c) {
  const auto all = static_cast<size_t>(c.positions_count()), rows = static_cast<size_t>(c.rows), k = static_cast<size_t>(c.top_k);
  Results r;
  r.canvas.resize(all);
  r.committed.resize(rows);
  r.sampled_ids.resize(all);
  r.confidence.resize(all);
  r.entropy.resize(all);
  r.top_ids.resize(all * k);
  r.top_logprobs.resize(all * k);
  return r;
}

inline DlmUnmaskParams sizes_of(const Case& c) {
  DlmUnmaskParams p = {};
  p.struct_size = sizeof p;
  p.rows = c.rows;
  p.window = c.window;
  p.vocab = c.vocab;
  p.allow_rows_count = c.allow_rows_count;
  p.mask_token_id = c.mask_token_id;
  p.top_k = static_cast<int32_t>(c.top_k);
  p.logits_type = static_cast<int32_t>(c.logits_type);
  p.workspace_bytes = dlm_parallel_unmask_workspace_bytes(c.rows, c.window);
  return p;
}

// A call on host memory. `workspace` has room for one int64 per position.
inline DlmUnmaskParams params_of(const Case& c, Results& r, const void* logits, void* workspace) {
  DlmUnmaskParams p = sizes_of(c);
  p.logits = logits;
  p.tokens = c.tokens.data();
  p.live = c.live.data();
  p.positions = c.positions.data();
  p.allow_rows = c.allow_rows.data();
  p.allow_table = c.allow_table.data();
  p.quota = c.quota.data();
  p.threshold = c.threshold.data();
  p.factor = c.factor.data();
  p.measure = c.measure.data();
  p.temperature = c.temperature.data();
  p.rank_temperature = c.rank_temperature.data();
  p.seed = c.seed.data();
  p.step = c.step.data();
  p.canvas = r.canvas.data();
  p.committed = r.committed.data();
  p.sampled_ids = r.sampled_ids.data();
  p.confidence = r.confidence.data();
  p.entropy = r.entropy.data();
  p.top_ids = r.top_ids.data();
  p.top_logprobs = r.top_logprobs.data();
  p.workspace = workspace;
  return p;
}

inline int differing(const char* name, const std::vector<int64_t>& found, const std::vector<int64_t>& expected) {
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i] == expected[i]) continue;
    std::printf("  %s[%zu] is %lld, expected %lld\n", name, i, static_cast<long long>(found[i]), static_cast<long long>(expected[i]));
    return 1;
  }
  return 0;
}

inline int differing(const char* name, const std::vector<float>& found, const std::vector<float>& expected) {
  for (size_t i = 0; i < found.size(); ++i) {
    const float x = found[i], y = expected[i];
    if (std::isinf(y) ? x == y : std::fabs(x - y) <= 2e-5f * (1.0f + std::fabs(y))) continue;
    std::printf("  %s[%zu] is %.9g, expected %.9g\n", name, i, x, y);
    return 1;
  }
  return 0;
}

// How many of the outputs differ; the first difference of each is printed.
inline int differences(const Results& found, const Results& expected) {
  int count = differing("canvas", found.canvas, expected.canvas) + differing("committed", found.committed, expected.committed);
  count += differing("sampled_ids", found.sampled_ids, expected.sampled_ids) + differing("entropy", found.entropy, expected.entropy);
  count += differing("confidence", found.confidence, expected.confidence) + differing("top_ids", found.top_ids, expected.top_ids);
  return count + differing("top_logprobs", found.top_logprobs, expected.top_logprobs);
}

// Runs every case named on the command line. `run` returns a DlmUnmaskStatus and fills the results.
template <typename Run>
int run_cases(int argc, char** argv, Run&& run) {
  int failed = 0;
  for (int i = 1; i < argc; ++i) {
    const Case c = read_case(argv[i]);
    Results found = empty_results(c);
    const int32_t status = run(c, found);
    if (status != DLM_UNMASK_OK) std::printf("  %s\n", dlm_parallel_unmask_status_text(status));
    const bool ok = status == DLM_UNMASK_OK && differences(found, c.expected) == 0;
    std::printf("%s %s\n", ok ? "ok  " : "FAIL", argv[i]);
    failed += !ok;
  }
  std::printf("%d cases, %d failed\n", argc - 1, failed);
  return failed == 0 && argc > 1 ? 0 : 1;
}

}  // namespace dlm_test
