// y = a W + bias in float32 where A is one row: weights never leave the registers.
//
// Each outlier's index is replaced by one whose weight is 0; their products are added last.
#pragma once

#include "fp32.inl"

namespace sardonyx {
namespace {

constexpr int64_t kPieceBytes = kRun * kLanes;

template <int BITS, int J, int S = 0>
inline void store_indices(const uint8_t* block, uint8_t* out) {
  store_b(out + S * kPlaneBytes, indices_of<BITS, S, J>(block));
  if constexpr (S + 1 < words_of(BITS)) store_indices<BITS, J, S + 1>(block, out);
}

// Indices of a panel's piece: [block][S][lane][t].
template <int BITS, int J>
void read_piece(const uint8_t* block, int64_t blocks, uint8_t* out) {
  for (int64_t b = 0; b < blocks; ++b, block += BITS * kPlaneBytes)
    store_indices<BITS, J>(block, out + b * words_of(BITS) * kPlaneBytes);
}

// Replaces outliers' indices in the pieces of a run; adds their products to `sums`.
template <int BITS, int J>
void take_outliers(const Fp32Tile& t, int64_t r, const float* a, uint8_t* indices, float* sums) {
  constexpr unsigned W = words_of(BITS), block_rows = member_rows_of(BITS);
  const uint32_t* starts = starts_of<BITS, J>(t, r);
  const uint32_t end = starts[kTilePanels];
  const uint16_t* places = t.places;  // not read again after each byte that is written
  const float* values = t.values;
  for (uint32_t o = starts[0]; o < end; ++o) {
    const unsigned row = places[o] / kTileColumns, n = places[o] % kTileColumns;
    const unsigned in_block = row % block_rows;
    uint8_t* words = indices + n / kLanes * kPieceBytes + row / block_rows * W * kPlaneBytes;
    words[in_block % W * kPlaneBytes + n % kLanes * 4 + in_block / W] = 1 << BITS;
    sums[n] = fma(a[row], values[o], sums[n]);
  }
}

template <int BITS, int T = 0, int S = 0>
inline void add_block(const float* a, const uint8_t* indices, const FloatOrZeroTable<BITS>& table,
                      F16 (&sums)[kTilePanels]) {
  const F16 x = broadcast_f(a[T * words_of(BITS) + S]);
#pragma GCC unroll 4
  for (int p = 0; p < kTilePanels; ++p) {
    // begun at byte T, which spares a shift; only the low byte of a lane counts
    const B64 index = load_b(indices + p * kPieceBytes + S * kPlaneBytes + T);
    sums[p] = fma(x, table.at(index), sums[p]);
  }
  if constexpr (S + 1 < words_of(BITS)) {
    add_block<BITS, T, S + 1>(a, indices, table, sums);
  } else if constexpr (T + 1 < 4) {
    add_block<BITS, T + 1, 0>(a, indices, table, sums);
  }
}

template <int BITS, int J>
__attribute__((noinline)) void add_pieces(const Fp32Tile& t, int64_t r, const float* a,
                                          int64_t blocks, const uint8_t* indices, float* sums) {
  const FloatOrZeroTable<BITS> table(t.centroids[0]);
  Ahead ahead[kTilePanels];
  for (int p = 0; p < kTilePanels; ++p) ahead[p] = ahead_of<BITS, J>(t, p, r, kTilePanels);
  F16 acc[kTilePanels];
#pragma GCC unroll 4
  for (int p = 0; p < kTilePanels; ++p) acc[p] = zero_f();
  for (int64_t b = 0; b < blocks; ++b) {
#pragma GCC unroll 4
    for (int p = 0; p < kTilePanels; ++p) ahead[p].touch();
    add_block<BITS>(a + b * member_rows_of(BITS), indices + b * words_of(BITS) * kPlaneBytes, table,
                    acc);
  }
#pragma GCC unroll 4
  for (int p = 0; p < kTilePanels; ++p)
    store_f(sums + p * kLanes, add(load_f(sums + p * kLanes), acc[p]));
}

struct RowScratch {
  uint8_t indices[kTilePanels * kPieceBytes + 64];  // add_block reads 3 bytes beyond the last
  float sums[kTileColumns], outliers[kTileColumns], last[kRun];
};

template <int BITS, int J = 0>
void add_row_run(const Fp32Tile& t, int64_t r, RowScratch& scratch) {
  const int64_t k = J * height_of(BITS, t.rows) + r * kRun, rows = rows_of_piece(t, r, k);
  if (rows > 0) {
    const int64_t blocks = ceil_div(rows, member_rows_of(BITS)),
                  wide = blocks * member_rows_of(BITS);
    for (int p = 0; p < panels_of(t); ++p)
      read_piece<BITS, J>(run_of<BITS>(t, p, r), blocks, scratch.indices + p * kPieceBytes);
    const float* a = t.a + k;
    take_outliers<BITS, J>(t, r, a, scratch.indices, scratch.outliers);
    if (rows < wide) {
      for (int64_t i = 0; i < wide; ++i) scratch.last[i] = i < rows ? a[i] : 0.0f;
      a = scratch.last;
    }
    add_pieces<BITS, J>(t, r, a, blocks, scratch.indices, scratch.sums);
  }
  if constexpr (J + 1 < members_of(BITS)) add_row_run<BITS, J + 1>(t, r, scratch);
}

template <int BITS>
void fp32_row(const Fp32Tile& t, RowScratch& scratch) {
  for (int n = 0; n < kTileColumns; ++n) scratch.sums[n] = scratch.outliers[n] = 0.0f;
  for (int64_t r = 0; r < runs_of(BITS, t.rows); ++r) add_row_run<BITS>(t, r, scratch);
  for (int n = 0; n < t.columns; ++n) scratch.sums[n] += scratch.outliers[n];
  finish(t, scratch.sums);
}

}  // namespace
}  // namespace sardonyx
