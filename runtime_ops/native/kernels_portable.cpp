#include "simd_portable.h"

#include "kernels.inl"

namespace sardonyx {

constexpr TileKernels kPortableKernels = kernels("portable C++");

}  // namespace sardonyx
