"""Energy by component, and area, of a chip: counts of operations times public constants.

Counted are operations, registers, SRAM and DRAM accesses. Not counted, for want of public numbers:
clock and control, wires, multiplexers, leakage, idle time. So a chip's own figures are too low,
and of two chips that differ in these, the comparison is only of what is counted.

**Memories.** A memory that moves P bytes a cycle is P / 8 banks of 64 bits; an access costs what a
memory of a bank's capacity costs. Between the three capacities of the table, and beyond, the
logarithm of energy is linear in that of capacity (with slope 1/2 beyond). Registers are such a
memory too, of the capacity of one register file, and charged by the byte.

**What a product does**, for a tile of M x K x N on the array:

    gobo             an addition, an index, a register read and write for every weight in use of
                     every row; a multiplication, an addition and a register read and write (the
                     copy to the shadow) for each of 2^bits sums of each result; the same for outliers
    others           a multiplication and an addition for every weight of every row
      tensorcore     registers: operands once each, a sum read and written, for each unit and cycle
      systolic       registers: weight and sum read, activation and sum written, for each MAC
      row-stationary scratch pads: weight, input and sum read, sum written, for each MAC
      lanes          registers: both operands and the sum read, the sum written

SRAM is read as often as the array asks (`arrays`); sums that wait for the rest of K are read and
written again. Whatever DRAM moves is written to, or read from, an SRAM as well.
"""

from dataclasses import dataclass, fields
from math import log

from sardonyx.runtime_ops.accelerator.arrays import Tile
from sardonyx.runtime_ops.accelerator.chip import Buffer, Chip, Technology
from sardonyx.runtime_ops.accelerator.machine import (
    SUM_BYTES,
    Gobo,
    Lanes,
    Machine,
    RowStationary,
    Systolic,
    TensorCore,
)
from sardonyx.runtime_ops.accelerator.timing import Plan, Traffic
from sardonyx.runtime_ops.accelerator.work import COLUMNS, Product, Vector
