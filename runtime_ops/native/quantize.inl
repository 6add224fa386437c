// Rows of A as uint8, each with its own scale and zero point.
#pragma once

#include "tile.h"

namespace sardonyx {
namespace {

constexpr float kLargest = 3.40282347e+38f, kLeastScale = 0x1p-120f;

struct Range {
  float low, high;  // with 0 between them
  bool finite;      // no NaN and no infinity in the row
};

// 16 of a row's floats from k on, 0 beyond its end.
inline F16 load_row(const float* a, int64_t rows, int64_t k) {
  return rows - k < kLanes ? load_some(a + k, rows - k) : load_f(a + k);
}

Range range_of(const float* a, int64_t rows) {
  F16 low = zero_f(), high = zero_f(), wrong = zero_f();
  for (int64_t k = 0; k < rows; k += kLanes) {
    const F16 x = load_row(a, rows, k);
    low = min(x, low);
    high = max(x, high);
    wrong = fma(x, zero_f(), wrong);  // NaN where x is, or is infinite
  }
  float lows[kLanes], highs[kLanes], wrongs[kLanes];
  store_f(lows, low);
  store_f(highs, high);
  store_f(wrongs, wrong);
  for (int i = 1; i < kLanes; ++i) {
    lows[0] = lows[i] < lows[0] ? lows[i] : lows[0];
    highs[0] = highs[i] > highs[0] ? highs[i] : highs[0];
    wrongs[0] += wrongs[i];
  }
  return {lows[0], highs[0], wrongs[0] == 0.0f};
}

// u of one row, in the order of k; K need not be a multiple of 16.
void quantize_row(const float* a, int64_t rows, uint8_t* u, float* scale, int32_t* zero_point) {
  const Range range = range_of(a, rows);
  const float step = (range.high - range.low) / 255.0f;
  if (!range.finite || step > kLargest) {
    *scale = __builtin_nanf("");
    *zero_point = 0;
    for (int64_t k = 0; k < rows; ++k) u[k] = 0;
    return;
  }
  *scale = step > kLeastScale ? step : kLeastScale;
  const float inverse = 1.0f / *scale;
  *zero_point = round_to_int(-range.low * inverse);
  const I16 z = broadcast_i(*zero_point);
  const F16 factor = broadcast_f(inverse);
  for (int64_t k = 0; k < rows; k += kLanes)
    store_u8(u + k, add(round_to_int(mul(load_row(a, rows, k), factor)), z));
}

// From the order of k to [block][member][word][t].
template <int WORDS>
void arrange(const uint8_t* u, int64_t blocks, uint8_t* out) {
  constexpr int members = 8 / WORDS, rows = 4 * WORDS;
  for (int j = 0; j < members; ++j)
    for (int64_t b = 0; b < blocks; ++b) {
      const uint8_t* from = u + (j * blocks + b) * rows;
      uint8_t* to = out + b * kBlockRows + j * rows;
      for (int s = 0; s < WORDS; ++s)
        for (int i = 0; i < 4; ++i) to[s * 4 + i] = from[i * WORDS + s];
    }
}

void quantize(const Rows& r) {
  const int64_t blocks = blocks_of(r.rows), wide = padded_rows_of(r.rows);
  for (int64_t i = 0; i < r.m; ++i) {
    quantize_row(r.a + i * r.rows, r.rows, r.natural, r.scales + i, r.zero_points + i);
    for (int64_t k = r.rows; k < wide; ++k) r.natural[k] = 0;
    with_width(r.bits, [&](auto width) {
      arrange<words_of(width.bits)>(r.natural, blocks, r.u + i * wide);
    });
  }
  if (r.u_columns)
    for (int64_t k = 0; k < wide; k += kLanes)
      transpose_bytes(r.u + k, wide, r.m, r.u_columns + k * r.u_columns_stride, r.u_columns_stride);
}

}  // namespace
}  // namespace sardonyx
