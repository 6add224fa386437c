#include "simd_avx512.h"

#include "kernels.inl"

namespace sardonyx {

const TileKernels kAvx512Kernels = kernels("AVX-512 VNNI");

}  // namespace sardonyx
