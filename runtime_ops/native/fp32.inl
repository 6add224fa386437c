// y = a W + bias in float32: decode a run of rows of a tile into the cache, multiply, go on.
#pragma once

#include "decode.inl"
#include "kernels.h"

namespace sardonyx {
namespace {

// sums += a[rows] times a run [count, P * 16]; each sum of products begins at 0.
template <int ROWS, int P>
__attribute__((noinline)) void product_of_run(const float* a, int64_t a_stride, const float* run, int64_t count, int stride,
                           float* sums, int sums_stride, bool first) {
  F16 acc[ROWS][P];
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) acc[r][p] = zero_f();
  for (int64_t k = 0; k < count; ++k) {
    F16 w[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) w[p] = load_f(run + k * stride + p * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < ROWS; ++r) {
      const F16 x = broadcast_f(a[r * a_stride + k]);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) acc[r][p] = fma(x, w[p], acc[r][p]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) {
      float* sum = sums + r * sums_stride + p * kLanes;
      store_f(sum, first ? acc[r][p] : add(load_f(sum), acc[r][p]));
    }
}

template <int ROWS>
void product_of_rest(int64_t m, const float* a, int64_t a_stride, const float* run, int64_t count,
                     float* sums, bool first) {
  constexpr int stride = kPanels * kLanes;
  if (m == ROWS) {
    product_of_run<ROWS, kPanels>(a, a_stride, run, count, stride, sums, stride, first);
  } else if constexpr (ROWS > 1) {
    product_of_rest<ROWS - 1>(m, a, a_stride, run, count, sums, first);
  }
}

void product(int64_t m, const float* a, int64_t a_stride, const float* run, int64_t count, float* sums,
             bool first) {
  constexpr int stride = kPanels * kLanes;
  for (; m >= kRows; m -= kRows) {
    product_of_run<kRows, kPanels>(a, a_stride, run, count, stride, sums, stride, first);
    a += kRows * a_stride;
    sums += kRows * stride;
  }
  if (m) product_of_rest<kRows - 1>(m, a, a_stride, run, count, sums, first);
}

// Put the outliers of a piece where the run has their column.
inline void put_outliers(const Fp32Tile& t, int64_t piece, float* run, int stride) {
  for (uint32_t o = t.starts[piece]; o < t.starts[piece + 1]; ++o)
    run[(t.places[o] / kLanes) * stride + t.places[o] % kLanes] = t.values[o];
}

inline int panels_of(const Tile& t) { return (t.columns + kLanes - 1) / kLanes; }

// Of panel p: member j's share of run r + 1, or of the first one of the panel `panels` on.
template <int BITS>
inline Ahead ahead_of(const Tile& t, int p, int64_t r, int j, int panels) {
  constexpr int M = members(BITS), step = BITS * 64 / M;
  constexpr int64_t blocks_a_run = kRun / (4 * words(BITS));
  const bool last = (r + 1) * blocks_a_run >= t.blocks;
  const uint8_t* run = t.indices + panel_bytes(BITS, t.blocks) * (last ? p + panels : p);
  return {run + (last ? 0 : (r + 1) * blocks_a_run * BITS * 64) + j * blocks_a_run * step, step};
}

template <int BITS>
void decode_tile(const Fp32Tile& t, int64_t r, int j, int64_t count, float* out, int stride) {
  constexpr int M = members(BITS), a_block = 4 * words(BITS);
  const int64_t pieces = pieces_of(BITS, t.blocks);
  for (int p = 0; p < panels_of(t); ++p, out += kLanes) {
    const uint8_t* blocks = t.indices + panel_bytes(BITS, t.blocks) * p + r * kRun / a_block * BITS * 64;
    const float* const* centroids = t.centroids + p * kLanes;
    const Ahead ahead = ahead_of<BITS>(t, p, r, j, kPanels);
    bool done = false;
    if constexpr (BITS <= 4) {
      if (t.one_table) {
        decode_member<BITS>(j, blocks, count / a_block, FloatTable<BITS>(centroids[0]), out, stride, ahead);
        done = true;
      }
    }
    if (!done) {
      int32_t offsets[kLanes];
      for (int n = 0; n < kLanes; ++n) offsets[n] = (int32_t)(centroids[n] - t.centroids[0]);
      decode_member<BITS>(j, blocks, count / a_block, WideTable{t.centroids[0], load_i(offsets)}, out, stride, ahead);
    }
    put_outliers(t, p * pieces + r * M + j, out, stride);
  }
}

void finish(const Tile& t, const float* sums, int stride) {
  for (int64_t m = 0; m < t.m; ++m)
    for (int n = 0; n < t.columns; ++n)
      t.y[m * t.y_stride + n] = t.bias ? sums[m * stride + n] + t.bias[n] : sums[m * stride + n];
}

// Indices of a piece of one panel, 64 a vector; those of outliers become one whose weight is 0.
template <int BITS, int J, int S = 0>
inline void indices_of_block(const uint8_t* block, uint8_t* out) {
  store_b(out + S * 64, indices_of<BITS, S, J>(block));
  if constexpr (S + 1 < words(BITS)) indices_of_block<BITS, J, S + 1>(block, out);
}

template <int BITS, int J>
void indices_of_piece(const uint8_t* blocks, int64_t count, uint8_t* out) {
  for (int64_t b = 0; b < count; ++b)
    indices_of_block<BITS, J>(blocks + b * BITS * 64, out + b * words(BITS) * 64);
}

template <int BITS, int T = 0, int S = 0>
inline void add_block(const float* a, const uint8_t* const (&indices)[kRowPanels],
                      const FloatOrZeroTable<BITS>& table, F16 (&sums)[kRowPanels]) {
  const F16 x = broadcast_f(a[T * words(BITS) + S]);
#pragma GCC unroll 4
  for (int p = 0; p < kRowPanels; ++p)
    sums[p] = fma(x, table.at(right<8 * T>(load_b(indices[p] + S * 64))), sums[p]);
  if constexpr (S + 1 < words(BITS)) {
    add_block<BITS, T, S + 1>(a, indices, table, sums);
  } else if constexpr (T + 1 < 4) {
    add_block<BITS, T + 1, 0>(a, indices, table, sums);
  }
}

// One row: weights stay in registers. Outliers count as 0 there; their products are added last.
template <int BITS>
void fp32_row(const Fp32Tile& t, void* scratch) {
  constexpr int M = members(BITS), W = words(BITS), a_block = 4 * W;
  constexpr int64_t piece_bytes = kRun * 16;
  const FloatOrZeroTable<BITS> table(t.centroids[0]);
  const int64_t height = t.blocks * a_block, pieces = pieces_of(BITS, t.blocks);
  uint8_t* indices = (uint8_t*)scratch;
  float sums[kRowPanels * kLanes] = {}, outliers[kRowPanels * kLanes] = {};
  const int panels = panels_of(t);
  const float* a = t.a;
  float* padded = (float*)(indices + kRowPanels * piece_bytes);
  for (int64_t r = 0; r * kRun < height; ++r) {
    const int64_t from = r * kRun, count = height - from < kRun ? height - from : kRun;
    for (int j = 0; j < M; ++j) {
      const int64_t k = j * height + from;
      if (k >= t.rows) continue;
      for (int p = 0; p < panels; ++p) {
        uint8_t* piece = indices + p * piece_bytes;
        const uint8_t* blocks = t.indices + panel_bytes(BITS, t.blocks) * p + from / a_block * BITS * 64;
        const int64_t n = count / a_block;
        if (j == 0) indices_of_piece<BITS, 0>(blocks, n, piece);
        if constexpr (M > 1) if (j == 1) indices_of_piece<BITS, 1>(blocks, n, piece);
        if constexpr (M > 2) if (j == 2) indices_of_piece<BITS, 2>(blocks, n, piece);
        if constexpr (M > 2) if (j == 3) indices_of_piece<BITS, 3>(blocks, n, piece);
        const int64_t which = p * pieces + r * M + j;
        for (uint32_t o = t.starts[which]; o < t.starts[which + 1]; ++o) {
          const int row = t.places[o] / kLanes, lane = t.places[o] % kLanes;
          piece[row / a_block * W * 64 + row % W * 64 + lane * 4 + row % a_block / W] = 1 << BITS;
          float* sum = outliers + p * kLanes + lane;
          *sum = __builtin_fmaf(a[k + row], t.values[o], *sum);
        }
      }
      const float* x = a + k;
      if (t.rows - k < count) {
        for (int64_t i = 0; i < count; ++i) padded[i] = k + i < t.rows ? a[k + i] : 0.0f;
        x = padded;
      }
      Ahead ahead[kRowPanels];
      for (int p = 0; p < kRowPanels; ++p) ahead[p] = ahead_of<BITS>(t, p, r, j, kRowPanels);
      F16 acc[kRowPanels];
#pragma GCC unroll 4
      for (int p = 0; p < kRowPanels; ++p) acc[p] = zero_f();
      for (int64_t b = 0; b < count / a_block; ++b) {
        const uint8_t* at[kRowPanels];
#pragma GCC unroll 4
        for (int p = 0; p < kRowPanels; ++p) {
          ahead[p].touch();
          at[p] = indices + p * piece_bytes + b * W * 64;
        }
        add_block<BITS>(x + b * a_block, at, table, acc);
      }
#pragma GCC unroll 4
      for (int p = 0; p < kRowPanels; ++p)
        store_f(sums + p * kLanes, add(load_f(sums + p * kLanes), acc[p]));
    }
  }
  for (int n = 0; n < t.columns; ++n) sums[n] += outliers[n];
  finish(t, sums, 0);
}

template <int BITS>
void fp32_tile(const Fp32Tile& t, void* scratch) {
  if constexpr (BITS <= 4) {
    if (t.m == 1 && t.one_table) return fp32_row<BITS>(t, scratch);
  }
  constexpr int stride = kPanels * kLanes, a_block = 4 * words(BITS);
  float* run = (float*)scratch;
  float* sums = run + kRun * stride;
  const int64_t height = t.blocks * a_block;
  bool first = true;
  for (int64_t r = 0; r * kRun < height; ++r) {
    const int64_t from = r * kRun, count = height - from < kRun ? height - from : kRun;
    for (int j = 0; j < members(BITS); ++j) {
      const int64_t k = j * height + from, used = t.rows - k < count ? t.rows - k : count;
      if (used <= 0) continue;
      decode_tile<BITS>(t, r, j, count, run, stride);
      product(t.m, t.a + k, t.rows, run, used, sums, first);
      first = false;
    }
  }
  finish(t, sums, stride);
}

void fp32(const Fp32Tile& t, void* scratch) {
  switch (t.bits) {
    case 2: return fp32_tile<2>(t, scratch);
    case 3: return fp32_tile<3>(t, scratch);
    case 4: return fp32_tile<4>(t, scratch);
    case 5: return fp32_tile<5>(t, scratch);
    case 6: return fp32_tile<6>(t, scratch);
    case 7: return fp32_tile<7>(t, scratch);
    default: return fp32_tile<8>(t, scratch);
  }
}

int64_t fp32_scratch(const Tile& t) {
  return ((kRun + t.m) * kPanels * kLanes + kRun) * sizeof(float) + kRowPanels * kRun * 16;
}

}  // namespace
}  // namespace sardonyx
