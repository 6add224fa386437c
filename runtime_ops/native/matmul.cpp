#include "matmul.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "int8_table.h"
#include "outliers.h"
#include "tile.h"

namespace sardonyx {
namespace {

constexpr int64_t kSlab = 128;         // rows of A that share a decoded tile
constexpr int64_t kBatch = 4 * kSlab;  // rows that are quantized before they are multiplied

// Weights times rows (a row's share of decoding counted as eight) below which threads do not pay.
constexpr int64_t kWorthThreads = int64_t{1} << 21;

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

const TileKernels& kernels() {
  static const TileKernels& chosen = choose();
  return chosen;
}

// Memory of this thread, of any contents, aligned to a cache line.
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

// What both products share: their tiles, and who works on which.
class Tiles : public MatMul {
 protected:
  explicit Tiles(const GoboMatrix& w)
      : bits_(w.bits),
        rows_(w.rows),
        columns_(w.columns),
        group_(w.group_columns()),
        indices_(w.indices) {}

  // task(first row, rows, first column) of each tile of m rows.
  template <class Task>
  void for_tiles(int64_t m, const ForEach& for_each, const Task& task) const {
    const int64_t across = ceil_div(columns_, kTileColumns);
    for_some(m, ceil_div(m, kSlab) * across, for_each, [&](size_t i) {
      const int64_t slab = static_cast<int64_t>(i) / across,
                    tile = static_cast<int64_t>(i) % across;
      task(slab * kSlab, std::min(kSlab, m - slab * kSlab), tile * kTileColumns);
    });
  }

  // On several threads where m rows are worth it.
  void for_some(int64_t m, int64_t count, const ForEach& for_each,
                const std::function<void(size_t)>& task) const {
    if (rows_ * columns_ * (m + 8) >= kWorthThreads) return for_each(count, task);
    for (int64_t i = 0; i < count; ++i) task(i);
  }

  Tile tile(int64_t m, int64_t column, const float* bias, float* y) const {
    const int64_t count = std::min<int64_t>(kTileColumns, columns_ - column);
    const uint8_t* indices = indices_ + column / kLanes * panel_bytes_of(bits_, rows_);
    const bool one_table = column / group_ == (column + count - 1) / group_;
    return {bits_,     rows_,      static_cast<int>(count),
            one_table, indices,    bias ? bias + column : nullptr,
            m,         y + column, columns_};
  }

  // table(group) for each column of a tile; lanes beyond its columns get the last one's.
  template <class Table>
  void set_tables(const Tile& t, int64_t column, const Table& table) const {
    const int64_t first = column / group_;
    for (int i = 0; i < kTileColumns; ++i) {
      table(i, t.one_table ? first : (column + std::min(i, t.columns - 1)) / group_);
    }
  }

  int bits_;
  int64_t rows_, columns_, group_;  // columns of a group
  const uint8_t* indices_;
};

class Fp32MatMul : public Tiles {
 public:
  explicit Fp32MatMul(const GoboMatrix& w)
      : Tiles(w), centroids_(w.centroids), outliers_(outliers_by_piece(w)) {}

  void run(const float* a, int64_t m, const float* bias, float* y,
           const ForEach& for_each) const override {
    for_tiles(m, for_each, [&](int64_t first, int64_t count, int64_t column) {
      thread_local Scratch scratch;
      Fp32Tile t{};
      static_cast<Tile&>(t) = tile(count, column, bias, y + first * columns_);
      t.a = a + first * rows_;
      set_tables(t, column, [&](int i, int64_t g) { t.centroids[i] = centroids_ + (g << bits_); });
      t.starts = outliers_.starts.data() + column / kLanes * pieces_of(bits_, rows_);
      t.places = outliers_.places.data();
      t.values = outliers_.values.data();
      kernels().fp32(t, scratch.get(kernels().fp32_scratch(t)));
    });
  }

 private:
  const float* centroids_;
  Outliers<uint16_t> outliers_;
};

class Int8MatMul : public Tiles {
 public:
  explicit Int8MatMul(const GoboMatrix& w)
      : Tiles(w),
        table_(w),
        outliers_(outliers_by_panel(w, table_)),
        scales_(columns_),
        sums_(columns_),
        value_sums_(columns_) {
    for (int64_t n = 0; n < columns_; ++n) scales_[n] = table_.scale(n / group_);
    add_up_columns();
    for (size_t panel = 0; panel + 1 < outliers_.starts.size(); ++panel) {
      for (uint32_t i = outliers_.starts[panel]; i < outliers_.starts[panel + 1]; ++i) {
        value_sums_[panel * kLanes + outliers_.places[i] % kLanes] += outliers_.values[i];
      }
    }
  }

  void run(const float* a, int64_t m, const float* bias, float* y,
           const ForEach& for_each) const override {
    thread_local Scratch scratch;
    const int64_t batch = std::min(m, kBatch), slots = ceil_div(batch, kLanes) * kLanes;
    Quantized q(scratch.get(Quantized::bytes(slots, wide())), slots, wide());
    for (int64_t first = 0; first < m; first += batch) {
      const int64_t count = std::min(batch, m - first);
      quantize(a + first * rows_, count, q, for_each);
      multiply(q, count, outliers_.starts.data(), scales_.data(), bias, y + first * columns_,
               for_each);
    }
  }

 private:
  // Rows of A; the transpose of each slab lies where its rows lie.
  struct Quantized {
    Quantized(void* memory, int64_t slots, int64_t wide)
        : u(static_cast<uint8_t*>(memory)),
          u_columns(u + slots * wide),
          scales(reinterpret_cast<float*>(u_columns + slots * wide)),
          zero_points(reinterpret_cast<int32_t*>(scales + slots)) {}
    static int64_t bytes(int64_t slots, int64_t wide) { return slots * (2 * wide + 8); }
    uint8_t *u, *u_columns;
    float* scales;
    int32_t* zero_points;
  };

  int64_t wide() const { return blocks_of(rows_) * kBlockRows; }

  void quantize(const float* a, int64_t m, const Quantized& q, const ForEach& for_each) const {
    for_some(m, ceil_div(m, kLanes), for_each, [&](size_t i) {
      thread_local Scratch scratch;
      const int64_t first = static_cast<int64_t>(i) * kLanes, slab = first / kSlab * kSlab;
      const int64_t in_slab = ceil_div(std::min(kSlab, m - slab), kLanes) * kLanes;
      kernels().quantize({bits_, rows_, a + first * rows_, std::min<int64_t>(kLanes, m - first),
                          static_cast<uint8_t*>(scratch.get(wide())), q.u + first * wide(),
                          m == 1 ? nullptr : q.u_columns + slab * wide() + first - slab, in_slab,
                          q.scales + first, q.zero_points + first});
    });
  }

  void multiply(const Quantized& q, int64_t m, const uint32_t* starts, const float* scales,
                const float* bias, float* y, const ForEach& for_each) const {
    for_tiles(m, for_each, [&](int64_t first, int64_t count, int64_t column) {
      thread_local Scratch scratch;
      Int8Tile t{};
      static_cast<Tile&>(t) = tile(count, column, bias, y + first * columns_);
      t.u = q.u + first * wide();
      t.u_columns = q.u_columns + first * wide();
      t.scales = q.scales + first;
      t.zero_points = q.zero_points + first;
      set_tables(t, column, [&](int i, int64_t g) { t.tables[i] = table_.at(g); });
      t.table_scales = scales + column;
      t.column_sums = sums_.data() + column;
      t.starts = starts + column / kLanes;
      t.places = outliers_.places.data();
      t.values = outliers_.values.data();
      t.value_sums = value_sums_.data() + column;
      kernels().int8(t, scratch.get(kernels().int8_scratch(t)));
    });
  }

  // Column sums of the integers: the product with a row of ones, of scales 1 and without outliers.
  // Float32 holds them exactly: 63 K is below 2^24.
  void add_up_columns() {
    const std::vector<uint32_t> none(ceil_div(columns_, kLanes) + 1);
    const std::vector<float> ones(columns_, 1.0f);
    std::vector<float> row(rows_, 255.0f), y(columns_);
    // a row of 255 quantizes to u = 255, s = 1, z = 0
    Scratch scratch;
    const Quantized q(scratch.get(Quantized::bytes(kLanes, wide())), kLanes, wide());
    const ForEach here = [](size_t count, const auto& task) {
      for (size_t i = 0; i < count; ++i) task(i);
    };
    quantize(row.data(), 1, q, here);
    std::replace(q.u, q.u + wide(), uint8_t{255}, uint8_t{1});
    multiply(q, 1, none.data(), ones.data(), nullptr, y.data(), here);
    std::copy(y.begin(), y.end(), sums_.begin());
  }

  Int8Table table_;
  Outliers<uint32_t> outliers_;
  std::vector<float> scales_;      // [N]
  std::vector<int32_t> sums_;      // [N]
  std::vector<float> value_sums_;  // [N]
};

}  // namespace

std::unique_ptr<MatMul> make_matmul(const GoboMatrix& w) {
  if (w.int8) return std::make_unique<Int8MatMul>(w);
  return std::make_unique<Fp32MatMul>(w);
}

const char* kernels_in_use() {
  return kernels().name;
}

}  // namespace sardonyx
