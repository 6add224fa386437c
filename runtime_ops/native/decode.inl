// Packed indices to weights, 16 columns at once.
#pragma once

#include "layout.h"

namespace sardonyx {
namespace {

// Bits [FROM, FROM + BITS) of word S, as far as the word's field WHICH holds them; a byte for each
// lane and t.
template <int BITS, int FROM, int S, int WHICH>
inline B64 part_of_index(const uint8_t* block) {
  constexpr Field f = field_of(BITS, WHICH);
  constexpr int end = FROM + BITS, field_end = f.shift + f.width;
  constexpr int low = FROM > f.shift ? FROM : f.shift;
  constexpr int high = end < field_end ? end : field_end;
  if constexpr (low >= high) {
    return zero_b();
  } else {
    constexpr int plane = f.plane + S * f.width / 8, bit = S * f.width % 8;
    const B64 bytes = right<bit + low - f.shift>(load_b(block + plane * kPlaneBytes));
    return left<low - FROM>(masked(bytes, (1 << (high - low)) - 1));
  }
}

// Indices of member J, word S: byte t of a lane is row t * words + S of the member's rows in a
// block.
template <int BITS, int S, int J>
inline B64 indices_of(const uint8_t* block) {
  const B64 high = part_of_index<BITS, J * BITS, S, 0>(block);
  const B64 middle = part_of_index<BITS, J * BITS, S, 1>(block);
  const B64 low = part_of_index<BITS, J * BITS, S, 2>(block);
  return either(high, either(middle, low));
}

// Memory that is needed next, read ahead a part at a time while something else is done.
struct Ahead {
  const uint8_t* next;
  int step;
  void touch() {
    prefetch(next);
    next += step;
  }
};

// Centroids by index in more than 16, or another table for each lane.
struct WideFloatTable {
  const float* base;
  I16 offsets;
  F16 at(B64 index) const { return gather(base, add(low_byte(index), offsets)); }
};

struct WideByteTable {
  const int8_t* const* tables;  // of each lane
  B64 at(B64 index) const {
    uint8_t bytes[kPlaneBytes];
    store_b(bytes, index);
    for (int i = 0; i < kPlaneBytes; ++i) bytes[i] = (uint8_t)tables[i / 4][bytes[i]];
    return load_b(bytes);
  }
};

}  // namespace
}  // namespace sardonyx
