// The kernels of one instruction set: its simd_*.h is included before.
#pragma once

#include "fp32.inl"
#include "fp32_row.inl"
#include "int8.inl"
#include "quantize.inl"

namespace sardonyx {
namespace {

// Whether weights of one row of A need not be decoded into memory.
inline bool is_row(const Tile& t) {
  return t.m == 1 && t.bits <= 4 && t.one_table;
}

template <int BITS>
void fp32_tile(const Fp32Tile& t, void* scratch) {
  if constexpr (BITS <= 4) {
    if (is_row(t)) return fp32_row<BITS>(t, *(RowScratch*)scratch);
  }
  fp32_rows<BITS>(t, (float*)scratch);
}

void fp32(const Fp32Tile& t, void* scratch) {
  with_width(t.bits, [&](auto width) { fp32_tile<width.bits>(t, scratch); });
}

int64_t fp32_scratch(const Tile& t) {
  const int64_t rows = (kRun * kPairColumns + t.m * kTileColumns) * sizeof(float);
  return rows > (int64_t)sizeof(RowScratch) ? rows : sizeof(RowScratch);
}

template <int BITS>
void int8_tile(const Int8Tile& t, void* scratch) {
  if constexpr (BITS <= 4) {
    if (is_row(t)) return int8_row<BITS>(t);
  }
  int8_rows<BITS>(t, (uint8_t*)scratch);
}

void int8(const Int8Tile& t, void* scratch) {
  with_width(t.bits, [&](auto width) { int8_tile<width.bits>(t, scratch); });
}

int64_t int8_scratch(const Tile& t) {
  return blocks_of(t.rows) * kQuads * kQuadBytes + (t.m + wide_of(t)) * kTileColumns * 4;
}

constexpr TileKernels kernels(const char* name) {
  return {name, fp32_scratch, fp32, int8_scratch, int8, quantize};
}

}  // namespace
}  // namespace sardonyx
