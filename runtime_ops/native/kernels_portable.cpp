#include "simd_portable.h"

#include "kernels.inl"

namespace sardonyx {

const TileKernels kPortableKernels = kernels("portable C++");

}  // namespace sardonyx
