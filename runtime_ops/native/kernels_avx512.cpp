// The kernels on AVX-512 with VNNI.
#include "simd_avx512.h"

#include "fp32.inl"
#include "int8.inl"
#include "quantize.inl"

namespace sardonyx {

const Kernels kAvx512 = {"AVX-512 VNNI", kPanels * kLanes, kRowPanels * kLanes, fp32_scratch, fp32, int8_scratch, int8, quantize};

}  // namespace sardonyx
