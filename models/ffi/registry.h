#pragma once

// The models that the handlers know, by id, and who is using them.
//
// These headers make up one translation unit, and everything in them has internal linkage: the
// dynamic linker would merge `inline` variables of two versions that are loaded in one process.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>

namespace {

using GradientFn = int (*)(const void* model, bool propto, bool jacobian, const double* x,
                           double* value, double* gradient, char** error);
using DensityFn = int (*)(const void* model, bool propto, bool jacobian, const double* x,
                          double* value, char** error);
using ConstrainFn = int (*)(const void* model, bool transformed, bool generated, const double* x,
                            double* out, void* rng, char** error);
using FreeErrorFn = void (*)(char* error);

// Tallies are kept in shards, one a thread where possible: several chains on one cheap model would
// otherwise spend their time passing one cache line around.
struct alignas(64) Shard {
  std::atomic<int64_t> gradients{0};
  std::atomic<int64_t> densities{0};
  std::atomic<int64_t> failed{0};
  std::atomic<int64_t> readers{0};  // executions in flight
};

constexpr size_t kShards = 16;

size_t ThisShard() {
  static std::atomic<size_t> next{0};
  thread_local const size_t mine = next.fetch_add(1, std::memory_order_relaxed) % kShards;
  return mine;
}

enum Kind { kGradient = 0, kDensity = 1 };

struct Model {
  const void* handle = nullptr;
  GradientFn gradient = nullptr;
  DensityFn density = nullptr;
  ConstrainFn constrain = nullptr;
  FreeErrorFn free_error = nullptr;
  int64_t dim = 0;
  bool thread_safe = false;
  bool parallel = false;

  std::atomic<bool> dead{false};
  std::array<Shard, kShards> shards;
  // Running estimates of nanoseconds an evaluation, by Kind; 0 until the first measurement.
  std::array<std::atomic<double>, 2> cost{};

  std::mutex error_mutex;
  std::string last_error;

  void RecordError(const char* text) noexcept {
    try {
      std::lock_guard<std::mutex> lock(error_mutex);
      last_error = text;
    } catch (const std::exception&) {
      // Out of memory for a message: the failure itself is still counted.
    }
  }
};

// Slots are never reused, and a Model is never freed (it is about a kilobyte): an id that was
// valid once is either alive or recognisably dead for ever.
constexpr int64_t kMaxModels = int64_t{1} << 16;
std::array<std::atomic<Model*>, kMaxModels> registry;
std::atomic<int64_t> registered{0};
std::mutex registration;

Model* Find(int64_t id) {
  if (id < 0 || id >= registered.load(std::memory_order_acquire)) return nullptr;
  return registry[id].load(std::memory_order_acquire);
}

// Builds without STAN_THREADS keep one automatic-differentiation stack, which the dynamic linker
// may merge across libraries: their evaluations take turns over the whole process.
std::mutex one_at_a_time;

// A model announced as in use. `Retire` sets `dead` before it sums the readers and this adds
// itself before it reads `dead`, so that one of the two always sees the other.
class Reader {
 public:
  explicit Reader(Model& model) : readers_(model.shards[ThisShard()].readers) {
    readers_.fetch_add(1, std::memory_order_seq_cst);
    alive_ = !model.dead.load(std::memory_order_seq_cst);
  }
  ~Reader() { readers_.fetch_sub(1, std::memory_order_release); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  bool alive() const { return alive_; }

 private:
  std::atomic<int64_t>& readers_;
  bool alive_;
};

}  // namespace
