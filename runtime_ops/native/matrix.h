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
  bool int8;                           // compute = "int8", for which alone the rest is filled
  std::vector<int8_t> table;           // [groups, 2^bits]: centroids in 7 bits, -63 to 63
  std::vector<float> table_scale;      // [groups]
  std::vector<int32_t> column_sums;    // [N]: sum over k of the table's entries, 0 at outliers

  // Number of the centroid table of column n.
  int64_t group_of(int64_t n) const { return n / ((columns + groups - 1) / groups); }
};

// Raises Error where anything in `encoded` is not what a GOBO op may be given.
GoboMatrix make_matrix(const Encoded& encoded);

// Column n of W as the op means it: [K] floats, outliers put back.
void decode_column(const GoboMatrix& w, int64_t n, float* out);

// Column n of the 7-bit matrix of compute = "int8": [K], 0 at outliers.
void decode_column_int8(const GoboMatrix& w, int64_t n, int8_t* out);

}  // namespace sardonyx
