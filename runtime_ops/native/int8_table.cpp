#include "int8_table.h"

#include <algorithm>
#include <cmath>

#include "layout.h"

namespace sardonyx {
namespace {

constexpr float kMost = 63;

float quantize(const float* centroids, int64_t count, int8_t* table) {
  float most = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(centroids[i])) {
      throw Error(
          "centroids holds NaN or an infinity, compute = 'int8' needs finite ones; "
          "compile the model again");
    }
    most = std::max(most, std::fabs(centroids[i]));
  }
  const float scale = most / kMost;
  for (int64_t i = 0; i < count; ++i) {
    const float q = scale > 0 ? std::nearbyint(centroids[i] / scale) : 0;
    // a subnormal scale is so coarse that the quotient may pass 63
    table[i] = static_cast<int8_t>(std::clamp(q, -kMost, kMost));
  }
  return scale;
}

}  // namespace

Int8Table::Int8Table(const GoboMatrix& w) {
  const int64_t count = int64_t{1} << w.bits;
  stride_ = std::max<int64_t>(count, 16);
  values_.resize(w.groups * stride_);
  for (int64_t g = 0; g < w.groups; ++g) {
    scales_.push_back(quantize(w.centroids + g * count, count, &values_[g * stride_]));
  }
}

}  // namespace sardonyx
