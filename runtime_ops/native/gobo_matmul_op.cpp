// GoboMatMul: Y = A @ W, and GoboLinear: Y = A @ W + bias.
#include "kernel.h"

namespace sardonyx {
namespace {

class MatMulKernel : public Kernel {
 public:
  MatMulKernel(const GoboMatrix& w, bool has_bias)
      : rows_(w.rows), columns_(w.columns), has_bias_(has_bias), product_(make_matmul(w)) {}

  void run(const Call& call) const override {
    const Tensor a = call.input(0);
    const float* rows = floats(a, "A");
    if (a.shape.empty() || a.shape.back() != rows_) {
      throw Error("A must have " + std::to_string(rows_) + " columns, has " +
                  (a.shape.empty() ? "none" : std::to_string(a.shape.back())));
    }
    const float* bias = has_bias_ ? bias_of(call.input(5)) : nullptr;
    std::vector<int64_t> shape = a.shape;
    shape.back() = columns_;
    int64_t m = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) m *= shape[i];
    float* y = call.output(shape);
    if (m == 0) return;
    product_->run(rows, m, bias, y,
                  [&](size_t count, const auto& task) { call.for_each(count, task); });
  }

 private:
  const float* bias_of(const Tensor& bias) const {
    if (bias.shape != std::vector<int64_t>{columns_}) {
      throw Error("bias must have shape [" + std::to_string(columns_) + "]");
    }
    return floats(bias, "bias");
  }

  int64_t rows_, columns_;
  bool has_bias_;
  std::unique_ptr<MatMul> product_;
};

template <bool has_bias>
std::unique_ptr<Kernel> make(const NodeInfo& node, int bits) {
  return std::make_unique<MatMulKernel>(matrix_of(node, bits), has_bias);
}

}  // namespace

const OpKind kGoboMatMul{"GoboMatMul", 5, make<false>};
const OpKind kGoboLinear{"GoboLinear", 6, make<true>};

}  // namespace sardonyx
