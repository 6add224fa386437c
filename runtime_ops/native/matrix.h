// A weight matrix in GOBO form, checked once when the session is created.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensor.h"

namespace sardonyx {

// The attributes and constant inputs of a GOBO op. The arrays must outlive the matrix.
struct Encoded {
  int bits;
  std::vector<int64_t> shape;  // [K, N]
  std::string compute;         // "fp32" or "int8"
  Tensor indices, centroids, positions, values;
};

// W [K, N]: views of the session's constants, and what is derived from them once.
struct GoboMatrix {
  int bits;
  int64_t rows, columns, groups;       // K, N, centroid tables
  const uint8_t* indices;              // [N/16, K/32, bits, 16, 4]
  const float* centroids;              // [groups, 2^bits]
  const float* values;                 // the outliers, column after column
  std::vector<uint32_t> starts;        // [N + 1]: column n has outliers starts[n] .. starts[n + 1]
  std::vector<uint32_t> outlier_rows;  // row k of each outlier, in the order of values
  bool int8;                           // compute = "int8"

  // Columns that share a centroid table; the last group's may be fewer.
  int64_t group_columns() const { return (columns + groups - 1) / groups; }
};

// Raises Error where anything in `encoded` is not what a GOBO op may be given.
GoboMatrix make_matrix(const Encoded& encoded);

// Column n of W as the op means it: [K] floats, outliers put back.
void decode_column(const GoboMatrix& w, int64_t n, float* out);

}  // namespace sardonyx
