"""The systolic array against SCALE-Sim 3.0.0, on the products of BERT-base at 128 tokens.

The figures are "Total Cycles" of its COMPUTE_REPORT.csv: weight-stationary, bandwidth CALC (which
never stalls), 8 MB for each operand. It numbers cycles from 0 and reports the last one, which is
one less than how many there are; in all else the two agree. Its "incl. prefetch" column fetches
all operands first, 10 words a cycle, a figure that its source calls arbitrary: not compared.
"""

from fractions import Fraction

import pytest

from sardonyx.runtime_ops.accelerator.arrays import Tile, compute_cycles
from sardonyx.runtime_ops.accelerator.machine import Machine, Memory, PerBuffer, Systolic
from sardonyx.runtime_ops.accelerator.work import Product

FREE = PerBuffer(1 << 20, 1 << 20, 1 << 20)
SHAPES = {
    "projection": (128, 768, 768),
    "intermediate": (128, 768, 3072),
    "output": (128, 3072, 768),
    "scores": (128, 64, 128),
    "context": (128, 128, 64),
    "pooler": (1, 768, 768),
}
SCALE_SIM = {
    (12, 14): (577279, 2309119, 2309119, 9839, 9019, 130239),
    (32, 32): (127871, 511487, 511487, 1775, 1775, 54719),
    (64, 64): (45791, 183167, 183167, 635, 635, 27503),
    (128, 128): (18359, 73439, 73439, 509, 509, 13787),
    (256, 256): (8045, 32183, 32183, 893, 893, 6902),
}


@pytest.mark.parametrize("side", SCALE_SIM)
def test_same_cycles_as_scale_sim(side):
    machine = Machine(Systolic(*side, ahead=False), FREE, FREE, Memory(64, Fraction(64), 0))
    for (m, k, n), last_cycle in zip(SHAPES.values(), SCALE_SIM[side], strict=True):
        product = Product(m, k, n, True, "float32", 32)
        cycles = compute_cycles(machine, product, Tile(m, k, n, (0,) * -(-n // 16)), 1)
        assert cycles == last_cycle + 1
