// Log densities of BridgeStan models as XLA custom calls.
//
// A model reaches the handlers as an integer id, passed as an operand like any other array and
// resolved in an append-only registry. A compiled program therefore holds no pointer: it serves
// every model of its shapes, and a model that is gone is an error and never a crash.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "evaluation.h"
#include "lanes.h"
#include "parallel.h"
#include "registry.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

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

// Evaluates those lanes of a batch that the mask lets through.
void RunMasked(Batch batch, const bool* mask, const LaneMap& mask_lane, ffi::ThreadPool& pool) {
  std::vector<int64_t> active;
  active.reserve(static_cast<size_t>(batch.size));
  const int64_t dim = batch.model.dim;
  for (int64_t lane = batch.first; lane < batch.first + batch.size; ++lane) {
    if (mask[mask_lane(lane)]) {
      active.push_back(lane);
    } else {
      WriteNothing(batch.value + lane, batch.gradient + lane * dim, dim);
    }
  }
  if (active.empty()) return;
  batch.size = static_cast<int64_t>(active.size());
  batch.listed = active.data();
  Run(batch, pool);
}

// Evaluates the lanes of a call, all of them where there is no mask; neighbouring lanes on one
// model go together.
ffi::Error EvaluateLanes(ffi::ThreadPool& pool, const ffi::Buffer<ffi::S64>& id,
                         const ffi::Buffer<ffi::F64>& x, const ffi::Buffer<ffi::PRED>* mask,
                         ffi::Span<const int64_t> lanes, double* value, double* gradient) {
  const auto id_dims = id.dimensions(), x_dims = x.dimensions();
  const auto id_lane = LaneMap::Make(lanes, id_dims);
  const auto x_lane = LaneMap::Make(lanes, x_dims);
  if (!id_lane || !x_lane || id_dims.size() != lanes.size() || x_dims.size() != lanes.size() + 1) {
    return Invalid("model ids " + Shape(id_dims) + " and points " + Shape(x_dims) +
                   " cannot be broadcast to lanes " + Shape(lanes));
  }
  std::optional<LaneMap> mask_lane;
  if (mask) {
    const auto mask_dims = mask->dimensions();
    mask_lane = LaneMap::Make(lanes, mask_dims);
    if (!mask_lane || mask_dims.size() != lanes.size()) {
      return Invalid("a mask " + Shape(mask_dims) + " cannot be broadcast to lanes " + Shape(lanes));
    }
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
    const Batch batch{*model, x.typed_data(), *x_lane, value, gradient, first, last - first};
    if (mask) {
      RunMasked(batch, mask->typed_data(), *mask_lane, pool);
    } else {
      Run(batch, pool);
    }
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

ffi::Error Fused(ffi::ThreadPool& pool, const ffi::Buffer<ffi::S64>& id,
                 const ffi::Buffer<ffi::F64>& x, const ffi::Buffer<ffi::PRED>* mask,
                 ffi::ResultBuffer<ffi::F64>& value, ffi::ResultBuffer<ffi::F64>& gradient) noexcept {
  return Guarded([&] {
    const auto lanes = value->dimensions();
    if (x.dimensions().size() == 0 ||
        gradient->element_count() != value->element_count() * x.dimensions().back()) {
      return Invalid("points " + Shape(x.dimensions()) + " and gradients " +
                     Shape(gradient->dimensions()) + " for values " + Shape(lanes));
    }
    return EvaluateLanes(pool, id, x, mask, lanes, value->typed_data(), gradient->typed_data());
  });
}

ffi::Error ValueAndGrad(ffi::ThreadPool pool, ffi::Buffer<ffi::S64> id, ffi::Buffer<ffi::F64> x,
                        ffi::ResultBuffer<ffi::F64> value, ffi::ResultBuffer<ffi::F64> gradient) {
  return Fused(pool, id, x, nullptr, value, gradient);
}

ffi::Error MaskedValueAndGrad(ffi::ThreadPool pool, ffi::Buffer<ffi::S64> id,
                              ffi::Buffer<ffi::F64> x, ffi::Buffer<ffi::PRED> mask,
                              ffi::ResultBuffer<ffi::F64> value,
                              ffi::ResultBuffer<ffi::F64> gradient) {
  return Fused(pool, id, x, &mask, value, gradient);
}

ffi::Error Value(ffi::ThreadPool pool, ffi::Buffer<ffi::S64> id, ffi::Buffer<ffi::F64> x,
                 ffi::ResultBuffer<ffi::F64> value) {
  return Guarded([&] {
    return EvaluateLanes(pool, id, x, nullptr, value->dimensions(), value->typed_data(), nullptr);
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(essper_stan_value_and_grad, ValueAndGrad,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::S64>>()
                                  .Arg<ffi::Buffer<ffi::F64>>()
                                  .Ret<ffi::Buffer<ffi::F64>>()
                                  .Ret<ffi::Buffer<ffi::F64>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(essper_stan_masked_value_and_grad, MaskedValueAndGrad,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::S64>>()
                                  .Arg<ffi::Buffer<ffi::F64>>()
                                  .Arg<ffi::Buffer<ffi::PRED>>()
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
