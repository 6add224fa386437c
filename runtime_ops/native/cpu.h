// Which kernels this processor runs.
#pragma once

#include "tile.h"

namespace sardonyx {

// The best that the processor has and the environment variable SARDONYX_CPU (scalar, avx2 or
// avx512) allows; asked once.
const TileKernels& kernels();

}  // namespace sardonyx
