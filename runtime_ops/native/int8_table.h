// Centroids as 7-bit integers with a scale, for compute = "int8".
#pragma once

#include <cstdint>
#include <vector>

#include "matrix.h"

namespace sardonyx {

class Int8Table {
 public:
  // Raises Error where a centroid is NaN or infinite.
  explicit Int8Table(const GoboMatrix& w);

  // Integers of a group: -63 to 63, at least 16 of them.
  const int8_t* at(int64_t group) const { return values_.data() + group * stride_; }
  float scale(int64_t group) const { return scales_[group]; }

 private:
  int64_t stride_;
  std::vector<int8_t> values_;
  std::vector<float> scales_;
};

}  // namespace sardonyx
