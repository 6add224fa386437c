#include "simd_avx512.h"

#include "kernels.inl"

namespace sardonyx {

constexpr TileKernels kAvx512Kernels = kernels("AVX-512 VNNI");

}  // namespace sardonyx
