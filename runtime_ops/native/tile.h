// Products with a tile of columns: what matmul.cpp asks of each instruction set.
#pragma once

#include "layout.h"

namespace sardonyx {

constexpr int kTilePanels = 4;
constexpr int kTileColumns = kTilePanels * kLanes;

// Rows of a member's part that are decoded, and whose products are summed, at once: a run. A piece
// is a member's run; pieces follow each other run by run, then member by member.
constexpr int64_t kRun = 96;

static constexpr int64_t runs_of(int bits, int64_t rows) {
  return ceil_div(height_of(bits, rows), kRun);
}
static constexpr int64_t pieces_of(int bits, int64_t rows) {
  return runs_of(bits, rows) * members_of(bits);
}

// At most kTileColumns columns of W, and the rows of A they are multiplied with.
struct Tile {
  int bits;
  int64_t rows;  // K
  int columns;
  bool one_table;          // all columns have the same centroids
  const uint8_t* indices;  // of the tile's first panel
  const float* bias;       // of its first column, or null
  int64_t m;
  float* y;  // its first column
  int64_t y_stride;
};

static inline int panels_of(const Tile& t) {
  return (t.columns + kLanes - 1) / kLanes;
}

// y = a W + bias. Of each column and piece, products are added to 0 in the order of k, by fused
// multiply-add; the pieces' sums are added in their order, then the bias. For one row, up to 4 bits
// and one table, outliers count as 0 in that (which makes NaN of an infinite a), and their products
// are added, in the same order, to a sum of their own, which is added before the bias.
// (kernels_portable.cpp rounds a product before it is added where the processor has no fused
// multiply-add.)
struct Fp32Tile : Tile {
  const float* a;                        // [m, K]
  const float* centroids[kTileColumns];  // of each column
  const uint32_t* starts;  // of piece i, panel p: starts[i kTilePanels + p] .. the next of starts
  const uint16_t* places;  // of each outlier: kTileColumns row of the piece + column of the tile
  const float* values;
};

// y = s (t ((u - z) q) + outliers of (u - z) value) + bias, with s and z of the row, t of the
// column.
struct Int8Tile : Tile {
  const uint8_t* u;                    // [m, K rounded up to 32] in the order of `quantize`
  const uint8_t* u_columns;            // its transpose, m rounded up to 16; not read for one row
  const float* scales;                 // [m] s
  const int32_t* zero_points;          // [m] z
  const int8_t* tables[kTileColumns];  // of each column: q of an index, at least 16
  const float* table_scales;           // [columns] t
  const int32_t* column_sums;          // [columns] of q
  const uint32_t* starts;   // outliers of panel p of the tile: starts[p] .. starts[p + 1]
  const uint32_t* places;   // of each: 16 place in a row of u + lane
  const float* values;      // w - t q, q the integer of its index
  const float* value_sums;  // [columns]
};

// Up to 16 rows of A [m, K] as uint8.
struct Rows {
  int bits;
  int64_t rows;  // K
  const float* a;
  int64_t m;
  uint8_t* natural;    // scratch: K rounded up to 32
  uint8_t* u;          // [m, K rounded up to 32]: block by block, of each block
                       // member by member, of each member word by word
  uint8_t* u_columns;  // first row of the transpose, or null
  int64_t u_columns_stride;
  float* scales;
  int32_t* zero_points;
};

struct TileKernels {
  const char* name;
  int64_t (*fp32_scratch)(const Tile&);  // bytes that the next one wants, aligned to 64
  void (*fp32)(const Fp32Tile&, void* scratch);
  int64_t (*int8_scratch)(const Tile&);
  void (*int8)(const Int8Tile&, void* scratch);
  void (*quantize)(const Rows&);
};

extern const TileKernels kPortableKernels, kAvx2Kernels, kAvx512Kernels;

}  // namespace sardonyx
