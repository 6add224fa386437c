// GoboGather: the columns `ids` of W [K, N], as rows: an embedding table of N rows.
#include <algorithm>

#include "kernel.h"
#include "layout.h"

namespace sardonyx {
namespace {

constexpr int64_t kRowsATask = 8;  // some microseconds of work

class GatherKernel : public Kernel {
 public:
  explicit GatherKernel(GoboMatrix w) : w_(std::move(w)) {}

  void run(const Call& call) const override {
    const Tensor ids = call.input(0);
    const std::vector<int64_t> columns = columns_of(ids);
    std::vector<int64_t> shape = ids.shape;
    shape.push_back(w_.rows);
    float* y = call.output(shape);
    const int64_t count = static_cast<int64_t>(columns.size());
    call.for_each(ceil_div(count, kRowsATask), [&](size_t task) {
      const int64_t first = static_cast<int64_t>(task) * kRowsATask;
      for (int64_t i = first; i < std::min(first + kRowsATask, count); ++i) {
        decode_column(w_, columns[i], y + i * w_.rows);
      }
    });
  }

 private:
  std::vector<int64_t> columns_of(const Tensor& ids) const {
    int64_t count = 1;
    for (int64_t size : ids.shape) count *= size;
    if (ids.type == Type::int32) return checked(static_cast<const int32_t*>(ids.data), count);
    if (ids.type == Type::int64) return checked(static_cast<const int64_t*>(ids.data), count);
    throw Error("ids must be int32 or int64");
  }

  template <class Id>
  std::vector<int64_t> checked(const Id* ids, int64_t count) const {
    std::vector<int64_t> columns(ids, ids + count);
    for (int64_t& id : columns) {
      if (id < -w_.columns || id >= w_.columns) {
        throw Error("ids holds " + std::to_string(id) + ", must be " + std::to_string(-w_.columns) +
                    " to " + std::to_string(w_.columns - 1));
      }
      if (id < 0) id += w_.columns;
    }
    return columns;
  }

  GoboMatrix w_;
};

std::unique_ptr<Kernel> make(const NodeInfo& node, int bits) {
  return std::make_unique<GatherKernel>(matrix_of(node, bits));
}

}  // namespace

const OpKind kGoboGather{"GoboGather", 5, make};

}  // namespace sardonyx
