// The library's entry points: the ops as onnxruntime sees them, and their registration.
#include <climits>
#include <deque>
#include <map>
#include <mutex>

#include "kernel.h"

namespace sardonyx {
namespace {

// A kernel with what its error messages need.
struct Made {
  const OrtApi* api;
  std::string where;
  std::unique_ptr<Kernel> kernel;
};

// Runs `work`; nothing it raises passes: whoever called is C.
template <class Work>
OrtStatus* guarded(const OrtApi* api, const std::string& where, const Work& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const Error& error) {
    const std::string message = where + ": " + error.what();
    return ort::CreateStatus::call(api, ort::kInvalidArgument, message.c_str());
  } catch (const std::exception& error) {
    return ort::CreateStatus::call(api, ort::kFail, error.what());
  }
}

constexpr int kAnyType = 0;

struct Op : OrtCustomOp {
  Op(const OpKind& of, int width);

  const OpKind& kind;
  int bits;
  std::string name, hidden_name;
};

// Whether sessions that this thread creates see the ops under names that no model uses.
thread_local bool hidden = false;

const Op& op(const OrtCustomOp* self) {
  return static_cast<const Op&>(*self);
}

OrtStatus* create_kernel(const OrtCustomOp* self, const OrtApi* api, const OrtKernelInfo* info,
                         void** kernel) {
  std::string where;
  return guarded(api, where, [&] {
    const NodeInfo node(api, info);
    where = op(self).name;
    const std::string name = node.name();
    if (!name.empty()) where += " '" + name + "'";
    *kernel = new Made{api, where, op(self).kind.make(node, op(self).bits)};
  });
}

OrtStatus* run_kernel(void* kernel, OrtKernelContext* context) {
  const Made& made = *static_cast<Made*>(kernel);
  return guarded(made.api, made.where, [&] { made.kernel->run(Call(made.api, context)); });
}

Op::Op(const OpKind& of, int width)
    : OrtCustomOp{},
      kind(of),
      bits(width),
      name(of.name + std::to_string(width)),
      hidden_name("Hidden" + name) {
  version = ort::kOrtVersion;
  GetName = [](auto self) { return (hidden ? op(self).hidden_name : op(self).name).c_str(); };
  GetExecutionProviderType = [](auto) -> const char* { return nullptr; };
  GetInputType = [](auto, size_t) { return kAnyType; };
  GetInputTypeCount = [](auto self) { return op(self).kind.inputs; };
  GetOutputType = [](auto, size_t) { return static_cast<int>(Type::float32); };
  GetOutputTypeCount = [](auto) -> size_t { return 1; };
  KernelDestroy = [](void* kernel) { delete static_cast<Made*>(kernel); };
  GetInputCharacteristic = [](auto, size_t) { return 0; };
  GetOutputCharacteristic = [](auto, size_t) { return 0; };
  GetInputMemoryType = [](auto, size_t) { return 0; };
  GetVariadicInputMinArity = [](auto) { return 1; };
  GetVariadicInputHomogeneity = [](auto) { return 1; };
  GetVariadicOutputMinArity = [](auto) { return 1; };
  GetVariadicOutputHomogeneity = [](auto) { return 1; };
  CreateKernelV2 = create_kernel;
  KernelComputeV2 = run_kernel;
  GetStartVersion = [](auto) { return 1; };
  GetEndVersion = [](auto) { return INT_MAX; };
}

const std::deque<Op>& ops() {
  static const std::deque<Op> all = [] {
    std::deque<Op> made;
    for (const OpKind* kind : {&kGoboMatMul, &kGoboLinear, &kGoboGather}) {
      for (int bits = 2; bits <= 8; ++bits) made.emplace_back(*kind, bits);
    }
    return made;
  }();
  return all;
}

// The domain lives as long as the process: sessions keep no count of who uses it.
OrtStatus* domain(const OrtApi* api, OrtCustomOpDomain** out) {
  static std::mutex mutex;
  static std::map<const OrtApi*, OrtCustomOpDomain*> domains;
  const std::lock_guard lock(mutex);
  if (domains.count(api) == 0) {
    OrtCustomOpDomain* made = nullptr;
    if (OrtStatus* status = ort::CreateCustomOpDomain::call(api, "sardonyx", &made)) return status;
    for (const Op& op : ops()) {
      if (OrtStatus* status = ort::CustomOpDomain_Add::call(api, made, &op)) return status;
    }
    domains[api] = made;
  }
  *out = domains[api];
  return nullptr;
}

}  // namespace
}  // namespace sardonyx

#define SARDONYX_EXPORT extern "C" __attribute__((visibility("default")))

// What onnxruntime's register_custom_ops_library calls.
SARDONYX_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace sardonyx;
  const OrtApi* api = base->GetApi(ort::kOrtVersion);
  if (api == nullptr) {
    const std::string message = std::string(
                                    "Sardonyx's native ops need onnxruntime 1.17 or newer, "
                                    "this is ") +
                                base->GetVersionString();
    return ort::CreateStatus::call(base->GetApi(1), ort::kFail, message.c_str());
  }
  OrtCustomOpDomain* ours = nullptr;
  if (OrtStatus* status = domain(api, &ours)) return status;
  return ort::AddCustomOpDomain::call(api, options, ours);
}

// onnxruntime cannot take ops out of session options again. Hiding them has the same effect, for
// the sessions that this thread creates meanwhile.
SARDONYX_EXPORT void sardonyx_hide(int hide) {
  sardonyx::hidden = hide != 0;
}

SARDONYX_EXPORT const char* sardonyx_kernels() {
  return sardonyx::kernels_in_use();
}
