#include "matrix.h"

#include <cstring>
#include <limits>

#include "layout.h"

namespace sardonyx {
namespace {

constexpr const char* kAgain = "; compile the model again";

// (u - z) Q is at most 255 * 63, and the sum over K of it must fit int32.
constexpr int64_t kMostInt8Rows = 131072;

std::string text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

std::string name(Type type) {
  switch (type) {
    case Type::float32:
      return "float32";
    case Type::uint8:
      return "uint8";
    case Type::uint16:
      return "uint16";
    case Type::int32:
      return "int32";
    case Type::int64:
      return "int64";
    case Type::float16:
      return "float16";
    case Type::float64:
      return "float64";
    case Type::bfloat16:
      return "bfloat16";
  }
  return "ONNX type " + std::to_string(static_cast<int32_t>(type));
}

void want_type(const char* what, const Tensor& tensor, Type type) {
  if (tensor.type == type) return;
  const bool is_weight = type == Type::float32;
  throw Error(std::string(what) + " is " + name(tensor.type) + ", must be " + name(type) +
              (is_weight ? "; run this model without the native library" : kAgain));
}

void want_shape(const char* what, const Tensor& tensor, const std::vector<int64_t>& shape) {
  if (tensor.shape == shape) return;
  throw Error(std::string(what) + " has shape " + text(tensor.shape) + ", must be " + text(shape) +
              kAgain);
}

void check_size(const Encoded& e) {
  constexpr int64_t most = std::numeric_limits<int32_t>::max();
  if (e.shape.size() != 2) {
    throw Error("attribute shape is " + text(e.shape) + ", must be [K, N]" + kAgain);
  }
  for (int64_t size : e.shape) {
    if (size >= 1 && size <= most) continue;
    throw Error("attribute shape is " + text(e.shape) + ", its sizes must be 1 to " +
                std::to_string(most) + kAgain);
  }
}

void check_compute(const Encoded& e) {
  if (e.compute != "fp32" && e.compute != "int8") {
    throw Error(std::string("attribute compute must be 'fp32' or 'int8'") + kAgain);
  }
  if (e.compute == "int8" && e.shape[0] > kMostInt8Rows) {
    throw Error("has K = " + std::to_string(e.shape[0]) + ", compute = 'int8' allows at most " +
                std::to_string(kMostInt8Rows) + "; compile it with compute = 'fp32'");
  }
}

void check_arrays(const Encoded& e) {
  const int64_t rows = e.shape[0], columns = e.shape[1];
  want_type("indices", e.indices, Type::uint8);
  want_shape("indices", e.indices, {ceil_div(columns, kLanes), blocks_of(rows), e.bits, kLanes, 4});
  want_type("centroids", e.centroids, Type::float32);
  if (e.centroids.shape.size() != 2 || e.centroids.shape[0] < 1 || e.centroids.shape[0] > columns ||
      e.centroids.shape[1] != int64_t{1} << e.bits) {
    throw Error("centroids has shape " + text(e.centroids.shape) + ", must be [groups, " +
                std::to_string(1 << e.bits) + "] with 1 to N = " + std::to_string(columns) +
                " groups" + kAgain);
  }
  if (e.positions.type != Type::uint16 && e.positions.type != Type::int32) {
    throw Error("positions is " + name(e.positions.type) + ", must be uint16 or int32" + kAgain);
  }
  if (e.positions.shape.size() != 1 ||
      e.positions.shape[0] > std::numeric_limits<uint32_t>::max()) {
    throw Error("positions has shape " + text(e.positions.shape) + ", must be [outliers]" + kAgain);
  }
  want_type("values", e.values, Type::float32);
  want_shape("values", e.values, e.positions.shape);
}

// Constants may lie at any address: a model file need not align them.
int64_t gap_at(const Tensor& positions, int64_t i) {
  const char* data = static_cast<const char*>(positions.data);
  if (positions.type == Type::uint16) {
    uint16_t gap;
    std::memcpy(&gap, data + i * 2, sizeof gap);
    return gap;
  }
  int32_t gap;
  std::memcpy(&gap, data + i * 4, sizeof gap);
  return gap;
}

void place_outliers(const Tensor& positions, GoboMatrix& w) {
  const int members = members_of(w.bits);
  const int64_t height = height_of(w.bits, w.rows), count = positions.shape[0];
  w.starts.assign(w.columns + 1, 0);
  w.outlier_rows.resize(count);
  int64_t place = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t gap = gap_at(positions, i);
    if (gap < (i > 0)) {
      throw Error("positions holds " + std::to_string(gap) + " at " + std::to_string(i) +
                  ", outliers must follow each other" + kAgain);
    }
    place += gap;
    const int64_t n = place / (height * members), within = place % (height * members);
    const int64_t k = within % members * height + within / members;
    if (n >= w.columns || k >= w.rows) {
      throw Error("positions puts outlier " + std::to_string(i) + " at row " + std::to_string(k) +
                  ", column " + std::to_string(n) + ", outside the matrix" + kAgain);
    }
    ++w.starts[n + 1];
    w.outlier_rows[i] = static_cast<uint32_t>(k);
  }
  for (int64_t n = 0; n < w.columns; ++n) w.starts[n + 1] += w.starts[n];
}

}  // namespace

GoboMatrix make_matrix(const Encoded& e) {
  check_size(e);
  check_compute(e);
  check_arrays(e);
  GoboMatrix w{};
  w.bits = e.bits;
  w.rows = e.shape[0];
  w.columns = e.shape[1];
  w.groups = e.centroids.shape[0];
  w.indices = static_cast<const uint8_t*>(e.indices.data);
  w.centroids = static_cast<const float*>(e.centroids.data);
  w.values = static_cast<const float*>(e.values.data);
  place_outliers(e.positions, w);
  w.int8 = e.compute == "int8";
  return w;
}

void decode_column(const GoboMatrix& w, int64_t n, float* out) {
  const float* centroids = w.centroids + (n / w.group_columns() << w.bits);
  with_width(w.bits, [&](auto width) {
    visit_column<width.bits>(w.indices, w.rows, n,
                             [=](int64_t k, unsigned index) { out[k] = centroids[index]; });
  });
  for (uint32_t i = w.starts[n]; i < w.starts[n + 1]; ++i) out[w.outlier_rows[i]] = w.values[i];
}

}  // namespace sardonyx
