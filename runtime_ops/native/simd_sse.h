// What both AVX kernels do in vectors of 16 bytes.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace sardonyx {
namespace {

// At most 16 rows of 16 bytes, `in_stride` apart, become 16 columns of 16.
inline void transpose_bytes(const uint8_t* in, int64_t in_stride, int64_t rows, uint8_t* out,
                            int64_t out_stride) {
  __m128i r[16], t[16];
  for (int i = 0; i < 16; ++i)
    r[i] = i < rows ? _mm_loadu_si128((const __m128i*)(in + i * in_stride)) : _mm_setzero_si128();
  for (int step = 0; step < 4; ++step) {
    for (int i = 0; i < 8; ++i) {
      t[2 * i] = _mm_unpacklo_epi8(r[i], r[i + 8]);
      t[2 * i + 1] = _mm_unpackhi_epi8(r[i], r[i + 8]);
    }
    for (int i = 0; i < 16; ++i) r[i] = t[i];
  }
  for (int i = 0; i < 16; ++i) _mm_storeu_si128((__m128i*)(out + i * out_stride), r[i]);
}

}  // namespace
}  // namespace sardonyx
