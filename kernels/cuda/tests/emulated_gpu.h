// Just enough of CUDA's device side to run the kernels on a CPU: a block's threads are fibers on one thread, which meet at shuffles and
// barriers. It checks what is easy to get wrong without a GPU: lanes that do not meet, and how often global memory is read. POSIX only.
#pragma once

#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static  // blocks run one after the other
#define __launch_bounds__(threads)

struct uint4 {
  unsigned x, y, z, w;
};

struct float4 {
  float x, y, z, w;
};

struct Index {
  unsigned x;
};

inline Index threadIdx, blockIdx, blockDim;

namespace emulated {

constexpr size_t STACK_BYTES = 256 * 1024;
constexpr unsigned LANES = 32;

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
  uint64_t shuffles = 0, barriers = 0;  // how many it has arrived at
  uint32_t shared_value[2] = {};        // of the last two shuffles
  bool done = false;
};

struct Block {
  ucontext_t scheduler;
  std::vector<Fiber> fibers;
  std::function<void()> kernel;
  bool moved = false;
};

inline Block* block = nullptr;

// Loads from this range are counted.
inline const char* watched = nullptr;
inline size_t watched_bytes = 0, bytes_read = 0;

inline Fiber& self() { return block->fibers[threadIdx.x]; }

inline void yield() {
  const unsigned thread = threadIdx.x;
  swapcontext(&block->fibers[thread].context, &block->scheduler);
  threadIdx.x = thread;
}

// Waits until all fibers from `first` on have arrived as often as this one.
inline void meet(unsigned first, unsigned count, uint64_t Fiber::*arrivals) {
  const uint64_t mine = ++(self().*arrivals);
  block->moved = true;
  for (unsigned i = first; i < first + count; ++i) {
    while (block->fibers[i].*arrivals < mine) yield();
  }
  block->moved = true;
}

inline void run_fiber() {
  block->kernel();
  self().done = true;
  block->moved = true;
  swapcontext(&self().context, &block->scheduler);
}

inline void start(Fiber& fiber) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = STACK_BYTES;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, run_fiber, 0);
}

inline void run_block(Block& current) {
  block = &current;
  bool running = true;
  while (running) {
    running = current.moved = false;
    for (unsigned i = 0; i < current.fibers.size(); ++i) {
      if (current.fibers[i].done) continue;
      running = true;
      threadIdx.x = i;
      swapcontext(&current.scheduler, &current.fibers[i].context);
    }
    if (running && !current.moved) throw std::runtime_error("threads wait for each other: a shuffle or barrier that not all of them reach");
  }
}

template <typename Kernel>
void launch(unsigned blocks, unsigned threads, Kernel&& kernel) {
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
    Block current;
    current.kernel = kernel;
    current.fibers.resize(threads);
    for (Fiber& fiber : current.fibers) start(fiber);
    run_block(current);
  }
}

}  // namespace emulated

template <typename T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  static_assert(sizeof(T) == 4, "32-bit values");
  using emulated::self;
  const unsigned thread = threadIdx.x, parity = self().shuffles % 2;
  std::memcpy(&self().shared_value[parity], &value, 4);
  emulated::meet(thread / emulated::LANES * emulated::LANES, emulated::LANES, &emulated::Fiber::shuffles);
  T other;
  std::memcpy(&other, &emulated::block->fibers[thread ^ static_cast<unsigned>(distance)].shared_value[parity], 4);
  return other;
}

inline void __syncthreads() { emulated::meet(0, blockDim.x, &emulated::Fiber::barriers); }

template <typename T>
T __ldg(const T* at) {
  if (reinterpret_cast<uintptr_t>(at) % sizeof(T) != 0) throw std::runtime_error("a load that is not aligned");
  const auto* address = reinterpret_cast<const char*>(at);
  if (address >= emulated::watched && address < emulated::watched + emulated::watched_bytes) emulated::bytes_read += sizeof(T);
  return *at;
}

template <typename T>
T __ldcs(const T* at) {
  return __ldg(at);
}

inline void atomicMin(int* at, int value) { *at = value < *at ? value : *at; }

inline void atomicAdd(int* at, int value) { *at += value; }
