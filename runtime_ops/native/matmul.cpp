#include "matmul.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "layout.h"

namespace sardonyx {
namespace {

// A row of A as unsigned 8-bit integers: a = scale * (u - zero).
struct Row {
  std::vector<uint8_t> u;
  float scale;
  int32_t zero;
  bool finite;
};

Row quantize(const float* a, int64_t count) {
  float low = 0, high = 0;
  bool finite = true;
  for (int64_t k = 0; k < count; ++k) {
    finite = finite && std::isfinite(a[k]);
    low = std::min(low, a[k]);
    high = std::max(high, a[k]);
  }
  if (!finite || !std::isfinite(high - low)) return {{}, 0, 0, false};
  const float scale = std::max((high - low) / 255, 0x1p-120f), inverse = 1 / scale;
  const float zero = std::nearbyint(-low * inverse);
  Row row{std::vector<uint8_t>(count), scale, static_cast<int32_t>(zero), true};
  for (int64_t k = 0; k < count; ++k) {
    const float u = std::clamp(std::nearbyint(a[k] * inverse) + zero, 0.0f, 255.0f);
    row.u[k] = static_cast<uint8_t>(u);
  }
  return row;
}

float dot(const GoboMatrix& w, const float* column, const float* a) {
  const int64_t height = height_of(w.bits, w.rows);
  float total = 0;
  for (int64_t start = 0; start < w.rows; start += height) {
    float sum = 0;
    for (int64_t k = start; k < std::min(start + height, w.rows); ++k) {
      sum = std::fma(a[k], column[k], sum);
    }
    total = start == 0 ? sum : total + sum;
  }
  return total;
}

float dot_int8(const GoboMatrix& w, int64_t n, const int8_t* column, const float* a,
               const Row& row) {
  if (!row.finite) return std::numeric_limits<float>::quiet_NaN();
  int32_t sum = 0;
  for (int64_t k = 0; k < w.rows; ++k) sum += row.u[k] * column[k];
  sum -= row.zero * w.column_sums[n];
  float outliers = 0;
  for (uint32_t i = w.starts[n]; i < w.starts[n + 1]; ++i) {
    outliers += a[w.outlier_rows[i]] * w.values[i];
  }
  return static_cast<float>(sum) * (row.scale * w.table_scale[w.group_of(n)]) + outliers;
}

}  // namespace

void matmul(const GoboMatrix& w, const float* a, int64_t m, const float* bias, float* y,
            const ForEach& for_each) {
  std::vector<Row> rows;
  for (int64_t i = 0; w.int8 && i < m; ++i) rows.push_back(quantize(a + i * w.rows, w.rows));
  for_each(w.columns, [&](size_t task) {
    const int64_t n = static_cast<int64_t>(task);
    std::vector<float> column(w.int8 ? 0 : w.rows);
    std::vector<int8_t> column_int8(w.int8 ? w.rows : 0);
    if (w.int8) {
      decode_column_int8(w, n, column_int8.data());
    } else {
      decode_column(w, n, column.data());
    }
    for (int64_t i = 0; i < m; ++i) {
      const float* row = a + i * w.rows;
      const float sum = w.int8 ? dot_int8(w, n, column_int8.data(), row, rows[i])
                               : dot(w, column.data(), row);
      y[i * w.columns + n] = bias ? sum + bias[n] : sum;
    }
  });
}

const char* kernels_in_use() { return "portable C++"; }

}  // namespace sardonyx
