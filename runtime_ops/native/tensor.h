// What onnxruntime hands over, in plain C++: nothing that works on weights knows onnxruntime.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

namespace sardonyx {

// Element types by their numbers in ONNX (TensorProto.DataType).
enum class Type : int32_t {
  float32 = 1,
  uint8 = 2,
  uint16 = 4,
  int32 = 6,
  int64 = 7,
  float16 = 10,
  float64 = 11,
  bfloat16 = 16
};

struct Tensor {
  Type type;
  std::vector<int64_t> shape;
  const void* data;
};

// The model or an input is wrong. The text is a sentence without op and node, which who catches it
// puts in front.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace sardonyx
