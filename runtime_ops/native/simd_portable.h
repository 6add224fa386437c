// The vectors of kernels.inl in plain C++.
#pragma once

#include <stdint.h>
#include <string.h>

namespace sardonyx {
namespace {

constexpr int kPanels = 1;  // panels and rows whose sums are kept together
constexpr int kRows = 4;

template <class T>
struct Vector {
  T at[16];
};
using F16 = Vector<float>;
using I16 = Vector<int32_t>;
using B64 = Vector<uint32_t>;  // 16 lanes of 4 bytes, the first the lowest

template <class V, class Make>
inline V each(const Make& make) {
  V out;
  for (int i = 0; i < 16; ++i) out.at[i] = make(i);
  return out;
}

inline void prefetch(const uint8_t*) {}

inline F16 broadcast_f(float x) {
  return each<F16>([&](int) { return x; });
}
inline F16 zero_f() {
  return broadcast_f(0.0f);
}
inline F16 load_f(const float* p) {
  return each<F16>([&](int i) { return p[i]; });
}
inline void store_f(float* p, const F16& x) {
  memcpy(p, x.at, sizeof x.at);
}
inline F16 load_some(const float* p, int64_t count) {
  return each<F16>([&](int i) { return i < count ? p[i] : 0.0f; });
}
inline void store_some(float* p, const F16& x, int64_t count) {
  memcpy(p, x.at, count * sizeof(float));
}
template <class T>
inline Vector<T> add(const Vector<T>& a, const Vector<T>& b) {
  return each<Vector<T>>([&](int i) { return a.at[i] + b.at[i]; });
}
template <class T>
inline Vector<T> sub(const Vector<T>& a, const Vector<T>& b) {
  return each<Vector<T>>([&](int i) { return a.at[i] - b.at[i]; });
}
template <class T>
inline Vector<T> mul(const Vector<T>& a, const Vector<T>& b) {
  return each<Vector<T>>([&](int i) { return a.at[i] * b.at[i]; });
}
inline F16 min(const F16& a, const F16& b) {
  return each<F16>([&](int i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; });
}
inline F16 max(const F16& a, const F16& b) {
  return each<F16>([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; });
}
// Rounded once where the processor can, twice where it would take a library call.
inline float fma(float a, float b, float c) {
#ifdef __FP_FAST_FMAF
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
inline F16 fma(const F16& a, const F16& b, const F16& c) {
  return each<F16>([&](int i) { return fma(a.at[i], b.at[i], c.at[i]); });
}
inline F16 widen_u8(const uint8_t* p) {
  return each<F16>([&](int i) { return (float)p[i]; });
}

inline I16 broadcast_i(int32_t x) {
  return each<I16>([&](int) { return x; });
}
inline I16 zero_i() {
  return broadcast_i(0);
}
inline I16 load_i(const int32_t* p) {
  return each<I16>([&](int i) { return p[i]; });
}
inline I16 load_some(const int32_t* p, int64_t count) {
  return each<I16>([&](int i) { return i < count ? p[i] : 0; });
}
inline void store_i(int32_t* p, const I16& x) {
  memcpy(p, x.at, sizeof x.at);
}
inline int32_t round_to_int(float x) {  // to even; |x| is far below 2^22
  constexpr float shift = 12582912.0f;
  return (int32_t)((x + shift) - shift);
}
inline I16 round_to_int(const F16& x) {
  return each<I16>([&](int i) { return round_to_int(x.at[i]); });
}
inline F16 to_float(const I16& x) {
  return each<F16>([&](int i) { return (float)x.at[i]; });
}
inline void store_u8(uint8_t* p, const I16& x) {  // clipped to 0 .. 255
  for (int i = 0; i < 16; ++i) p[i] = (uint8_t)(x.at[i] < 0 ? 0 : x.at[i] > 255 ? 255 : x.at[i]);
}

inline B64 zero_b() {
  return each<B64>([](int) { return 0u; });
}
inline B64 load_b(const uint8_t* p) {
  return each<B64>([&](int i) {
    return p[4 * i] | p[4 * i + 1] << 8 | p[4 * i + 2] << 16 | (uint32_t)p[4 * i + 3] << 24;
  });
}
inline void store_b(uint8_t* p, const B64& x) {
  for (int i = 0; i < 64; ++i) p[i] = (uint8_t)(x.at[i / 4] >> (i % 4 * 8));
}
inline B64 either(const B64& a, const B64& b) {
  return each<B64>([&](int i) { return a.at[i] | b.at[i]; });
}
inline B64 masked(const B64& a, uint8_t mask) {
  return each<B64>([&](int i) { return a.at[i] & mask * 0x01010101u; });
}
template <int BITS>
inline B64 right(const B64& a) {
  return each<B64>([&](int i) { return a.at[i] >> BITS; });
}
template <int BITS>
inline B64 left(const B64& a) {
  return each<B64>([&](int i) { return a.at[i] << BITS; });
}
inline I16 low_byte(const B64& x) {
  return each<I16>([&](int i) { return (int32_t)(x.at[i] & 255); });
}

// sums + the four products of u and w in each lane.
inline I16 dot(const I16& sums, const uint8_t* u, const B64& w) {
  return each<I16>([&](int i) {
    int32_t sum = sums.at[i];
    for (int t = 0; t < 4; ++t) sum += u[t] * (int8_t)(w.at[i] >> (8 * t));
    return sum;
  });
}

inline F16 gather(const float* table, const I16& index) {
  return each<F16>([&](int i) { return table[index.at[i]]; });
}

// A table of 2^BITS floats, by the low byte of each lane, which is below 2^BITS; what lies above it
// is ignored.
template <int BITS>
struct FloatTable {
  const float* table;
  explicit FloatTable(const float* values) : table(values) {}
  F16 at(const B64& index) const {
    return each<F16>([&](int i) { return table[index.at[i] & ((1 << BITS) - 1)]; });
  }
};

// The same; index 2^BITS gives 0.
template <int BITS>
struct FloatOrZeroTable {
  const float* table;
  explicit FloatOrZeroTable(const float* values) : table(values) {}
  F16 at(const B64& index) const {
    return each<F16>([&](int i) {
      return index.at[i] >> BITS & 1 ? 0.0f : table[index.at[i] & ((1 << BITS) - 1)];
    });
  }
};

// A table of 16 bytes, by each byte of the index.
struct ByteTable {
  const int8_t* table;
  explicit ByteTable(const int8_t* values) : table(values) {}
  B64 at(const B64& index) const {
    return each<B64>([&](int i) {
      uint32_t out = 0;
      for (int t = 0; t < 32; t += 8) out |= (uint32_t)(uint8_t)table[index.at[i] >> t & 15] << t;
      return out;
    });
  }
};

// 16 x 16 floats, rows `stride` apart.
inline void transpose(const float* in, int64_t stride, float (&out)[16][16]) {
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) out[j][i] = in[i * stride + j];
}

// At most 16 rows of 16 bytes, `in_stride` apart, become 16 columns of 16.
inline void transpose_bytes(const uint8_t* in, int64_t in_stride, int64_t rows, uint8_t* out,
                            int64_t out_stride) {
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 16; ++j) out[j * out_stride + i] = i < rows ? in[i * in_stride + j] : 0;
}

}  // namespace
}  // namespace sardonyx
