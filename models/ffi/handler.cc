// Log densities of BridgeStan models as XLA custom calls.
//
// A model reaches the handlers as an integer id, passed as an operand like any other array and
// resolved in an append-only registry. A compiled program therefore holds no pointer: it serves
// every model of its shapes, and a model that is gone is an error and never a crash.
//
// What Stan computes is not changed to the last bit, with one rule on top: where Stan throws, or
// the value or any element of the gradient is not finite, the value is -inf and the gradient 0.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// ---------------------------------------------------------------------------------------------
// BridgeStan's C interface
// ---------------------------------------------------------------------------------------------

using GradientFn = int (*)(const void* model, bool propto, bool jacobian, const double* x,
                           double* value, double* gradient, char** error);
using DensityFn = int (*)(const void* model, bool propto, bool jacobian, const double* x,
                          double* value, char** error);
using ConstrainFn = int (*)(const void* model, bool transformed, bool generated, const double* x,
                            double* out, void* rng, char** error);
using FreeErrorFn = void (*)(char* error);

// ---------------------------------------------------------------------------------------------
// The registry
// ---------------------------------------------------------------------------------------------

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

// ---------------------------------------------------------------------------------------------
// One evaluation, and a range of them
// ---------------------------------------------------------------------------------------------

// XLA calls handlers with denormals flushed to zero; Stan is to compute as it does elsewhere.
class DefaultFloatingPoint {
 public:
#if defined(__x86_64__) || defined(_M_X64)
  DefaultFloatingPoint() : saved_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~DefaultFloatingPoint() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  DefaultFloatingPoint() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
  }
  ~DefaultFloatingPoint() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#endif
 public:
  DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
  DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;
};

void TakeError(Model& model, char* error) noexcept {
  model.RecordError(error ? error : "Stan failed without a message");
  if (error) model.free_error(error);
}

// One evaluation; false where it failed. `gradient` is null for the value alone.
bool EvaluateOne(Model& model, const double* x, double* value, double* gradient) noexcept {
  char* error = nullptr;
  const int code = gradient ? model.gradient(model.handle, true, true, x, value, gradient, &error)
                            : model.density(model.handle, true, true, x, value, &error);
  bool good = false;
  if (code != 0) {
    TakeError(model, error);
  } else {
    good = std::isfinite(*value);
    for (int64_t j = 0; gradient && good && j < model.dim; ++j) good = std::isfinite(gradient[j]);
    if (!good) {
      model.RecordError(std::isfinite(*value) ? "the gradient is not finite"
                                              : "the log density is not finite");
    }
  }
  if (!good) {
    *value = -std::numeric_limits<double>::infinity();
    if (gradient) std::fill_n(gradient, model.dim, 0.0);
  }
  return good;
}

// Where in an operand the lane of a result lies, when the operand may have been broadcast to it.
class LaneMap {
 public:
  // nullopt where the shapes do not go together: every axis must be the result's or have size 1.
  static std::optional<LaneMap> Make(ffi::Span<const int64_t> result,
                                     ffi::Span<const int64_t> operand) {
    const size_t rank = result.size();
    if (operand.size() < rank) return std::nullopt;
    bool same = true, single = true;
    for (size_t k = 0; k < rank; ++k) {
      if (operand[k] != result[k] && operand[k] != 1) return std::nullopt;
      same = same && operand[k] == result[k];
      single = single && operand[k] == 1;
    }
    if (same) return LaneMap(1, {});
    if (single) return LaneMap(0, {});
    return LaneMap(0, Indices(result, operand));
  }
  int64_t operator()(int64_t lane) const {
    return indices_.empty() ? lane * step_ : indices_[lane];
  }
  bool constant() const { return indices_.empty() && step_ == 0; }

 private:
  LaneMap(int64_t step, std::vector<int64_t> indices) : step_(step), indices_(std::move(indices)) {}

  static std::vector<int64_t> Indices(ffi::Span<const int64_t> result,
                                      ffi::Span<const int64_t> operand) {
    std::vector<int64_t> indices{0};
    for (size_t k = 0; k < result.size(); ++k) {  // row-major: the last axis runs fastest
      std::vector<int64_t> next;
      next.reserve(indices.size() * static_cast<size_t>(result[k]));
      for (int64_t index : indices)
        for (int64_t i = 0; i < result[k]; ++i)
          next.push_back(index * operand[k] + (operand[k] == 1 ? 0 : i));
      indices = std::move(next);
    }
    return indices;
  }

  int64_t step_;
  std::vector<int64_t> indices_;
};

// Lanes [first, first + size) of a call, all of them on one model.
struct Batch {
  Model& model;
  const double* x;
  const LaneMap& x_lane;
  double* value;
  double* gradient;  // null for values alone
  int64_t first;
  int64_t size;

  Kind kind() const { return gradient ? kGradient : kDensity; }

  // Evaluates lanes [begin, end), counted from `first`; returns how many failed.
  int64_t Evaluate(int64_t begin, int64_t end) const noexcept {
    const DefaultFloatingPoint floating_point;
    const int64_t dim = model.dim;
    int64_t failed = 0;
    for (int64_t lane = first + begin; lane < first + end; ++lane) {
      failed += !EvaluateOne(model, x + x_lane(lane) * dim, value + lane,
                             gradient ? gradient + lane * dim : nullptr);
    }
    return failed;
  }

  void Count(int64_t failed) const {
    Shard& shard = model.shards[ThisShard()];
    (gradient ? shard.gradients : shard.densities).fetch_add(size, std::memory_order_relaxed);
    if (failed) shard.failed.fetch_add(failed, std::memory_order_relaxed);
  }
};

// ---------------------------------------------------------------------------------------------
// Batches over several threads
// ---------------------------------------------------------------------------------------------

using Clock = std::chrono::steady_clock;

double NanosecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

// Below this much work, waking other threads costs more than it saves.
constexpr double kParallelNanoseconds = 100e3;
// What one thread takes at a time.
constexpr double kChunkNanoseconds = 20e3;

void UpdateCost(std::atomic<double>& cost, double measured) {
  const double old = cost.load(std::memory_order_relaxed);
  cost.store(old == 0 ? measured : 0.8 * old + 0.2 * measured, std::memory_order_relaxed);
}

// A batch whose chunks are claimed by whichever thread comes first. Helpers that come after the
// last chunk was claimed touch nothing but this object, which they share in owning.
class Job {
 public:
  Job(const Batch& batch, int64_t chunk) : batch_(batch), size_(batch.size), chunk_(chunk) {}

  // Works until no chunk is left; returns how many lanes this thread has evaluated.
  int64_t Work() noexcept {
    int64_t mine = 0, failed = 0;
    for (;;) {
      const int64_t begin = next_.fetch_add(chunk_, std::memory_order_relaxed);
      if (begin >= size_) break;
      const int64_t end = std::min(begin + chunk_, size_);
      failed += batch_.Evaluate(begin, end);
      mine += end - begin;
    }
    if (mine) {
      std::lock_guard<std::mutex> lock(mutex_);
      done_ += mine;
      failed_ += failed;
      if (done_ == size_) finished_.notify_all();
    }
    return mine;
  }

  // Waits for the chunks that others are evaluating; returns how many lanes failed. It cannot
  // wait for a thread that has not started: such a thread has claimed nothing.
  int64_t Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [this] { return done_ == size_; });
    return failed_;
  }

 private:
  const Batch batch_;
  const int64_t size_;
  const int64_t chunk_;
  std::atomic<int64_t> next_{0};
  std::mutex mutex_;
  std::condition_variable finished_;
  int64_t done_ = 0;
  int64_t failed_ = 0;
};

int64_t EvaluateInParallel(const Batch& batch, ffi::ThreadPool& pool, int64_t threads) {
  std::atomic<double>& cost = batch.model.cost[batch.kind()];
  const double per_chunk = kChunkNanoseconds / cost.load(std::memory_order_relaxed);
  const int64_t fair = (batch.size + threads - 1) / threads;
  const int64_t chunk = std::clamp<int64_t>(static_cast<int64_t>(per_chunk), 1, fair);
  auto job = std::make_shared<Job>(batch, chunk);
  const int64_t chunks = (batch.size + chunk - 1) / chunk;
  for (int64_t i = 1; i < std::min(threads, chunks); ++i) pool.Schedule([job] { job->Work(); });
  const Clock::time_point start = Clock::now();
  const int64_t mine = job->Work();  // the caller works too: the pool may have no thread to spare
  if (mine) UpdateCost(cost, NanosecondsSince(start) / static_cast<double>(mine));
  return job->Wait();
}

int64_t EvaluateInTurn(const Batch& batch) {
  std::unique_lock<std::mutex> turn(one_at_a_time, std::defer_lock);
  if (!batch.model.thread_safe) turn.lock();
  if (batch.size == 1) return batch.Evaluate(0, 1);  // reading the clock would be felt here
  const Clock::time_point start = Clock::now();
  const int64_t failed = batch.Evaluate(0, batch.size);
  UpdateCost(batch.model.cost[batch.kind()],
             NanosecondsSince(start) / static_cast<double>(batch.size));
  return failed;
}

void Run(const Batch& batch, ffi::ThreadPool& pool) {
  const Model& model = batch.model;
  int64_t threads = 1;
  if (batch.size > 1 && model.parallel && model.thread_safe) {
    const double work = static_cast<double>(batch.size) *
                        model.cost[batch.kind()].load(std::memory_order_relaxed);
    if (work >= kParallelNanoseconds) threads = std::min(pool.num_threads(), batch.size);
  }
  batch.Count(threads > 1 ? EvaluateInParallel(batch, pool, threads) : EvaluateInTurn(batch));
}

// ---------------------------------------------------------------------------------------------
// The handlers
// ---------------------------------------------------------------------------------------------

ffi::Error Invalid(const std::string& message) {
  return ffi::Error(ffi::ErrorCode::kInvalidArgument, "essper: " + message);
}

std::string Shape(ffi::Span<const int64_t> dims) {
  std::string text = "[";
  for (size_t k = 0; k < dims.size(); ++k) text += (k ? "," : "") + std::to_string(dims[k]);
  return text + "]";
}

// Evaluates every lane of a call; neighbouring lanes on one model go together.
ffi::Error EvaluateLanes(ffi::ThreadPool& pool, const ffi::Buffer<ffi::S64>& id,
                         const ffi::Buffer<ffi::F64>& x, ffi::Span<const int64_t> lanes,
                         double* value, double* gradient) {
  const auto id_dims = id.dimensions(), x_dims = x.dimensions();
  const auto id_lane = LaneMap::Make(lanes, id_dims);
  const auto x_lane = LaneMap::Make(lanes, x_dims);
  if (!id_lane || !x_lane || id_dims.size() != lanes.size() || x_dims.size() != lanes.size() + 1) {
    return Invalid("model ids " + Shape(id_dims) + " and points " + Shape(x_dims) +
                   " cannot be broadcast to lanes " + Shape(lanes));
  }
  int64_t size = 1;
  for (int64_t n : lanes) size *= n;
  const int64_t* ids = id.typed_data();

  for (int64_t first = 0, last = 0; first < size; first = last) {
    const int64_t model_id = ids[(*id_lane)(first)];
    last = id_lane->constant() ? size : first + 1;
    while (last < size && ids[(*id_lane)(last)] == model_id) ++last;

    Model* model = Find(model_id);
    if (!model) return Invalid("there is no Stan model with id " + std::to_string(model_id));
    const Reader reader(*model);
    if (!reader.alive()) {
      return Invalid("the Stan model with id " + std::to_string(model_id) +
                     " has been freed: keep its Target for as long as its density is used");
    }
    if (x_dims.back() != model->dim) {
      return Invalid("a point has " + std::to_string(x_dims.back()) + " coordinates, but model " +
                     std::to_string(model_id) + " has dimension " + std::to_string(model->dim));
    }
    Run(Batch{*model, x.typed_data(), *x_lane, value, gradient, first, last - first}, pool);
  }
  return ffi::Error::Success();
}

// No exception may cross the C boundary into XLA.
template <typename F>
ffi::Error Guarded(F&& body) noexcept {
  try {
    return body();
  } catch (const std::exception& error) {
    return ffi::Error(ffi::ErrorCode::kInternal, error.what());
  } catch (...) {
    return ffi::Error(ffi::ErrorCode::kInternal, "essper: unknown error in the Stan handler");
  }
}

ffi::Error ValueAndGrad(ffi::ThreadPool pool, ffi::Buffer<ffi::S64> id, ffi::Buffer<ffi::F64> x,
                        ffi::ResultBuffer<ffi::F64> value, ffi::ResultBuffer<ffi::F64> gradient) {
  return Guarded([&] {
    const auto lanes = value->dimensions();
    if (x.dimensions().size() == 0 ||
        gradient->element_count() != value->element_count() * x.dimensions().back()) {
      return Invalid("points " + Shape(x.dimensions()) + " and gradients " +
                     Shape(gradient->dimensions()) + " for values " + Shape(lanes));
    }
    return EvaluateLanes(pool, id, x, lanes, value->typed_data(), gradient->typed_data());
  });
}

ffi::Error Value(ffi::ThreadPool pool, ffi::Buffer<ffi::S64> id, ffi::Buffer<ffi::F64> x,
                 ffi::ResultBuffer<ffi::F64> value) {
  return Guarded(
      [&] { return EvaluateLanes(pool, id, x, value->dimensions(), value->typed_data(), nullptr); });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(essper_stan_value_and_grad, ValueAndGrad,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::S64>>()
                                  .Arg<ffi::Buffer<ffi::F64>>()
                                  .Ret<ffi::Buffer<ffi::F64>>()
                                  .Ret<ffi::Buffer<ffi::F64>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(essper_stan_value, Value,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::S64>>()
                                  .Arg<ffi::Buffer<ffi::F64>>()
                                  .Ret<ffi::Buffer<ffi::F64>>());

// ---------------------------------------------------------------------------------------------
// What Python calls
// ---------------------------------------------------------------------------------------------

extern "C" {

// A new id, or -1 where there is no room for another model.
int64_t essper_register(const void* handle, void* gradient, void* density, void* constrain,
                        void* free_error, int64_t dim, bool thread_safe, bool parallel) noexcept {
  try {
    auto model = std::make_unique<Model>();
    model->handle = handle;
    model->gradient = reinterpret_cast<GradientFn>(gradient);
    model->density = reinterpret_cast<DensityFn>(density);
    model->constrain = reinterpret_cast<ConstrainFn>(constrain);
    model->free_error = reinterpret_cast<FreeErrorFn>(free_error);
    model->dim = dim;
    model->thread_safe = thread_safe;
    model->parallel = parallel;

    std::lock_guard<std::mutex> lock(registration);
    const int64_t id = registered.load(std::memory_order_relaxed);
    if (id == kMaxModels) return -1;
    registry[id].store(model.release(), std::memory_order_release);
    registered.store(id + 1, std::memory_order_release);
    return id;
  } catch (const std::exception&) {
    return -1;
  }
}

// Executions of the model that are in flight, or -1 for an unknown id.
int64_t essper_readers(int64_t id) noexcept {
  const Model* model = Find(id);
  if (!model) return -1;
  int64_t readers = 0;
  for (const Shard& shard : model->shards) readers += shard.readers.load(std::memory_order_seq_cst);
  return readers;
}

// Refuses every further execution; the model may be freed once `essper_readers` is 0.
void essper_retire(int64_t id) noexcept {
  if (Model* model = Find(id)) model->dead.store(true, std::memory_order_seq_cst);
}

// Gradients, densities and failures executed so far: out[3].
void essper_counts(int64_t id, int64_t* out) noexcept {
  std::fill_n(out, 3, 0);
  const Model* model = Find(id);
  if (!model) return;
  for (const Shard& shard : model->shards) {
    out[0] += shard.gradients.load(std::memory_order_relaxed);
    out[1] += shard.densities.load(std::memory_order_relaxed);
    out[2] += shard.failed.load(std::memory_order_relaxed);
  }
}

// The last failure's message, cut to fit into `size` bytes with its terminator.
void essper_last_error(int64_t id, char* out, int64_t size) noexcept {
  if (size < 1) return;
  out[0] = '\0';
  Model* model = Find(id);
  if (!model) return;
  std::lock_guard<std::mutex> lock(model->error_mutex);
  const size_t length = std::min(model->last_error.size(), static_cast<size_t>(size - 1));
  std::memcpy(out, model->last_error.data(), length);
  out[length] = '\0';
}

// Parameters and transformed parameters of n points: out[n, width], NaN where Stan throws.
// False where the model is not alive.
bool essper_constrain(int64_t id, const double* x, int64_t n, double* out, int64_t width) noexcept {
  Model* model = Find(id);
  if (!model) return false;
  const Reader reader(*model);
  if (!reader.alive()) return false;
  std::unique_lock<std::mutex> turn(one_at_a_time, std::defer_lock);
  if (!model->thread_safe) turn.lock();
  for (int64_t i = 0; i < n; ++i) {
    char* error = nullptr;
    double* row = out + i * width;
    if (model->constrain(model->handle, true, false, x + i * model->dim, row, nullptr, &error)) {
      TakeError(*model, error);
      std::fill_n(row, width, std::numeric_limits<double>::quiet_NaN());
    }
  }
  return true;
}

// CPU seconds of `repeats` gradients at each of n points by Stan alone, or -1 for an unknown id:
// what the handlers are held against. Not counted.
double essper_time_gradients(int64_t id, const double* x, int64_t n, int64_t repeats) noexcept {
  Model* model = Find(id);
  if (!model) return -1;
  const Reader reader(*model);
  if (!reader.alive()) return -1;
  std::unique_lock<std::mutex> turn(one_at_a_time, std::defer_lock);
  if (!model->thread_safe) turn.lock();
  std::vector<double> gradient(static_cast<size_t>(model->dim));
  double value = 0;
  const auto now = [] {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const double start = now();
  for (int64_t r = 0; r < repeats; ++r) {
    for (int64_t i = 0; i < n; ++i) {
      char* error = nullptr;
      model->gradient(model->handle, true, true, x + i * model->dim, &value, gradient.data(),
                      &error);
      if (error) model->free_error(error);
    }
  }
  return now() - start;
}

}  // extern "C"
