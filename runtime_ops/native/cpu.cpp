#include "cpu.h"

#include <cstdlib>
#include <string>

namespace sardonyx {
namespace {

const TileKernels& choose() {
  const char* variable = std::getenv("SARDONYX_CPU");
  const std::string cpu = variable ? variable : "";
#ifdef SARDONYX_X86
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
  if (avx512 && (cpu.empty() || cpu == "avx512")) return kAvx512Kernels;
  if (avx2 && cpu != "scalar") return kAvx2Kernels;
#endif
  return kPortableKernels;
}

}  // namespace

const TileKernels& kernels() {
  static const TileKernels& chosen = choose();
  return chosen;
}

}  // namespace sardonyx
