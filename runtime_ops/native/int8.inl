// y = a W + bias with A in uint8 and centroids in 7 bits: sums of integers, scaled once.
#pragma once

#include "decode.inl"
#include "tile.h"

namespace sardonyx {
namespace {

constexpr int kQuads = kBlockRows / 4;             // groups of four rows in a block
constexpr int kQuadBytes = kPanels * kPlaneBytes;  // of decoded weights

template <int BITS, int Q = 0, class Table>
inline void decode_quads(const uint8_t* block, const Table& table, uint8_t* out) {
  constexpr int S = Q % words_of(BITS), J = Q / words_of(BITS);
  store_b(out + Q * kQuadBytes, table.at(indices_of<BITS, S, J>(block)));
  if constexpr (Q + 1 < kQuads) decode_quads<BITS, Q + 1>(block, table, out);
}

template <int BITS, class Table>
void decode_panel(const uint8_t* blocks, int64_t count, const Table& table, uint8_t* out) {
  const int64_t far = kPanels * count * BITS * kPlaneBytes;
  for (int64_t b = 0; b < count; ++b) {
    const uint8_t* block = blocks + b * BITS * kPlaneBytes;
    for (int i = 0; i < BITS; ++i) prefetch(block + far + i * kPlaneBytes);
    decode_quads<BITS>(block, table, out + b * kQuads * kQuadBytes);
  }
}

// Panels `panel` on, as many as are multiplied at once: int8 [K/4][kPanels][16 lanes][4].
template <int BITS>
void decode_panels(const Int8Tile& t, int panel, uint8_t* out) {
  for (int p = panel; p < panel + kPanels && p < panels_of(t); ++p, out += kPlaneBytes) {
    const uint8_t* blocks = t.indices + panel_bytes_of(BITS, t.rows) * p;
    const int8_t* const* tables = t.tables + p * kLanes;
    if constexpr (BITS <= 4) {
      if (t.one_table) {
        decode_panel<BITS>(blocks, blocks_of(t.rows), ByteTable(tables[0]), out);
        continue;
      }
    }
    decode_panel<BITS>(blocks, blocks_of(t.rows), WideByteTable{tables}, out);
  }
}

// sums [ROWS][kTileColumns] = u [ROWS] times decoded panels.
template <int ROWS>
__attribute__((noinline)) void int8_product(const uint8_t* u, int64_t u_stride,
                                            const uint8_t* panels, int32_t* sums) {
  I16 acc[ROWS][kPanels];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) acc[i][p] = zero_i();
  for (int64_t k = 0; k < u_stride; k += 4) {
    B64 w[kPanels];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) w[p] = load_b(panels + k / 4 * kQuadBytes + p * kPlaneBytes);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) acc[i][p] = dot(acc[i][p], u + i * u_stride + k, w[p]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) store_i(sums + i * kTileColumns + p * kLanes, acc[i][p]);
}

// Rows are shared out evenly, `each` at a time: few rows alone would wait for their own sums.
template <int ROWS = kRows>
void int8_products(int64_t m, int64_t each, const uint8_t* u, int64_t u_stride,
                   const uint8_t* panels, int32_t* sums) {
  if (each == ROWS) {
    for (; m >= ROWS; m -= ROWS, u += ROWS * u_stride, sums += ROWS * kTileColumns)
      int8_product<ROWS>(u, u_stride, panels, sums);
    each = m;
  }
  if constexpr (ROWS > 1)
    if (m) int8_products<ROWS - 1>(m, each, u, u_stride, panels, sums);
}

inline int64_t wide_of(const Tile& t) {
  return ceil_div(t.m, kLanes) * kLanes;
}

// Adds u value of a panel's outliers to sums of one row, those of two lanes `stride` apart.
void add_outliers(const Int8Tile& t, int panel, float* sums, int64_t stride) {
  for (uint32_t o = t.starts[panel]; o < t.starts[panel + 1]; ++o) {
    float& sum = sums[t.places[o] % kLanes * stride];
    sum = fma((float)t.u[t.places[o] / kLanes], t.values[o], sum);
  }
}

// Sums of u value over each column's outliers: float [kTileColumns][m rounded up to 16].
void outlier_products(const Int8Tile& t, float* out) {
  const int64_t wide = wide_of(t);
  for (int64_t i = 0; i < kTileColumns * wide; i += kLanes) store_f(out + i, zero_f());
  for (int p = 0; p < panels_of(t); ++p, out += kLanes * wide) {
    if (t.m == 1) {
      add_outliers(t, p, out, wide);
      continue;
    }
    for (uint32_t o = t.starts[p]; o < t.starts[p + 1]; ++o) {
      const uint8_t* u = t.u_columns + t.places[o] / kLanes * wide;
      float* sums = out + t.places[o] % kLanes * wide;
      const F16 value = broadcast_f(t.values[o]);
      for (int64_t i = 0; i < wide; i += kLanes)
        store_f(sums + i, fma(widen_u8(u + i), value, load_f(sums + i)));
    }
  }
}

// Turns a panel's sums into y.
struct Finish {
  int columns;
  I16 column_sum;
  F16 scale, value_sum, bias;

  Finish(const Int8Tile& t, int panel) {
    const int n = panel * kLanes;
    columns = t.columns - n < kLanes ? t.columns - n : kLanes;
    column_sum = load_some(t.column_sums + n, columns);
    scale = load_some(t.table_scales + n, columns);
    value_sum = load_some(t.value_sums + n, columns);
    bias = t.bias ? load_some(t.bias + n, columns) : zero_f();
  }

  // s (t (sums - z column_sum) + (outliers - z value_sum)) + bias
  void row(int32_t z, float s, I16 sums, F16 outliers, float* y) const {
    const F16 product = mul(to_float(sub(sums, mul(broadcast_i(z), column_sum))), scale);
    const F16 exact = sub(outliers, mul(broadcast_f((float)z), value_sum));
    store_some(y, add(mul(broadcast_f(s), add(product, exact)), bias), columns);
  }
};

// Rows are written whole: a tile's rows may be a power of two apart and share one set of the cache.
void finish_tile(const Int8Tile& t, const int32_t* sums, const float* outliers) {
  const int64_t wide = wide_of(t);
  const int panels = panels_of(t);
  const Finish finish[kTilePanels] = {
      {t, 0}, {t, panels > 1}, {t, panels > 2 ? 2 : 0}, {t, panels > 3 ? 3 : 0}};
  for (int64_t first = 0; first < t.m; first += kLanes) {
    float turned[kTilePanels][kLanes][kLanes];  // [panel][row][column]
    for (int p = 0; p < panels; ++p)
      transpose(outliers + p * kLanes * wide + first, wide, turned[p]);
    const int64_t rows = t.m - first < kLanes ? t.m - first : kLanes;
    for (int64_t i = 0; i < rows; ++i)
      for (int p = 0; p < panels; ++p) {
        const int64_t m = first + i;
        finish[p].row(t.zero_points[m], t.scales[m], load_i(sums + m * kTileColumns + p * kLanes),
                      load_f(turned[p][i]), t.y + m * t.y_stride + p * kLanes);
      }
  }
}

template <int BITS>
void int8_rows(const Int8Tile& t, uint8_t* scratch) {
  const int64_t wide = padded_rows_of(t.rows);
  uint8_t* panels = scratch;
  int32_t* sums = (int32_t*)(panels + wide / 4 * kQuadBytes);
  float* outliers = (float*)(sums + t.m * kTileColumns);
  const int64_t each = ceil_div(t.m, ceil_div(t.m, kRows));
  for (int panel = 0; panel * kLanes < t.columns; panel += kPanels) {
    decode_panels<BITS>(t, panel, panels);
    int8_products(t.m, each, t.u, wide, panels, sums + panel * kLanes);
  }
  outlier_products(t, outliers);
  finish_tile(t, sums, outliers);
}

template <int BITS, int Q = 0>
inline void dot_block(const uint8_t* block, const uint8_t* u, const ByteTable& table,
                      I16 (&sums)[4]) {
  constexpr int S = Q % words_of(BITS), J = Q / words_of(BITS);
  sums[Q % 4] = dot(sums[Q % 4], u + Q * 4, table.at(indices_of<BITS, S, J>(block)));
  if constexpr (Q + 1 < kQuads) dot_block<BITS, Q + 1>(block, u, table, sums);
}

// One row: weights never leave the registers.
template <int BITS>
void int8_row(const Int8Tile& t) {
  constexpr int far = 2048;
  const ByteTable table(t.tables[0]);
  const uint8_t* block = t.indices;
  for (int p = 0; p < panels_of(t); ++p) {
    I16 sums[4] = {zero_i(), zero_i(), zero_i(), zero_i()};
    for (int64_t b = 0; b < blocks_of(t.rows); ++b, block += BITS * kPlaneBytes) {
      for (int i = 0; i < BITS; ++i) prefetch(block + far + i * kPlaneBytes);
      dot_block<BITS>(block, t.u + b * kBlockRows, table, sums);
    }
    float outliers[kLanes] = {};
    add_outliers(t, p, outliers, 1);
    const I16 sum = add(add(sums[0], sums[1]), add(sums[2], sums[3]));
    Finish(t, p).row(t.zero_points[0], t.scales[0], sum, load_f(outliers), t.y + p * kLanes);
  }
}

}  // namespace
}  // namespace sardonyx
