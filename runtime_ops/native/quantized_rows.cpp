#include "quantized_rows.h"

#include <algorithm>

#include "cpu.h"

namespace sardonyx {

void QuantizedRows::set(int bits, int64_t rows, const float* a, int64_t m) {
  const int64_t wide = padded_rows_of(rows), slots = ceil_div(m, kLanes) * kLanes;
  u = static_cast<uint8_t*>(memory_.get((2 * slots + 1) * wide + slots * 8));
  u_columns = u + slots * wide;
  scales = reinterpret_cast<float*>(u_columns + slots * wide);
  zero_points = reinterpret_cast<int32_t*>(scales + slots);
  uint8_t* natural = reinterpret_cast<uint8_t*>(zero_points + slots);
  for (int64_t first = 0; first < m; first += kLanes) {
    kernels().quantize({bits, rows, a + first * rows, std::min<int64_t>(kLanes, m - first), natural,
                        u + first * wide, m == 1 ? nullptr : u_columns + first, slots,
                        scales + first, zero_points + first});
  }
}

}  // namespace sardonyx
