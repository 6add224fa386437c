// y = a W + bias in float32. Several rows: a piece of W is decoded into the cache, then multiplied.
#pragma once

#include "decode.inl"
#include "tile.h"

namespace sardonyx {
namespace {

constexpr int kPairColumns = kPanels * kLanes;

// Rows of a piece that exist: the last member's part may end beyond K.
inline int64_t rows_of_piece(const Tile& t, int64_t run, int64_t k) {
  const int64_t left = height_of(t.bits, t.rows) - run * kRun;
  const int64_t count = left < kRun ? left : kRun;
  return t.rows - k < count ? t.rows - k : count;
}

// What is decoded after run r: its next one, or the first of the panel `panels` on; J's share of
// it.
template <int BITS, int J>
inline Ahead ahead_of(const Tile& t, int panel, int64_t r, int panels) {
  constexpr int step = BITS * kPlaneBytes / members_of(BITS);
  constexpr int64_t blocks = kRun / member_rows_of(BITS);
  const bool last = r + 1 == runs_of(BITS, t.rows);
  const uint8_t* next = t.indices + panel_bytes_of(BITS, t.rows) * (last ? panel + panels : panel);
  return {next + (last ? 0 : (r + 1) * blocks * BITS * kPlaneBytes) + J * blocks * step, step};
}

template <int BITS>
inline const uint8_t* run_of(const Tile& t, int panel, int64_t r) {
  return t.indices + panel_bytes_of(BITS, t.rows) * panel +
         r * (kRun / member_rows_of(BITS)) * BITS * kPlaneBytes;
}

// Starts of the outliers of member J's pieces of run r.
template <int BITS, int J>
inline const uint32_t* starts_of(const Fp32Tile& t, int64_t r) {
  return t.starts + (r * members_of(BITS) + J) * kTilePanels;
}

template <int BITS, int J, int S = 0, class Table>
inline void decode_block(const uint8_t* block, const Table& table, float* out) {
  constexpr int W = words_of(BITS);
  const B64 index = indices_of<BITS, S, J>(block);
  store_f(out + S * kPairColumns, table.at(index));
  store_f(out + (W + S) * kPairColumns, table.at(right<8>(index)));
  store_f(out + (2 * W + S) * kPairColumns, table.at(right<16>(index)));
  store_f(out + (3 * W + S) * kPairColumns, table.at(right<24>(index)));
  if constexpr (S + 1 < W) decode_block<BITS, J, S + 1>(block, table, out);
}

template <int BITS, int J, class Table>
void decode_blocks(const uint8_t* blocks, int64_t count, const Table& table, Ahead ahead,
                   float* out) {
  for (int64_t b = 0; b < count; ++b) {
    ahead.touch();
    decode_block<BITS, J>(blocks + b * BITS * kPlaneBytes, table,
                          out + b * member_rows_of(BITS) * kPairColumns);
  }
}

// Member J's piece of run r of a panel: floats [rows of the piece][kPairColumns], of which 16 are
// written.
template <int BITS, int J>
void decode_piece(const Fp32Tile& t, int panel, int64_t r, int64_t rows, float* out) {
  const uint8_t* blocks = run_of<BITS>(t, panel, r);
  const int64_t count = ceil_div(rows, member_rows_of(BITS));
  const Ahead ahead = ahead_of<BITS, J>(t, panel, r, kPanels);
  const float* const* centroids = t.centroids + panel * kLanes;
  bool done = false;
  if constexpr (BITS <= 4) {
    if (t.one_table) {
      decode_blocks<BITS, J>(blocks, count, FloatTable<BITS>(centroids[0]), ahead, out);
      done = true;
    }
  }
  if (!done) {
    int32_t offsets[kLanes];
    for (int n = 0; n < kLanes; ++n) offsets[n] = (int32_t)(centroids[n] - centroids[0]);
    decode_blocks<BITS, J>(blocks, count, WideFloatTable{centroids[0], load_i(offsets)}, ahead,
                           out);
  }
  const uint32_t* starts = starts_of<BITS, J>(t, r);
  for (uint32_t o = starts[panel]; o < starts[panel + 1]; ++o)
    out[t.places[o] / kTileColumns * kPairColumns + t.places[o] % kLanes] = t.values[o];
}

// sums [ROWS][kTileColumns] += a [ROWS] times a decoded piece. Never inlined, so that the compiler
// keeps the sums in registers.
template <int ROWS>
__attribute__((noinline)) void add_product(const float* a, int64_t a_stride, const float* piece,
                                           int64_t rows, float* sums) {
  F16 acc[ROWS][kPanels];
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) acc[i][p] = zero_f();
  for (int64_t k = 0; k < rows; ++k) {
    F16 w[kPanels];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) w[p] = load_f(piece + k * kPairColumns + p * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i) {
      const F16 x = broadcast_f(a[i * a_stride + k]);
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) acc[i][p] = fma(x, w[p], acc[i][p]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      float* sum = sums + i * kTileColumns + p * kLanes;
      store_f(sum, add(load_f(sum), acc[i][p]));
    }
}

template <int ROWS = kRows>
void add_products(int64_t m, const float* a, int64_t a_stride, const float* piece, int64_t rows,
                  float* sums) {
  for (; m >= ROWS; m -= ROWS, a += ROWS * a_stride, sums += ROWS * kTileColumns)
    add_product<ROWS>(a, a_stride, piece, rows, sums);
  if constexpr (ROWS > 1)
    if (m) add_products<ROWS - 1>(m, a, a_stride, piece, rows, sums);
}

void finish(const Tile& t, const float* sums) {
  for (int p = 0; p < panels_of(t); ++p) {
    const int n = p * kLanes, count = t.columns - n < kLanes ? t.columns - n : kLanes;
    const F16 bias = t.bias ? load_some(t.bias + n, count) : zero_f();
    for (int64_t i = 0; i < t.m; ++i)
      store_some(t.y + i * t.y_stride + n, add(load_f(sums + i * kTileColumns + n), bias), count);
  }
}

template <int BITS, int J = 0>
void add_run(const Fp32Tile& t, int panel, int64_t r, float* piece, float* sums) {
  const int64_t k = J * height_of(BITS, t.rows) + r * kRun, rows = rows_of_piece(t, r, k);
  if (rows > 0) {
    for (int p = 0; p < kPanels && panel + p < panels_of(t); ++p)
      decode_piece<BITS, J>(t, panel + p, r, rows, piece + p * kLanes);
    add_products(t.m, t.a + k, t.rows, piece, rows, sums + panel * kLanes);
  }
  if constexpr (J + 1 < members_of(BITS)) add_run<BITS, J + 1>(t, panel, r, piece, sums);
}

template <int BITS>
void fp32_rows(const Fp32Tile& t, float* scratch) {
  float* piece = scratch;
  float* sums = piece + kRun * kPairColumns;
  for (int64_t i = 0; i < t.m * kTileColumns; i += kLanes) store_f(sums + i, zero_f());
  for (int panel = 0; panel < panels_of(t); panel += kPanels)
    for (int64_t r = 0; r < runs_of(BITS, t.rows); ++r) add_run<BITS>(t, panel, r, piece, sums);
  finish(t, sums);
}

}  // namespace
}  // namespace sardonyx
