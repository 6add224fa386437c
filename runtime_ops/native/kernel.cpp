#include "kernel.h"

#include <exception>
#include <mutex>

namespace sardonyx {
namespace {

// The message of a status, which is released.
std::string message(const OrtApi* api, OrtStatus* status) {
  const std::string text = ort::GetErrorMessage::call(api, status);
  ort::ReleaseStatus::call(api, status);
  return text;
}

// Raises Error where onnxruntime's answer is one.
void check(const OrtApi* api, OrtStatus* status) {
  if (status != nullptr) throw Error(message(api, status));
}

struct ShapeInfo {
  const OrtApi* api;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  ~ShapeInfo() { ort::ReleaseTensorTypeAndShapeInfo::call(api, info); }
};

Tensor view(const OrtApi* api, const OrtValue* value) {
  ShapeInfo shape{api};
  check(api, ort::GetTensorTypeAndShape::call(api, value, &shape.info));
  int type = 0;
  check(api, ort::GetTensorElementType::call(api, shape.info, &type));
  size_t rank = 0;
  check(api, ort::GetDimensionsCount::call(api, shape.info, &rank));
  Tensor tensor{static_cast<Type>(type), std::vector<int64_t>(rank), nullptr};
  check(api, ort::GetDimensions::call(api, shape.info, tensor.shape.data(), rank));
  void* data = nullptr;
  check(api, ort::GetTensorMutableData::call(api, const_cast<OrtValue*>(value), &data));
  tensor.data = data;
  return tensor;
}

// A task, and the first exception of those that onnxruntime's threads must not see.
struct Task {
  const std::function<void(size_t)>& run;
  std::mutex mutex;
  std::exception_ptr error;

  static void call(void* self, size_t index) noexcept {
    Task& task = *static_cast<Task*>(self);
    try {
      task.run(index);
    } catch (...) {
      const std::lock_guard lock(task.mutex);
      if (!task.error) task.error = std::current_exception();
    }
  }
};

}  // namespace

std::string NodeInfo::name() const {
  size_t size = 0;
  check(api_, ort::KernelInfo_GetNodeName::call(api_, info_, nullptr, &size));
  std::string name(size, '\0');
  check(api_, ort::KernelInfo_GetNodeName::call(api_, info_, name.data(), &size));
  return name.c_str();
}

std::vector<int64_t> NodeInfo::ints(const char* attribute) const {
  using Get = ort::KernelInfoGetAttributeArray_int64;
  size_t size = 0;
  if (OrtStatus* status = Get::call(api_, info_, attribute, nullptr, &size)) {
    throw Error(std::string("attribute ") + attribute + ": " + message(api_, status));
  }
  std::vector<int64_t> values(size);
  check(api_, Get::call(api_, info_, attribute, values.data(), &size));
  return values;
}

std::string NodeInfo::string(const char* attribute, const char* otherwise) const {
  using Get = ort::KernelInfoGetAttribute_string;
  size_t size = 0;
  if (OrtStatus* status = Get::call(api_, info_, attribute, nullptr, &size)) {
    // onnxruntime tells only in words a missing attribute from one of another type
    if (message(api_, status).find("type") == std::string::npos) return otherwise;
    throw Error(std::string("attribute ") + attribute + " must be a string");
  }
  std::string value(size, '\0');
  check(api_, Get::call(api_, info_, attribute, value.data(), &size));
  return value.c_str();
}

Tensor NodeInfo::constant(size_t input, const char* what) const {
  int is_constant = 0;
  const OrtValue* value = nullptr;
  using Get = ort::KernelInfoGetConstantInput_tensor;
  check(api_, Get::call(api_, info_, input, &is_constant, &value));
  if (!is_constant || value == nullptr) {
    throw Error(std::string(what) +
                " is not constant; make it an initializer that is no input of the graph, or run "
                "this model without the native library");
  }
  return view(api_, value);
}

Tensor Call::input(size_t index) const {
  const OrtValue* value = nullptr;
  check(api_, ort::KernelContext_GetInput::call(api_, context_, index, &value));
  if (value == nullptr) throw Error("input " + std::to_string(index) + " is missing");
  return view(api_, value);
}

float* Call::output(const std::vector<int64_t>& shape) const {
  OrtValue* value = nullptr;
  using Get = ort::KernelContext_GetOutput;
  check(api_, Get::call(api_, context_, 0, shape.data(), shape.size(), &value));
  void* data = nullptr;
  check(api_, ort::GetTensorMutableData::call(api_, value, &data));
  return static_cast<float*>(data);
}

void Call::for_each(size_t count, const std::function<void(size_t)>& task) const {
  if (count == 0) return;
  if (count == 1) return task(0);
  Task shared{task, {}, nullptr};
  check(api_, ort::KernelContext_ParallelFor::call(api_, context_, Task::call, count, 0, &shared));
  if (shared.error) std::rethrow_exception(shared.error);
}

GoboMatrix matrix_of(const NodeInfo& node, int bits) {
  return make_matrix({bits, node.ints("shape"), node.string("compute", "fp32"),
                      node.constant(1, "indices"), node.constant(2, "centroids"),
                      node.constant(3, "positions"), node.constant(4, "values")});
}

const float* floats(const Tensor& tensor, const char* what) {
  if (tensor.type != Type::float32) {
    throw Error(std::string(what) +
                " is not float32, the only type of the native library; run "
                "this model without it");
  }
  return static_cast<const float*>(tensor.data);
}

}  // namespace sardonyx
