// A matrix's outliers in the order in which tiles meet them (tile.h).
#pragma once

#include <cstdint>
#include <vector>

#include "int8_table.h"
#include "matrix.h"

namespace sardonyx {

template <class Place>
struct Outliers {
  std::vector<uint32_t> starts;  // of each piece or panel, and the end
  std::vector<Place> places;     // 16 row + lane
  std::vector<float> values;
};

// For compute = "fp32": piece by piece; the row is that of the piece.
Outliers<uint16_t> outliers_by_piece(const GoboMatrix& w);

// For compute = "int8": panel by panel; the row is its place in a quantized row of A. Values are
// what the integer of an outlier's index leaves to add.
Outliers<uint32_t> outliers_by_panel(const GoboMatrix& w, const Int8Table& table);

}  // namespace sardonyx
