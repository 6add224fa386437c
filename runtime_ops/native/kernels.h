// What the products of one processor family offer to matmul.cpp.
#pragma once

#include <stdint.h>

#include "layout.h"

namespace sardonyx {

constexpr int kMostColumns = 64;  // of a tile

// Rows of a member's part that are decoded, and whose products are summed, at once: a run.
constexpr int64_t kRun = 96;

// One tile of columns of a GOBO matrix and the rows of A it is multiplied with.
struct Tile {
  int bits;
  int64_t rows, blocks;          // K, and K / 32 rounded up
  int columns;                   // of this tile
  const uint8_t* indices;        // of its first panel
  const float* centroids[kMostColumns];  // the table of each column
  bool one_table;                // all columns have the same
  const float* bias;             // of its first column, or null
  float* y;                      // its first column
  int64_t m, y_stride;
};

// Outliers lie panel after panel; of a panel's outliers those of run 0, member 0 come first.
struct Fp32Tile : Tile {
  const uint32_t* starts;        // outliers of piece i of the first panel: starts[i] .. starts[i + 1]
  const uint16_t* places;        // of each: 16 row of the piece + lane
  const float* values;
  const float* a;                // [m, K]
};

// Centroid q stands for the weight t q, and an outlier, whose index is 0, for t q[0] + its value here.
struct Int8Tile : Tile {
  const uint32_t* starts;        // outliers of panel p: starts[p] .. starts[p + 1]
  const uint32_t* places;        // of each: 16 place in a row of `a` + lane
  const float* values;
  const int8_t* tables[kMostColumns];  // of each column, 16 at least
  const float* table_scales;     // [columns]
  const int32_t* column_sums;    // [columns]
  const float* value_sums;       // [columns]
  const uint8_t* a;              // [m, K rounded up], in the order of `quantize`
  const uint8_t* a_columns;      // the transpose of `a`, m rounded up to 16; unused where m is 1
  const float* scales;           // [m]
  const int32_t* zero_points;    // [m]
};

// Pieces of a panel: its runs, of each run its members.
constexpr int64_t pieces_of(int bits, int64_t blocks) {
  return (blocks * 4 * words(bits) + kRun - 1) / kRun * members(bits);
}

struct Kernels {
  const char* name;
  int tile_columns, row_tile_columns;  // of a tile; where A is one row
  int64_t (*fp32_scratch)(const Tile&);   // bytes
  void (*fp32)(const Fp32Tile&, void* scratch);
  int64_t (*int8_scratch)(const Tile&);
  void (*int8)(const Int8Tile&, void* scratch);
  // Up to 16 rows of A, each as uint8 with a scale and a zero point.
  void (*quantize)(int bits, const float* a, int64_t m, int64_t rows, uint8_t* out, uint8_t* columns,
                   int64_t columns_stride, float* scales, int32_t* zero_points, uint8_t* scratch);
};

extern const Kernels kPortable, kAvx2, kAvx512;

}  // namespace sardonyx
