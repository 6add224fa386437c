"""The equations and the machine that ticks agree, cycle for cycle."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.runtime_ops.accelerator.machine import (
    Gobo,
    Kept,
    Lanes,
    Machine,
    Memory,
    PerBuffer,
    RowStationary,
    Systolic,
    TensorCore,
    Tiling,
)
from sardonyx.runtime_ops.accelerator.schedule import tiling_of
from sardonyx.runtime_ops.accelerator.stepper import Job, step_through
from sardonyx.runtime_ops.accelerator.systolic_stepper import SystolicGrid
from sardonyx.runtime_ops.accelerator.timing import Plan, Traffic
from sardonyx.runtime_ops.accelerator.work import Product

FREE = PerBuffer(1 << 20, 1 << 20, 1 << 20)
small = st.integers(1, 4)
ARRAYS = {
    "gobo": st.builds(Gobo, st.sampled_from([1, 2, 4, 8]), st.just(4), st.booleans(), small),
    "tensorcore": st.builds(TensorCore, st.integers(1, 5), small, small, small),
    "systolic": st.builds(Systolic, small, small, st.booleans()),
    "row-stationary": st.builds(RowStationary, st.integers(1, 5), small, small, small),
    "lanes": st.builds(Lanes, st.integers(1, 8)),
}


@st.composite
def machines(draw, kind):
    ports = PerBuffer(*(draw(st.integers(1, 100)) for _ in range(3)))
    rate = Fraction(draw(st.integers(1, 60)), draw(st.integers(1, 7)))
    memory = Memory(draw(st.integers(1, 64)), rate, draw(st.integers(0, 30)))
    decoder = None if kind == "gobo" else draw(st.none() | st.integers(1, 50))
    return Machine(draw(ARRAYS[kind]), ports, FREE, memory, decoder)


@st.composite
def products(draw, kind):
    codebook = kind == "gobo" or draw(st.booleans())
    plain = st.sampled_from([("float32", 32), ("int8", 8), ("int8", 4), ("int16", 16)])
    name, bits = ("codebook", draw(st.integers(2, 4))) if codebook else draw(plain)
    n = draw(st.integers(1, 70))
    blocks = -(-n // 16)
    outliers = st.just([]) | st.lists(st.integers(0, 40), min_size=blocks, max_size=blocks)
    return Product(
        draw(st.integers(1, 10)),
        draw(st.integers(1, 24)),
        n,
        codebook or draw(st.booleans()),
        name,
        bits,
        draw(st.sampled_from([1, 1, 2, 3])),
        tuple(draw(outliers)) if codebook else (),
        draw(st.integers(0, 64)),
        draw(st.sampled_from([1, 4])),
    )


@st.composite
def placed(draw, product):
    """What may be on the chip of a product."""
    weights = not product.constant and draw(st.booleans())
    return Kept(draw(st.booleans()), weights, draw(st.booleans()))


@st.composite
def jobs(draw, kind, machine):
    """GOBO's columns are whole blocks of 16."""
    product = draw(products(kind))
    columns = 16 * draw(st.integers(1, 5)) if kind == "gobo" else draw(st.integers(1, product.n))
    split = 1
    if kind == "gobo":
        split = draw(st.sampled_from([s for s in (1, 2, 4, 8) if s <= machine.array.tiles]))
    if kind == "row-stationary":
        split = draw(st.integers(1, machine.array.rows))
    rows, depth = draw(st.integers(1, product.m)), draw(st.integers(1, product.k))
    tiling = Tiling(rows, depth, columns, draw(st.sampled_from(["rows", "columns"])), split)
    return product, tiling, draw(placed(product))


@st.composite
def scheduled_jobs(draw, kind, machine):
    """Cut as the scheduler cuts them."""
    product = draw(products(kind))
    kept = draw(placed(product))
    return product, tiling_of(machine, product, kept, machine.capacity.activations), kept


def in_closed_form(machine, work, every):
    """The cycle in which each product has left the chip, by the equations."""
    plans = [Plan(machine, *job) for job in work]
    ends, end = [], 0
    for number, plan in enumerate(plans):
        following = plans[number + 1 : number + 2]
        ahead = [after.first_weights() for after in following if after.product.constant]
        phases = plan.phases(number > 0, ahead[0] if ahead else Traffic(), every)
        end += sum(times * phase.cycles for times, phase in phases)
        ends.append(end)
    return ends


@pytest.mark.parametrize("cut", [jobs, scheduled_jobs])
@pytest.mark.parametrize("kind", ARRAYS)
@settings(max_examples=60)
@given(data=st.data())
def test_equations_and_stepper_agree(kind, cut, data):
    """On up to three products in a row, whose first weights are loaded ahead."""
    machine = data.draw(machines(kind))
    work = data.draw(st.lists(cut(kind, machine), min_size=1, max_size=3))
    stepped = step_through(machine, [Job(*job) for job in work])
    assert in_closed_form(machine, work, every=False) == stepped
    assert in_closed_form(machine, work, every=True) == stepped


SLOW = Memory(64, Fraction(64), 10)
"""DRAM of a burst a cycle, ten cycles away."""


def test_a_gobo_product_by_hand():
    """K = 32, two tiles that share 3 rows of A, and 2 blocks of W with 0 and 40 outliers.

    in(0): 3 x 32 floats are 6 bursts; two blocks of 2 sub-matrices of 97 bytes and 40 outliers of 5
    are 588 bytes, 10 bursts; the 32 bytes of centroids are one: 10 + 17 cycles.
    compute: SPUs take 16 x 8 / 8 = 16 and (128 + 40) / 8 = 21 cycles, less than the 32 additions of
    a round: 32 + 2 x 32 + 21 = 117. out: 3 x 32 floats are 6 bursts: 10 + 6 cycles.
    """
    machine = Machine(Gobo(2, 3, True, 8), FREE, FREE, SLOW)
    product = Product(3, 32, 32, True, "codebook", 3, outliers=(0, 40), table_bytes=32)
    work = [(product, Tiling(3, 32, 32), Kept())]
    assert in_closed_form(machine, work, every=False) == [27 + 117 + 16]
    assert step_through(machine, [Job(*job) for job in work]) == [27 + 117 + 16]


def test_shadow_registers_hide_the_spu():
    """Per round of 128 additions, 128 MACs: hidden but for the last, or after each of 5."""
    product = Product(5, 128, 16, True, "codebook", 3)
    kept = Kept(inputs=True, outputs=True)
    for shadow, cycles in (True, 128 * 5 + 128), (False, 5 * (128 + 128)):
        plan = Plan(
            Machine(Gobo(1, 3, shadow, 1), FREE, FREE, SLOW), product, Tiling(5, 128, 16), kept
        )
        (_, _), (_, step), (_, _) = plan.phases(True, Traffic())
        assert step.compute == cycles


def test_an_outlier_rich_block_stalls_the_adders():
    """300 outliers and 128 sums take an SPU longer than 128 additions: 128 + 5 x 428."""
    product = Product(5, 128, 16, True, "codebook", 3, outliers=(300,))
    machine = Machine(Gobo(1, 3, True, 1), FREE, FREE, SLOW)
    phases = list(Plan(machine, product, Tiling(5, 128, 16), Kept()).phases(True, Traffic()))
    assert phases[1][1].compute == 128 + 5 * 428


@given(
    st.builds(Systolic, small, small, st.booleans()),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 9),
    st.tuples(*[st.integers(1, 20)] * 3),
)
def test_the_systolic_array_multiplies(array, rows, depth, columns, ports):
    """Its cycles are those of a machine that yields the product."""
    grid = SystolicGrid(array, PerBuffer(*ports))
    grid.start(Product(rows, depth, columns, True, "float32", 32), rows, depth, columns, [], 1)
    while grid.busy:
        grid.tick()
    np.testing.assert_array_equal(grid.result, grid.inputs @ grid.weights)
