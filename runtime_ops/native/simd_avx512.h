// The vectors of kernels.inl on AVX-512 (F, BW, VL, DQ and VNNI): one register each.
#pragma once

#include <immintrin.h>
#include <stdint.h>

#include "simd_sse.h"

namespace sardonyx {
namespace {

constexpr int kPanels = 2;  // panels and rows whose sums stay in registers
constexpr int kRows = 12;

struct F16 {
  __m512 v;
};  // 16 float
struct I16 {
  __m512i v;
};  // 16 int32
struct B64 {
  __m512i v;
};  // 16 lanes of 4 bytes

inline void prefetch(const uint8_t* p) {
  _mm_prefetch((const char*)p, _MM_HINT_T0);
}

inline F16 zero_f() {
  return {_mm512_setzero_ps()};
}
inline F16 load_f(const float* p) {
  return {_mm512_loadu_ps(p)};
}
inline void store_f(float* p, F16 x) {
  _mm512_storeu_ps(p, x.v);
}
inline F16 load_some(const float* p, int64_t count) {
  return {_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p)};
}
inline void store_some(float* p, F16 x, int64_t count) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), x.v);
}
inline F16 broadcast_f(float x) {
  return {_mm512_set1_ps(x)};
}
inline F16 add(F16 a, F16 b) {
  return {_mm512_add_ps(a.v, b.v)};
}
inline F16 sub(F16 a, F16 b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
inline F16 mul(F16 a, F16 b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
inline F16 fma(F16 a, F16 b, F16 c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
inline F16 min(F16 a, F16 b) {
  return {_mm512_min_ps(a.v, b.v)};
}
inline F16 max(F16 a, F16 b) {
  return {_mm512_max_ps(a.v, b.v)};
}
inline F16 widen_u8(const uint8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)))};
}

inline float fma(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}

inline I16 zero_i() {
  return {_mm512_setzero_si512()};
}
inline I16 load_i(const int32_t* p) {
  return {_mm512_loadu_si512(p)};
}
inline I16 load_some(const int32_t* p, int64_t count) {
  return {_mm512_maskz_loadu_epi32((__mmask16)((1u << count) - 1), p)};
}
inline void store_i(int32_t* p, I16 x) {
  _mm512_storeu_si512(p, x.v);
}
inline I16 broadcast_i(int32_t x) {
  return {_mm512_set1_epi32(x)};
}
inline I16 add(I16 a, I16 b) {
  return {_mm512_add_epi32(a.v, b.v)};
}
inline I16 sub(I16 a, I16 b) {
  return {_mm512_sub_epi32(a.v, b.v)};
}
inline I16 mul(I16 a, I16 b) {
  return {_mm512_mullo_epi32(a.v, b.v)};
}
inline I16 round_to_int(F16 x) {
  return {_mm512_cvtps_epi32(x.v)};
}
inline int32_t round_to_int(float x) {
  return _mm_cvtss_si32(_mm_set_ss(x));
}
inline F16 to_float(I16 x) {
  return {_mm512_cvtepi32_ps(x.v)};
}
inline void store_u8(uint8_t* p, I16 x) {  // clipped to 0 .. 255
  const __m512i positive = _mm512_max_epi32(x.v, _mm512_setzero_si512());
  _mm_storeu_si128((__m128i*)p, _mm512_cvtusepi32_epi8(positive));
}

inline B64 zero_b() {
  return {_mm512_setzero_si512()};
}
inline B64 load_b(const uint8_t* p) {
  return {_mm512_loadu_si512(p)};
}
inline void store_b(uint8_t* p, B64 x) {
  _mm512_storeu_si512(p, x.v);
}
inline B64 either(B64 a, B64 b) {
  return {_mm512_or_si512(a.v, b.v)};
}
inline B64 masked(B64 a, uint8_t mask) {
  return {_mm512_and_si512(a.v, _mm512_set1_epi8((char)mask))};
}
template <int BITS>
inline B64 right(B64 a) {  // each lane, as one number
  if constexpr (BITS == 0) return a;
  return {_mm512_srli_epi32(a.v, BITS)};
}
template <int BITS>
inline B64 left(B64 a) {
  if constexpr (BITS == 0) return a;
  return {_mm512_slli_epi32(a.v, BITS)};
}

// sums + the four products of u and w in each lane.
inline I16 dot(I16 sums, const uint8_t* u, B64 w) {
  int32_t four;
  __builtin_memcpy(&four, u, 4);
  return {_mm512_dpbusd_epi32(sums.v, _mm512_set1_epi32(four), w.v)};
}

// A table of 2^BITS floats, by the low byte of each lane, which is below 2^BITS; what lies above it
// is ignored.
template <int BITS>
struct FloatTable {
  static_assert(BITS <= 4);
  F16 table;
  explicit FloatTable(const float* values) : table(load_some(values, 1 << BITS)) {}
  F16 at(B64 index) const { return {_mm512_permutexvar_ps(index.v, table.v)}; }
};

// The same; index 2^BITS gives 0.
template <int BITS>
struct FloatOrZeroTable {
  FloatTable<BITS> table;
  explicit FloatOrZeroTable(const float* values) : table(values) {}
  F16 at(B64 index) const {
    if constexpr (BITS < 4) return table.at(index);
    return {_mm512_permutex2var_ps(table.table.v, index.v, _mm512_setzero_ps())};
  }
};

inline F16 gather(const float* table, I16 index) {
  return {_mm512_i32gather_ps(index.v, table, 4)};
}
inline I16 low_byte(B64 x) {
  return {_mm512_and_si512(x.v, _mm512_set1_epi32(255))};
}

// A table of 16 bytes, by each byte of the index (0 .. 15).
struct ByteTable {
  __m512i v;
  explicit ByteTable(const int8_t* table) {
    v = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table));
  }
  B64 at(B64 index) const { return {_mm512_shuffle_epi8(v, index.v)}; }
};

// 16 x 16 floats, rows `stride` apart.
inline void transpose(const float* in, int64_t stride, float (&out)[16][16]) {
  __m512 r[16], t[16];
  for (int i = 0; i < 16; ++i) r[i] = _mm512_loadu_ps(in + i * stride);
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  // r[i + c] becomes columns c, 4 + c, 8 + c, 12 + c of rows i to i + 3
  for (int i = 0; i < 16; i += 4)
    for (int c = 0; c < 4; ++c) {
      const __m512d a = _mm512_castps_pd(t[i + c / 2]), b = _mm512_castps_pd(t[i + 2 + c / 2]);
      r[i + c] = _mm512_castpd_ps(c % 2 ? _mm512_unpackhi_pd(a, b) : _mm512_unpacklo_pd(a, b));
    }
  for (int c = 0; c < 4; ++c) {
    const __m512 a = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88),
                 b = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
    const __m512 d = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd),
                 e = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
    _mm512_storeu_ps(out[c], _mm512_shuffle_f32x4(a, b, 0x88));
    _mm512_storeu_ps(out[4 + c], _mm512_shuffle_f32x4(d, e, 0x88));
    _mm512_storeu_ps(out[8 + c], _mm512_shuffle_f32x4(a, b, 0xdd));
    _mm512_storeu_ps(out[12 + c], _mm512_shuffle_f32x4(d, e, 0xdd));
  }
}

}  // namespace
}  // namespace sardonyx
