#pragma once

// The lanes of a call: where each finds its point and its model.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

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

}  // namespace
