// The packed layout of the indices, as packing.py describes it.
#pragma once

#include <stdint.h>

namespace sardonyx {

constexpr int kLanes = 16;       // columns of a panel
constexpr int kBlock = 32;       // rows of a block
constexpr int kLeastBits = 2;
constexpr int kMostBits = 8;

// Indices that share a word, and words whose high bytes share a plane's four bytes.
constexpr int members(int bits) { return bits <= 3 ? 4 : bits <= 7 ? 2 : 1; }
constexpr int words(int bits) { return 8 / members(bits); }

// Bits `shift` to `shift + width` of a word, in planes from `plane` on.
struct Field {
  int shift, width, plane;
};

// The cuts of a word, high end first; a width of 0 where there are fewer than three.
constexpr Field field(int bits, int which) {
  int left = members(bits) * bits, plane = 0;
  for (int found = 0, width = 8; width >= 2; width /= 2) {
    if (left < width) continue;
    left -= width;
    if (found++ == which) return {left, width, plane};
    plane += words(bits) * width / 8;
  }
  return {0, 0, 0};
}

// Bytes of the indices of a panel of 16 columns.
constexpr int64_t panel_bytes(int bits, int64_t blocks) { return blocks * bits * kLanes * 4; }

}  // namespace sardonyx
