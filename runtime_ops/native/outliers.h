// A matrix's outliers in the order in which tiles meet them (tile.h).
#pragma once

#include <cstdint>
#include <vector>

#include "int8_table.h"
#include "matrix.h"

namespace sardonyx {

template <class Place>
struct Outliers {
  std::vector<uint32_t> starts;  // of each list, and the end
  std::vector<Place> places;
  std::vector<float> values;
};

// For compute = "fp32": tile by tile, of each the places of Fp32Tile.
Outliers<uint16_t> outliers_by_piece(const GoboMatrix& w);

// For compute = "int8": panel by panel, the places of Int8Tile. Values are what the integer of an
// outlier's index leaves to add.
Outliers<uint32_t> outliers_by_panel(const GoboMatrix& w, const Int8Table& table);

}  // namespace sardonyx
