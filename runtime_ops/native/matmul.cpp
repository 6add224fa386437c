#include "matmul.h"

#include <algorithm>
#include <atomic>

#include "cpu.h"
#include "int8_table.h"
#include "outliers.h"
#include "quantized_rows.h"

namespace sardonyx {
namespace {

constexpr int64_t kSlab = 128;  // most rows of A that share a decoded tile

// Weights times rows (a row's share of decoding counted as eight) below which threads do not pay.
constexpr int64_t kWorthThreads = int64_t{1} << 21;

// What both products share: their tiles, and who works on which.
class Tiles : public MatMul {
 protected:
  explicit Tiles(const GoboMatrix& w)
      : bits_(w.bits),
        rows_(w.rows),
        columns_(w.columns),
        group_(w.group_columns()),
        indices_(w.indices) {}

  // task(first row, rows, first column) of each tile of m rows, slab by slab; on several threads
  // where that is worth it.
  template <class Task>
  void for_tiles(int64_t m, int64_t slab, const ForEach& for_each, const Task& task) const {
    const int64_t across = ceil_div(columns_, kTileColumns), count = ceil_div(m, slab) * across;
    const auto numbered = [&](size_t i) {
      const int64_t first = static_cast<int64_t>(i) / across * slab;
      task(first, std::min(slab, m - first), static_cast<int64_t>(i) % across * kTileColumns);
    };
    if (rows_ * columns_ * (m + 8) >= kWorthThreads) return for_each(count, numbered);
    for (int64_t i = 0; i < count; ++i) numbered(i);
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
    for_tiles(m, kSlab, for_each, [&](int64_t first, int64_t count, int64_t column) {
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
    static std::atomic<uint64_t> calls{0};
    const uint64_t call = ++calls;
    // Each thread quantizes the rows it works on, instead of fetching them from another core; the
    // slabs are so small that two threads have rows of their own.
    const int64_t slab = std::clamp(ceil_div(m, 2 * kLanes) * kLanes, kSlab / 4, kSlab);
    for_tiles(m, slab, for_each, [&](int64_t first, int64_t count, int64_t column) {
      thread_local QuantizedRows rows;
      thread_local uint64_t of_call = 0;
      thread_local int64_t of_first = 0;
      if (of_call != call || of_first != first) {
        rows.set(bits_, rows_, a + first * rows_, count);
        of_call = call;
        of_first = first;
      }
      multiply(rows, count, column, outliers_.starts.data(), scales_.data(), bias,
               y + first * columns_);
    });
  }

 private:
  // One tile, y its first row.
  void multiply(const QuantizedRows& rows, int64_t m, int64_t column, const uint32_t* starts,
                const float* scales, const float* bias, float* y) const {
    thread_local Scratch scratch;
    Int8Tile t{};
    static_cast<Tile&>(t) = tile(m, column, bias, y);
    t.u = rows.u;
    t.u_columns = rows.u_columns;
    t.scales = rows.scales;
    t.zero_points = rows.zero_points;
    set_tables(t, column, [&](int i, int64_t g) { t.tables[i] = table_.at(g); });
    t.table_scales = scales + column;
    t.column_sums = sums_.data() + column;
    t.starts = starts + column / kLanes;
    t.places = outliers_.places.data();
    t.values = outliers_.values.data();
    t.value_sums = value_sums_.data() + column;
    kernels().int8(t, scratch.get(kernels().int8_scratch(t)));
  }

  // Column sums of the integers: the product with a row of ones, of scales 1 and without outliers.
  // Float32 holds them exactly: 63 K is below 2^24.
  void add_up_columns() {
    const std::vector<uint32_t> none(ceil_div(columns_, kLanes) + 1);
    const std::vector<float> ones(columns_, 1.0f), row(rows_, 255.0f);
    std::vector<float> y(columns_);
    QuantizedRows rows;
    rows.set(bits_, rows_, row.data(), 1);  // u = 255, s = 1, z = 0
    std::replace(rows.u, rows.u + padded_rows_of(rows_), uint8_t{255}, uint8_t{1});
    for (int64_t column = 0; column < columns_; column += kTileColumns) {
      multiply(rows, 1, column, none.data(), ones.data(), nullptr, y.data());
    }
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
