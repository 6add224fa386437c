// The vectors of kernels.inl on AVX2 and FMA: two registers each.
#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "simd_sse.h"

namespace sardonyx {
namespace {

constexpr int kPanels = 1;  // panels and rows whose sums stay in registers
constexpr int kRows = 6;

struct F16 {
  __m256 low, high;
};  // 16 float
struct I16 {
  __m256i low, high;
};  // 16 int32
struct B64 {
  __m256i low, high;
};  // 16 lanes of 4 bytes

inline void prefetch(const uint8_t* p) {
  _mm_prefetch((const char*)p, _MM_HINT_T0);
}

inline F16 broadcast_f(float x) {
  return {_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
inline F16 zero_f() {
  return {_mm256_setzero_ps(), _mm256_setzero_ps()};
}
inline F16 load_f(const float* p) {
  return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
inline void store_f(float* p, F16 x) {
  _mm256_storeu_ps(p, x.low);
  _mm256_storeu_ps(p + 8, x.high);
}
inline F16 load_some(const float* p, int64_t count) {
  float some[16] = {};
  memcpy(some, p, count * sizeof(float));
  return load_f(some);
}
inline void store_some(float* p, F16 x, int64_t count) {
  if (count == 16) return store_f(p, x);
  float some[16];
  store_f(some, x);
  memcpy(p, some, count * sizeof(float));
}
inline F16 add(F16 a, F16 b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline F16 sub(F16 a, F16 b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline F16 mul(F16 a, F16 b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline F16 min(F16 a, F16 b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
inline F16 max(F16 a, F16 b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline F16 fma(F16 a, F16 b, F16 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline float fma(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
inline F16 widen_u8(const uint8_t* p) {
  const __m128i bytes = _mm_loadu_si128((const __m128i*)p);
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}

inline I16 zero_i() {
  return {_mm256_setzero_si256(), _mm256_setzero_si256()};
}
inline I16 broadcast_i(int32_t x) {
  return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
inline I16 load_i(const int32_t* p) {
  return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 8))};
}
inline I16 load_some(const int32_t* p, int64_t count) {
  int32_t some[16] = {};
  memcpy(some, p, count * sizeof(int32_t));
  return load_i(some);
}
inline void store_i(int32_t* p, I16 x) {
  _mm256_storeu_si256((__m256i*)p, x.low);
  _mm256_storeu_si256((__m256i*)(p + 8), x.high);
}
inline I16 add(I16 a, I16 b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
inline I16 sub(I16 a, I16 b) {
  return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)};
}
inline I16 mul(I16 a, I16 b) {
  return {_mm256_mullo_epi32(a.low, b.low), _mm256_mullo_epi32(a.high, b.high)};
}
inline I16 round_to_int(F16 x) {
  return {_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)};
}
inline int32_t round_to_int(float x) {
  return _mm_cvtss_si32(_mm_set_ss(x));
}
inline F16 to_float(I16 x) {
  return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)};
}
inline void store_u8(uint8_t* p, I16 x) {  // clipped to 0 .. 255
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.low, x.high), 0xd8);
  const __m128i bytes =
      _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128((__m128i*)p, bytes);
}

inline B64 zero_b() {
  return {_mm256_setzero_si256(), _mm256_setzero_si256()};
}
inline B64 load_b(const uint8_t* p) {
  return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 32))};
}
inline void store_b(uint8_t* p, B64 x) {
  _mm256_storeu_si256((__m256i*)p, x.low);
  _mm256_storeu_si256((__m256i*)(p + 32), x.high);
}
inline B64 either(B64 a, B64 b) {
  return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)};
}
inline B64 masked(B64 a, uint8_t mask) {
  const __m256i m = _mm256_set1_epi8((char)mask);
  return {_mm256_and_si256(a.low, m), _mm256_and_si256(a.high, m)};
}
template <int BITS>
inline B64 right(B64 a) {  // each lane, as one number
  if constexpr (BITS == 0) return a;
  return {_mm256_srli_epi32(a.low, BITS), _mm256_srli_epi32(a.high, BITS)};
}
template <int BITS>
inline B64 left(B64 a) {
  if constexpr (BITS == 0) return a;
  return {_mm256_slli_epi32(a.low, BITS), _mm256_slli_epi32(a.high, BITS)};
}
inline I16 low_byte(B64 x) {
  const __m256i byte = _mm256_set1_epi32(255);
  return {_mm256_and_si256(x.low, byte), _mm256_and_si256(x.high, byte)};
}

// sums + the four products of u and w in each lane. No int16 overflows: |w| is at most 63.
inline I16 dot(I16 sums, const uint8_t* u, B64 w) {
  int32_t four;
  memcpy(&four, u, 4);
  const __m256i a = _mm256_set1_epi32(four), ones = _mm256_set1_epi16(1);
  const __m256i low = _mm256_madd_epi16(_mm256_maddubs_epi16(a, w.low), ones);
  const __m256i high = _mm256_madd_epi16(_mm256_maddubs_epi16(a, w.high), ones);
  return {_mm256_add_epi32(sums.low, low), _mm256_add_epi32(sums.high, high)};
}

inline F16 gather(const float* table, I16 index) {
  return {_mm256_i32gather_ps(table, index.low, 4), _mm256_i32gather_ps(table, index.high, 4)};
}

// A table of 2^BITS floats, by the low byte of each lane, which is below 2^BITS; what lies above it
// is ignored.
template <int BITS>
struct FloatTable {
  static_assert(BITS <= 4);
  F16 table;  // in two halves, of which up to 3 bits have one
  explicit FloatTable(const float* values) : table(load_some(values, 1 << BITS)) {}
  __m256 at(__m256i index) const {
    const __m256 first = _mm256_permutevar8x32_ps(table.low, index);
    if constexpr (BITS < 4) return first;
    const __m256 second = _mm256_permutevar8x32_ps(table.high, index);
    return _mm256_blendv_ps(first, second, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
  }
  F16 at(B64 index) const { return {at(index.low), at(index.high)}; }
};

// The same; index 2^BITS gives 0.
template <int BITS>
struct FloatOrZeroTable {
  FloatTable<BITS> table;
  explicit FloatOrZeroTable(const float* values) : table(values) {}
  __m256 at(__m256i index) const {
    const __m256i over = _mm256_srai_epi32(_mm256_slli_epi32(index, 31 - BITS), 31);
    return _mm256_andnot_ps(_mm256_castsi256_ps(over), table.at(index));
  }
  F16 at(B64 index) const { return {at(index.low), at(index.high)}; }
};

// A table of 16 bytes, by each byte of the index (0 .. 15).
struct ByteTable {
  __m256i table;
  explicit ByteTable(const int8_t* values) {
    table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)values));
  }
  B64 at(B64 index) const {
    return {_mm256_shuffle_epi8(table, index.low), _mm256_shuffle_epi8(table, index.high)};
  }
};

// 16 x 16 floats, rows `stride` apart.
inline void transpose(const float* in, int64_t stride, float (&out)[16][16]) {
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) out[j][i] = in[i * stride + j];
}

}  // namespace
}  // namespace sardonyx
