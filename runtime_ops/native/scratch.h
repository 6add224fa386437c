// Memory that is used again and again.
#pragma once

#include <cstdint>
#include <memory>

namespace sardonyx {

// Bytes of any contents, aligned to a cache line; grows, never shrinks.
class Scratch {
 public:
  void* get(int64_t bytes) {
    constexpr int64_t line = 64;
    if (bytes > size_) {
      memory_.reset(new char[bytes + line]);
      size_ = bytes;
    }
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    return reinterpret_cast<void*>((address + line - 1) / line * line);
  }

 private:
  std::unique_ptr<char[]> memory_;
  int64_t size_ = 0;
};

}  // namespace sardonyx
