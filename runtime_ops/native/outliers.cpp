#include "outliers.h"

#include "tile.h"

namespace sardonyx {
namespace {

// Where an outlier goes: which list, and what is noted there.
template <class Place>
struct Entry {
  int64_t list;
  Place place;
  float value;
};

// entry(k, n, value) of every outlier, sorted by list; those of a list stay in their order.
template <class Place, class Make>
Outliers<Place> sorted(const GoboMatrix& w, int64_t lists, const Make& entry) {
  Outliers<Place> out;
  const size_t count = w.outlier_rows.size();
  out.starts.assign(lists + 2, 0);
  out.places.resize(count);
  out.values.resize(count);
  const auto for_outliers = [&](const auto& task) {
    for (int64_t n = 0; n < w.columns; ++n) {
      for (uint32_t i = w.starts[n]; i < w.starts[n + 1]; ++i)
        task(entry(w.outlier_rows[i], n, w.values[i]));
    }
  };
  for_outliers([&](const Entry<Place>& e) { ++out.starts[e.list + 2]; });
  for (int64_t i = 2; i <= lists; ++i) out.starts[i + 1] += out.starts[i];
  for_outliers([&](const Entry<Place>& e) {
    const uint32_t slot = out.starts[e.list + 1]++;
    out.places[slot] = e.place;
    out.values[slot] = e.value;
  });
  out.starts.pop_back();
  return out;
}

}  // namespace

Outliers<uint16_t> outliers_by_piece(const GoboMatrix& w) {
  const int64_t pieces = pieces_of(w.bits, w.rows), height = height_of(w.bits, w.rows);
  const int members = members_of(w.bits);
  const int64_t tiles = ceil_div(w.columns, kTileColumns);
  return sorted<uint16_t>(w, tiles * pieces * kTilePanels, [=](int64_t k, int64_t n, float value) {
    const int64_t tile = n / kTileColumns, column = n % kTileColumns, row = k % height;
    const int64_t piece = tile * pieces + row / kRun * members + k / height;
    const auto place = static_cast<uint16_t>(row % kRun * kTileColumns + column);
    return Entry<uint16_t>{piece * kTilePanels + column / kLanes, place, value};
  });
}

Outliers<uint32_t> outliers_by_panel(const GoboMatrix& w, const Int8Table& table) {
  const int64_t height = height_of(w.bits, w.rows);
  const int words = words_of(w.bits), block_rows = member_rows_of(w.bits);
  return sorted<uint32_t>(
      w, ceil_div(w.columns, kLanes), [=, &w, &table](int64_t k, int64_t n, float value) {
        const int64_t row = k % height, in_block = row % block_rows;
        const int64_t place = row / block_rows * kBlockRows + k / height * block_rows +
                              in_block % words * 4 + in_block / words;
        const int64_t group = n / w.group_columns();
        const unsigned index = with_width(
            w.bits, [&](auto width) { return index_of<width.bits>(w.indices, w.rows, k, n); });
        const float plain = table.scale(group) * table.at(group)[index];
        return Entry<uint32_t>{n / kLanes, static_cast<uint32_t>(place * kLanes + n % kLanes),
                               value - plain};
      });
}

}  // namespace sardonyx
