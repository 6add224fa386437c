// Packed indices to weights, 16 columns at once.
#pragma once

#include "layout.h"

namespace sardonyx {
namespace {

// Bits [FROM, FROM + BITS) of word S, as far as the word's field WHICH holds them.
template <int BITS, int FROM, int S, int WHICH>
inline B64 part_of_index(const uint8_t* block) {
  constexpr Field f = field(BITS, WHICH);
  constexpr int low = FROM > f.shift ? FROM : f.shift;
  constexpr int from_end = FROM + BITS, field_end = f.shift + f.width;
  constexpr int high = from_end < field_end ? from_end : field_end;
  if constexpr (low >= high) {
    return zero_b();
  } else {
    constexpr int plane = f.plane + S * f.width / 8, bit = S * f.width % 8;
    const B64 bytes = load_b(block + plane * kLanes * 4);
    return left<low - FROM>(masked(right<bit + low - f.shift>(bytes), (1 << (high - low)) - 1));
  }
}

// The indices of rows (t, S) of member J, one a byte: byte t of a lane is row t * words + S.
template <int BITS, int S, int J>
inline B64 indices_of(const uint8_t* block) {
  const B64 high = part_of_index<BITS, J * BITS, S, 0>(block);
  const B64 middle = part_of_index<BITS, J * BITS, S, 1>(block);
  const B64 low = part_of_index<BITS, J * BITS, S, 2>(block);
  return either(high, either(middle, low));
}

// A table of any size, perhaps another one for each lane.
struct WideTable {
  const float* base;
  I16 offsets;
  F16 at(B64 index) const { return gather(base, add(low_byte(index), offsets)); }
};

template <int BITS, int J, int S = 0, class Table>
inline void decode_block(const uint8_t* block, const Table& table, float* out, int stride) {
  const B64 index = indices_of<BITS, S, J>(block);
  constexpr int W = words(BITS);
  store_f(out + S * stride, table.at(index));
  store_f(out + (W + S) * stride, table.at(right<8>(index)));
  store_f(out + (2 * W + S) * stride, table.at(right<16>(index)));
  store_f(out + (3 * W + S) * stride, table.at(right<24>(index)));
  if constexpr (S + 1 < W) decode_block<BITS, J, S + 1>(block, table, out, stride);
}

// What is read next, a part at a time while this is worked on.
struct Ahead {
  const uint8_t* next;
  int step;
  void touch() {
    prefetch(next);
    next += step;
  }
};

// Rows of member J in `count` blocks: float [count * 4 * words][stride], of which 16 are written.
template <int BITS, int J, class Table>
void decode_run(const uint8_t* blocks, int64_t count, const Table& table, float* out, int stride, Ahead ahead) {
  for (int64_t b = 0; b < count; ++b) {
    ahead.touch();
    decode_block<BITS, J>(blocks + b * BITS * 64, table, out, stride);
    out += 4 * words(BITS) * stride;
  }
}

template <int BITS, class Table>
void decode_member(int j, const uint8_t* blocks, int64_t count, const Table& table, float* out,
                   int stride, Ahead ahead) {
  constexpr int M = members(BITS);
  if (j == 0) decode_run<BITS, 0>(blocks, count, table, out, stride, ahead);
  if constexpr (M > 1) if (j == 1) decode_run<BITS, 1>(blocks, count, table, out, stride, ahead);
  if constexpr (M > 2) if (j == 2) decode_run<BITS, 2>(blocks, count, table, out, stride, ahead);
  if constexpr (M > 2) if (j == 3) decode_run<BITS, 3>(blocks, count, table, out, stride, ahead);
}

}  // namespace
}  // namespace sardonyx
