// Y = A @ W (+ bias) with W in GOBO form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "matrix.h"

namespace sardonyx {

// Runs task(0) .. task(count - 1), perhaps on several threads, and returns when all are done.
using ForEach = std::function<void(size_t count, const std::function<void(size_t)>& task)>;

// W, made ready for products. Indices and centroids stay where they are.
class MatMul {
 public:
  virtual ~MatMul() = default;

  // a [m, K], bias [N] or null, y [m, N], all float32.
  virtual void run(const float* a, int64_t m, const float* bias, float* y,
                   const ForEach& for_each) const = 0;
};

// The order of sums of compute = "fp32" is that of tile.h, whatever the processor and the threads;
// compute = "int8" is defined in runtime_ops/int8_product.py.
std::unique_ptr<MatMul> make_matmul(const GoboMatrix& w);

// "AVX-512 VNNI", "AVX2" or "portable C++": the best that the processor has and SARDONYX_CPU
// allows.
const char* kernels_in_use();

}  // namespace sardonyx
