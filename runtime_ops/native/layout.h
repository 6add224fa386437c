// The packed index layout, as the docstring of runtime_ops/packing.py defines it: uint8
// [N/16, K/32, bits, 16, 4].
#pragma once

#include <cstdint>

// Everything here has internal linkage: files built for different instruction sets include it.
namespace sardonyx {

constexpr int kLanes = 16;  // columns of a panel
constexpr int kBlockRows = 32;
constexpr int kPlaneBytes = 64;  // of a block

// Indices that share a word, and words whose high bytes lie in one byte of as many planes.
static constexpr int members_of(int bits) {
  return bits <= 3 ? 4 : bits <= 7 ? 2 : 1;
}
static constexpr int words_of(int bits) {
  return 8 / members_of(bits);
}

// Rows of a block that belong to one member.
static constexpr int member_rows_of(int bits) {
  return 4 * words_of(bits);
}

static constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return a / b + (a % b != 0);
}
static constexpr int64_t blocks_of(int64_t rows) {
  return ceil_div(rows, kBlockRows);
}

static constexpr int64_t padded_rows_of(int64_t rows) {
  return blocks_of(rows) * kBlockRows;
}

// Rows between two members of a word.
static constexpr int64_t height_of(int bits, int64_t rows) {
  return blocks_of(rows) * member_rows_of(bits);
}

static constexpr int64_t panel_bytes_of(int bits, int64_t rows) {
  return blocks_of(rows) * bits * kPlaneBytes;
}

// Bits `shift` to `shift + width` of a word, in planes from `plane` on.
struct Field {
  int shift, width, plane;
};

// The cuts of a word, high end first; the width is 0 where there are fewer.
static constexpr Field field_of(int bits, int which) {
  int left = members_of(bits) * bits, plane = 0;
  for (int width = 8; width >= 2; width /= 2) {
    if (left < width) continue;
    left -= width;
    if (which-- == 0) return {left, width, plane};
    plane += words_of(bits) * width / 8;
  }
  return {0, 0, 0};
}

// Word s of those whose bytes begin at `bytes` in the first plane.
template <int bits>
static unsigned word_at(const uint8_t* bytes, int s) {
  unsigned word = 0;
  for (int which = 0; which < 3; ++which) {
    const Field f = field_of(bits, which);
    if (f.width == 0) break;
    const unsigned byte = bytes[(f.plane + s * f.width / 8) * kPlaneBytes];
    word |= (byte >> (s * f.width % 8) & ((1u << f.width) - 1)) << f.shift;
  }
  return word;
}

// Calls visit(k, index) for every row k of column n, in no order to rely on.
template <int bits, class Visit>
static void visit_column(const uint8_t* indices, int64_t rows, int64_t n, const Visit& visit) {
  constexpr int members = members_of(bits), words = words_of(bits);
  const int64_t height = height_of(bits, rows);
  const uint8_t* bytes = indices + n / kLanes * panel_bytes_of(bits, rows) + n % kLanes * 4;
  for (int64_t q = 0; q < 4 * blocks_of(rows); ++q) {
    for (int s = 0; s < words; ++s) {
      const unsigned word = word_at<bits>(bytes + q / 4 * bits * kPlaneBytes + q % 4, s);
      for (int j = 0; j < members; ++j) {
        const int64_t k = j * height + q * words + s;
        if (k < rows) visit(k, word >> (j * bits) & ((1u << bits) - 1));
      }
    }
  }
}

// Index of row k, column n.
template <int bits>
static unsigned index_of(const uint8_t* indices, int64_t rows, int64_t k, int64_t n) {
  constexpr int words = words_of(bits);
  const int64_t height = height_of(bits, rows), word = k % height, q = word / words;
  const uint8_t* bytes = indices + n / kLanes * panel_bytes_of(bits, rows) + n % kLanes * 4;
  const uint8_t* first = bytes + q / 4 * bits * kPlaneBytes + q % 4;
  return word_at<bits>(first, static_cast<int>(word % words)) >> (k / height * bits) &
         ((1u << bits) - 1);
}

// A bit width as a type.
template <int BITS>
struct Width {
  static constexpr int bits = BITS;
};

// visit(Width<bits>()), for bits from 2 to 8.
template <class Visit>
static auto with_width(int bits, const Visit& visit) {
  switch (bits) {
    case 2:
      return visit(Width<2>());
    case 3:
      return visit(Width<3>());
    case 4:
      return visit(Width<4>());
    case 5:
      return visit(Width<5>());
    case 6:
      return visit(Width<6>());
    case 7:
      return visit(Width<7>());
    default:
      return visit(Width<8>());
  }
}

}  // namespace sardonyx
