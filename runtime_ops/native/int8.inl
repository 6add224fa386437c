// y = a W + bias with a in uint8 and centroids in 7 bits: integer sums, scaled once.
#pragma once

#include <string.h>

#include "decode.inl"
#include "kernels.h"

namespace sardonyx {
namespace {

constexpr int kQuads = 8;  // of four rows, in a block

// Where index byte (lane, t) of a quad finds its weight.
struct WideByteTable {
  const int8_t* const* tables;
  B64 at(B64 index) const {
    uint8_t bytes[64];
    store_b(bytes, index);
    for (int i = 0; i < 64; ++i) bytes[i] = (uint8_t)tables[i / 4][bytes[i]];
    return load_b(bytes);
  }
};

template <int BITS, int Q = 0, class Table>
inline void decode_quads(const uint8_t* block, const Table& table, uint8_t* out, int stride) {
  constexpr int S = Q % words(BITS), J = Q / words(BITS);
  store_b(out + Q * stride, table.at(indices_of<BITS, S, J>(block)));
  if constexpr (Q + 1 < kQuads) decode_quads<BITS, Q + 1>(block, table, out, stride);
}

template <int BITS, class Table>
void decode_panel(const uint8_t* blocks, int64_t count, const Table& table, uint8_t* out, int stride) {
  for (int64_t b = 0; b < count; ++b) {
    for (int i = 0; i < BITS; ++i) prefetch(blocks + kPanels * panel_bytes(BITS, count) + (b * BITS + i) * 64);
    decode_quads<BITS>(blocks + b * BITS * 64, table, out + b * kQuads * stride, stride);
  }
}

template <int BITS>
void decode_int8(const Int8Tile& t, uint8_t* tile) {
  constexpr int stride = kPanels * 64;
  for (int p = 0; p * kLanes < t.columns; ++p) {
    const uint8_t* blocks = t.indices + panel_bytes(BITS, t.blocks) * p;
    const int8_t* const* tables = t.tables + p * kLanes;
    if constexpr (BITS <= 4) {
      if (t.one_table) {
        decode_panel<BITS>(blocks, t.blocks, ByteTable(tables[0]), tile + p * 64, stride);
        continue;
      }
    }
    decode_panel<BITS>(blocks, t.blocks, WideByteTable{tables}, tile + p * 64, stride);
  }
}

template <int ROWS>
__attribute__((noinline)) void int8_product(const uint8_t* a, int64_t a_stride, const uint8_t* tile, int64_t quads, int32_t* sums) {
  constexpr int stride = kPanels * 64, columns = kPanels * kLanes;
  I16 acc[ROWS][kPanels];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) acc[r][p] = zero_i();
  for (int64_t q = 0; q < quads; ++q) {
    B64 w[kPanels];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) w[p] = load_b(tile + q * stride + p * 64);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) acc[r][p] = dot(acc[r][p], a + r * a_stride + q * 4, w[p]);
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) store_i(sums + r * columns + p * kLanes, acc[r][p]);
}

template <int ROWS>
void int8_rest(int64_t m, const uint8_t* a, int64_t a_stride, const uint8_t* tile, int64_t quads, int32_t* sums) {
  if (m == ROWS) {
    int8_product<ROWS>(a, a_stride, tile, quads, sums);
  } else if constexpr (ROWS > 1) {
    int8_rest<ROWS - 1>(m, a, a_stride, tile, quads, sums);
  }
}

// Sums of u * value over the outliers of each column: float [columns][m rounded up to 16].
void outlier_products(const Int8Tile& t, int64_t wide, float* out) {
  memset(out, 0, kPanels * kLanes * wide * sizeof(float));
  for (int p = 0; p * kLanes < t.columns; ++p, out += kLanes * wide)
    for (uint32_t o = t.starts[p]; o < t.starts[p + 1]; ++o) {
      const uint8_t* u = t.a_columns + t.places[o] / kLanes * wide;
      float* sums = out + t.places[o] % kLanes * wide;
      const F16 value = broadcast_f(t.values[o]);
      for (int64_t m = 0; m < wide; m += kLanes)
        store_f(sums + m, fma(widen_u8(u + m), value, load_f(sums + m)));
    }
}

// What a panel's sums are turned into y with.
struct Finish {
  I16 column_sum;
  F16 scale, value_sum, bias;
  float* y;
  int columns;

  Finish(const Int8Tile& t, int panel) {
    const int n = panel * kLanes;
    columns = t.columns - n < kLanes ? t.columns - n : kLanes;
    y = t.y + n;
    int32_t sums[kLanes] = {};
    memcpy(sums, t.column_sums + n, columns * sizeof(int32_t));
    column_sum = load_i(sums);
    scale = load_some(t.table_scales + n, columns);
    value_sum = load_some(t.value_sums + n, columns);
    bias = t.bias ? load_some(t.bias + n, columns) : zero_f();
  }

  // s (t (acc - z sum) + (products - z values)) + bias
  void row(const Int8Tile& t, int64_t m, I16 acc, F16 products) const {
    const int32_t z = t.zero_points[m];
    const F16 product = to_float(sub(acc, mul(broadcast_i(z), column_sum)));
    const F16 outliers = sub(products, mul(broadcast_f((float)z), value_sum));
    const F16 sum = add(mul(broadcast_f(t.scales[m]), add(mul(product, scale), outliers)), bias);
    store_some(y + m * t.y_stride, sum, columns);
  }
};

void finish_panel(const Int8Tile& t, int panel, int64_t wide, const int32_t* sums, const float* products) {
  const Finish finish(t, panel);
  for (int64_t m = 0; m < t.m; m += kLanes) {
    F16 rows[kLanes];
    for (int i = 0; i < kLanes; ++i) rows[i] = load_f(products + i * wide + m);
    transpose(rows);
    const int64_t end = t.m - m < kLanes ? t.m - m : kLanes;
    for (int64_t i = 0; i < end; ++i)
      finish.row(t, m + i, load_i(sums + (m + i) * kPanels * kLanes + panel * kLanes), rows[i]);
  }
}

template <int BITS, int Q = 0>
inline void dot_block(const uint8_t* block, const uint8_t* a, const ByteTable& table, I16 (&acc)[4]) {
  constexpr int S = Q % words(BITS), J = Q / words(BITS);
  acc[Q % 4] = dot(acc[Q % 4], a + Q * 4, table.at(indices_of<BITS, S, J>(block)));
  if constexpr (Q + 1 < kQuads) dot_block<BITS, Q + 1>(block, a, table, acc);
}

// One row: weights stay in registers.
template <int BITS>
void int8_row(const Int8Tile& t) {
  constexpr int64_t far = 2048;
  const ByteTable table(t.tables[0]);
  const uint8_t* block = t.indices;
  for (int p = 0; p * kLanes < t.columns; ++p) {
    I16 acc[4] = {zero_i(), zero_i(), zero_i(), zero_i()};
    for (int64_t b = 0; b < t.blocks; ++b, block += BITS * 64) {
      for (int i = 0; i < BITS; ++i) prefetch(block + far + i * 64);
      dot_block<BITS>(block, t.a + b * kBlock, table, acc);
    }
    float products[kLanes] = {};
    for (uint32_t o = t.starts[p]; o < t.starts[p + 1]; ++o)
      products[t.places[o] % kLanes] += t.a[t.places[o] / kLanes] * t.values[o];
    Finish(t, p).row(t, 0, add(add(acc[0], acc[1]), add(acc[2], acc[3])), load_f(products));
  }
}

template <int BITS>
void int8_tile(const Int8Tile& t, void* scratch) {
  if constexpr (BITS <= 4) {
    if (t.m == 1 && t.one_table) return int8_row<BITS>(t);
  }
  const int64_t quads = t.blocks * kQuads, wide = (t.m + kLanes - 1) / kLanes * kLanes, a_stride = t.blocks * kBlock;
  uint8_t* tile = (uint8_t*)scratch;
  int32_t* sums = (int32_t*)(tile + quads * kPanels * 64);
  float* products = (float*)(sums + wide * kPanels * kLanes);
  decode_int8<BITS>(t, tile);
  for (int64_t i = 0; i < t.m; ++i)
    for (int n = 0; n < t.columns; n += kLanes) prefetch_to_write(t.y + i * t.y_stride + n);
  int64_t m = 0;
  for (; m + kRows <= t.m; m += kRows)
    int8_product<kRows>(t.a + m * a_stride, a_stride, tile, quads, sums + m * kPanels * kLanes);
  if (m < t.m) int8_rest<kRows - 1>(t.m - m, t.a + m * a_stride, a_stride, tile, quads, sums + m * kPanels * kLanes);
  outlier_products(t, wide, products);
  for (int p = 0; p * kLanes < t.columns; ++p)
    finish_panel(t, p, wide, sums, products + p * kLanes * wide);
}

void int8(const Int8Tile& t, void* scratch) {
  switch (t.bits) {
    case 2: return int8_tile<2>(t, scratch);
    case 3: return int8_tile<3>(t, scratch);
    case 4: return int8_tile<4>(t, scratch);
    case 5: return int8_tile<5>(t, scratch);
    case 6: return int8_tile<6>(t, scratch);
    case 7: return int8_tile<7>(t, scratch);
    default: return int8_tile<8>(t, scratch);
  }
}

int64_t int8_scratch(const Tile& t) {
  const int64_t wide = (t.m + kLanes - 1) / kLanes * kLanes;
  return t.blocks * kQuads * kPanels * 64 + wide * kPanels * kLanes * 8;
}

}  // namespace
}  // namespace sardonyx
