// Rows of A as uint8, each with its own scale and zero point.
#pragma once

#include <string.h>

#include "kernels.h"
#include "layout.h"

namespace sardonyx {
namespace {

// u[k] for k in natural order; padding of 16 bytes is written too.
void quantize_row(const float* a, int64_t rows, uint8_t* u, float* scale, int32_t* zero_point) {
  F16 lo = zero_f(), hi = zero_f(), bad = zero_f();
  for (int64_t k = 0; k < rows; k += kLanes) {
    const F16 x = rows - k < kLanes ? load_some(a + k, rows - k) : load_f(a + k);
    lo = min(x, lo);
    hi = max(x, hi);
    bad = fma(x, zero_f(), bad);
  }
  float sums[kLanes], wrong = 0.0f;
  store_f(sums, bad);
  for (int i = 0; i < kLanes; ++i) wrong += sums[i];
  const float low = least(lo), range = (greatest(hi) - low) / 255.0f;
  if (wrong != 0.0f || range > 3.4028235e38f) {
    *scale = __builtin_nanf("");
    *zero_point = 0;
    memset(u, 0, rows);
    return;
  }
  const float s = range > 0x1p-120f ? range : 0x1p-120f, inverse = 1.0f / s;
  const int32_t z = (int32_t)__builtin_rintf(-low * inverse);
  *scale = s;
  *zero_point = z;
  for (int64_t k = 0; k < rows; k += kLanes) {
    const F16 x = rows - k < kLanes ? load_some(a + k, rows - k) : load_f(a + k);
    store_u8(u + k, add(round_to_int(mul(x, broadcast_f(inverse))), broadcast_i(z)));
  }
}

// u in the order [block][member][S][t] in which the tiles hold their rows; 0 beyond `rows`.
template <int BITS>
void arrange(const uint8_t* u, int64_t blocks, uint8_t* out) {
  constexpr int W = words(BITS), M = members(BITS), run = 4 * W;
  for (int j = 0; j < M; ++j)
    for (int64_t b = 0; b < blocks; ++b) {
      const uint8_t* from = u + (j * blocks + b) * run;
      uint8_t* to = out + b * kBlock + j * run;
      for (int s = 0; s < W; ++s)
        for (int i = 0; i < 4; ++i) to[s * 4 + i] = from[i * W + s];
    }
}

void arranged(int bits, const uint8_t* u, int64_t blocks, uint8_t* out) {
  switch (words(bits)) {
    case 2: return arrange<3>(u, blocks, out);
    case 4: return arrange<4>(u, blocks, out);
    default: return arrange<8>(u, blocks, out);
  }
}

void quantize(int bits, const float* a, int64_t m, int64_t rows, uint8_t* out, uint8_t* columns,
              int64_t columns_stride, float* scales, int32_t* zero_points, uint8_t* scratch) {
  const int64_t blocks = (rows + kBlock - 1) / kBlock, wide = blocks * kBlock;
  for (int64_t i = 0; i < m; ++i) {
    quantize_row(a + i * rows, rows, scratch, scales + i, zero_points + i);
    memset(scratch + rows, 0, wide - rows);
    arranged(bits, scratch, blocks, out + i * wide);
  }
  if (columns)
    for (int64_t k = 0; k < wide; k += kLanes)
      transpose_bytes(out + k, wide, m, columns + k * columns_stride, columns_stride);
}

}  // namespace
}  // namespace sardonyx
