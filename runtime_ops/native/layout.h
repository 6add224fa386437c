// The packed index layout, as the docstring of runtime_ops/packing.py defines it: uint8
// [N/16, K/32, bits, 16, 4], read here index by index.
#pragma once

#include <cstdint>

namespace sardonyx {

constexpr int64_t kLanes = 16;  // columns of a panel
constexpr int64_t kRows = 32;   // rows of a block
constexpr int kPlaneBytes = 64;

constexpr int members_of(int bits) { return bits <= 3 ? 4 : bits <= 7 ? 2 : 1; }

inline int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

// Rows between two members of a word.
inline int64_t height_of(int bits, int64_t rows) {
  return ceil_div(rows, kRows) * kRows / members_of(bits);
}

// Word s of those whose bytes begin at `bytes` in the first plane.
template <int bits>
inline unsigned word_at(const uint8_t* bytes, int s) {
  constexpr int words = 8 / members_of(bits);
  unsigned word = 0;
  int left = members_of(bits) * bits, plane = 0;
  for (int width : {8, 4, 2}) {
    if (left < width) continue;
    left -= width;
    const int a_byte = 8 / width;
    const unsigned byte = bytes[(plane + s / a_byte) * kPlaneBytes];
    word |= (byte >> (s % a_byte * width) & ((1u << width) - 1)) << left;
    plane += words * width / 8;
  }
  return word;
}

template <int bits, class Visit>
inline void visit_words(const uint8_t* indices, int64_t rows, int64_t n, const Visit& visit) {
  constexpr int members = members_of(bits), words = 8 / members;
  const int64_t blocks = ceil_div(rows, kRows), height = height_of(bits, rows);
  const uint8_t* bytes = indices + n / kLanes * blocks * bits * kPlaneBytes + n % kLanes * 4;
  for (int64_t q = 0; q < 4 * blocks; ++q) {
    for (int s = 0; s < words; ++s) {
      const unsigned word = word_at<bits>(bytes + q / 4 * bits * kPlaneBytes + q % 4, s);
      for (int j = 0; j < members; ++j) {
        const int64_t k = j * height + q * words + s;
        if (k < rows) visit(k, word >> (j * bits) & ((1u << bits) - 1));
      }
    }
  }
}

// Calls visit(k, index) for every row k of column n, in no order to rely on.
template <class Visit>
void visit_column(int bits, const uint8_t* indices, int64_t rows, int64_t n, const Visit& visit) {
  switch (bits) {
    case 2: return visit_words<2>(indices, rows, n, visit);
    case 3: return visit_words<3>(indices, rows, n, visit);
    case 4: return visit_words<4>(indices, rows, n, visit);
    case 5: return visit_words<5>(indices, rows, n, visit);
    case 6: return visit_words<6>(indices, rows, n, visit);
    case 7: return visit_words<7>(indices, rows, n, visit);
    case 8: return visit_words<8>(indices, rows, n, visit);
  }
}

}  // namespace sardonyx
