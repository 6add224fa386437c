// Rows of A in 8 bits, for compute = "int8".
#pragma once

#include "scratch.h"

namespace sardonyx {

struct QuantizedRows {
  uint8_t* u;            // [m, K rounded up to 32], in the order of tile.h
  uint8_t* u_columns;    // its transpose, m rounded up to 16; not set for one row
  float* scales;         // [m]
  int32_t* zero_points;  // [m]

  // Rows a [m, K]; what was set before is lost.
  void set(int bits, int64_t rows, const float* a, int64_t m);

 private:
  Scratch memory_;
};

}  // namespace sardonyx
