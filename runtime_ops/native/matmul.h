// Y = A @ W (+ bias) with W in GOBO form.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "matrix.h"

namespace sardonyx {

// Runs task(0) .. task(count - 1), perhaps on several threads, and returns when all are done.
using ForEach = std::function<void(size_t count, const std::function<void(size_t)>& task)>;

// a [m, K], bias [N] or null, y [m, N], all float32.
//
// compute = "fp32": K, rounded up to 32, is cut into as many equal parts as a word has members
// (layout.h); in each part products are added in the order of k by fused multiply-add, from 0; the
// parts' sums are added in order, then the bias.
//
// compute = "int8": see the op's definition in runtime_ops/ops/gobo_matmul.py.
void matmul(const GoboMatrix& w, const float* a, int64_t m, const float* bias, float* y,
            const ForEach& for_each);

// "AVX-512 VNNI", "AVX2" or "portable C++".
const char* kernels_in_use();

}  // namespace sardonyx
