#include "simd_avx2.h"

#include "kernels.inl"

namespace sardonyx {

constexpr TileKernels kAvx2Kernels = kernels("AVX2");

}  // namespace sardonyx
