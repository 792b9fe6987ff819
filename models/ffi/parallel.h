#pragma once

// Batches in turn or over several threads, whichever their cost suggests.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include "evaluation.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

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

}  // namespace
