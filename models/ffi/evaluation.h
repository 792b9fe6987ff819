#pragma once

// One evaluation by Stan, and a range of them.
//
// What Stan computes is not changed to the last bit, with one rule on top: where Stan throws, or
// the value or any element of the gradient is not finite, the value is -inf and the gradient 0.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#include "lanes.h"
#include "registry.h"

namespace {

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

// What an evaluation that fails, and one that is left out, leave behind.
void WriteNothing(double* value, double* gradient, int64_t dim) noexcept {
  *value = -std::numeric_limits<double>::infinity();
  if (gradient) std::fill_n(gradient, dim, 0.0);
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
  if (!good) WriteNothing(value, gradient, model.dim);
  return good;
}

// Some lanes of a call, all of them on one model: those listed, or else [first, first + size).
struct Batch {
  Model& model;
  const double* x;
  const LaneMap& x_lane;
  double* value;
  double* gradient;  // null for values alone
  int64_t first;
  int64_t size;
  const int64_t* listed = nullptr;

  Kind kind() const { return gradient ? kGradient : kDensity; }

  // Evaluates the batch's lanes [begin, end); returns how many failed.
  int64_t Evaluate(int64_t begin, int64_t end) const noexcept {
    const DefaultFloatingPoint floating_point;
    const int64_t dim = model.dim;
    int64_t failed = 0;
    for (int64_t k = begin; k < end; ++k) {
      const int64_t lane = listed ? listed[k] : first + k;
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

}  // namespace
