// The part of onnxruntime's stable C ABI that these ops need, declared by hand: no package ships
// the headers. Names are those of onnxruntime_c_api.h. A slot is the number of a function in the
// struct OrtApi, counted from 0; functions keep slot and signature in every later release.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

struct OrtStatus;  // null: all is well; any other must be released or handed on
struct OrtValue;
struct OrtSessionOptions;
struct OrtCustomOpDomain;
struct OrtKernelInfo;
struct OrtKernelContext;
struct OrtShapeInferContext;
struct OrtTensorTypeAndShapeInfo;

struct OrtApi {
  void (*slots[1])();  // as many as the release has
};

struct OrtApiBase {
  const OrtApi* (*GetApi)(uint32_t version);  // null if this onnxruntime is older than version
  const char* (*GetVersionString)();          // "1.31.1"
};

// What an op tells onnxruntime of itself: a version, then 25 functions.
struct OrtCustomOp {
  uint32_t version;  // kOrtVersion: how much of this struct onnxruntime may read
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);  // null: the CPU's
  int (*GetInputType)(const OrtCustomOp*, size_t index);        // 0: any
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  int (*GetOutputType)(const OrtCustomOp*, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void* kernel, OrtKernelContext*);
  void (*KernelDestroy)(void* kernel);
  int (*GetInputCharacteristic)(const OrtCustomOp*, size_t index);  // 0: required
  int (*GetOutputCharacteristic)(const OrtCustomOp*, size_t index);
  int (*GetInputMemoryType)(const OrtCustomOp*, size_t index);  // 0: the provider's
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*,
                               void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  size_t (*GetMayInplace)(int** inputs, int** outputs);
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  size_t (*GetAliasMap)(int** inputs, int** outputs);
  void (*ReleaseAliasMap)(int* inputs, int* outputs);
};
static_assert(sizeof(void*) != 8 || sizeof(OrtCustomOp) == 208, "a field is missing");

}  // extern "C"

namespace sardonyx::ort {

constexpr uint32_t kOrtVersion =
    17;  // of onnxruntime 1.17, the first with KernelContext_ParallelFor

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2 };

template <int slot, class Signature>
struct Function;

template <int slot, class Result, class... Parameters>
struct Function<slot, Result(Parameters...)> {
  static Result call(const OrtApi* api, Parameters... parameters) {
    return reinterpret_cast<Result (*)(Parameters...)>(api->slots[slot])(parameters...);
  }
};

using CreateStatus = Function<0, OrtStatus*(int code, const char* message)>;
using GetErrorMessage = Function<2, const char*(const OrtStatus*)>;
using ReleaseStatus = Function<93, void(OrtStatus*)>;

using CreateCustomOpDomain = Function<26, OrtStatus*(const char* name, OrtCustomOpDomain**)>;
using CustomOpDomain_Add = Function<27, OrtStatus*(OrtCustomOpDomain*, const OrtCustomOp*)>;
using AddCustomOpDomain = Function<28, OrtStatus*(OrtSessionOptions*, OrtCustomOpDomain*)>;

using GetTensorMutableData = Function<51, OrtStatus*(OrtValue*, void**)>;
using GetTensorElementType = Function<60, OrtStatus*(const OrtTensorTypeAndShapeInfo*, int*)>;
using GetDimensionsCount = Function<61, OrtStatus*(const OrtTensorTypeAndShapeInfo*, size_t*)>;
using GetDimensions = Function<62, OrtStatus*(const OrtTensorTypeAndShapeInfo*, int64_t*, size_t)>;
using GetTensorTypeAndShape =
    Function<65, OrtStatus*(const OrtValue*, OrtTensorTypeAndShapeInfo**)>;
using ReleaseTensorTypeAndShapeInfo = Function<99, void(OrtTensorTypeAndShapeInfo*)>;

// Those with a size give it for a null buffer; strings count their final zero.
using KernelInfoGetAttribute_string =
    Function<87, OrtStatus*(const OrtKernelInfo*, const char* name, char*, size_t* size)>;
using KernelInfoGetAttributeArray_int64 =
    Function<163, OrtStatus*(const OrtKernelInfo*, const char* name, int64_t*, size_t* size)>;
using KernelInfo_GetNodeName = Function<244, OrtStatus*(const OrtKernelInfo*, char*, size_t* size)>;
using KernelInfoGetConstantInput_tensor =
    Function<249, OrtStatus*(const OrtKernelInfo*, size_t, int* is_constant, const OrtValue**)>;

using KernelContext_GetInput =
    Function<90, OrtStatus*(const OrtKernelContext*, size_t, const OrtValue**)>;
using KernelContext_GetOutput =
    Function<91, OrtStatus*(OrtKernelContext*, size_t, const int64_t*, size_t, OrtValue**)>;
using KernelContext_ParallelFor =
    Function<274, OrtStatus*(const OrtKernelContext*, void (*task)(void* data, size_t index),
                             size_t count, size_t batches, void* data)>;

}  // namespace sardonyx::ort
