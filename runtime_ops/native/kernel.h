// What every op shares: onnxruntime's functions with exceptions for statuses, and what an op is.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "matmul.h"
#include "ort_abi.h"
#include "tensor.h"

namespace sardonyx {

// A node that is being made ready.
class NodeInfo {
 public:
  NodeInfo(const OrtApi* api, const OrtKernelInfo* info) : api_(api), info_(info) {}

  std::string name() const;  // empty if it has none
  std::vector<int64_t> ints(const char* attribute) const;
  std::string string(const char* attribute, const char* otherwise) const;

  // Raises Error where the input is computed by the graph or given by the caller.
  Tensor constant(size_t input, const char* what) const;

 private:
  const OrtApi* api_;
  const OrtKernelInfo* info_;
};

// A run of a node.
class Call {
 public:
  Call(const OrtApi* api, OrtKernelContext* context) : api_(api), context_(context) {}

  Tensor input(size_t index) const;
  float* output(const std::vector<int64_t>& shape) const;

  // Runs tasks on the session's threads; raises what a task raised.
  void for_each(size_t count, const std::function<void(size_t)>& task) const;

 private:
  const OrtApi* api_;
  OrtKernelContext* context_;
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(const Call& call) const = 0;
};

// An op without its bit width. Inputs may have any type as far as onnxruntime is concerned, so that
// the kernel is who says what is wrong with one; the output is float32.
struct OpKind {
  const char* name;
  size_t inputs;
  std::unique_ptr<Kernel> (*make)(const NodeInfo&, int bits);
};

extern const OpKind kGoboMatMul, kGoboLinear, kGoboGather;

// The matrix in inputs 1 to 4 of a node.
GoboMatrix matrix_of(const NodeInfo& node, int bits);

// Raises Error unless the tensor is float32.
const float* floats(const Tensor& tensor, const char* what);

}  // namespace sardonyx
