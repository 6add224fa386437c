"""Tilings fit and are the best of those that do; what stays pays for its room."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product as cartesian

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.runtime_ops.accelerator.chip_file import changed, load_chip
from sardonyx.runtime_ops.accelerator.machine import (
    Gobo,
    Kept,
    Machine,
    Memory,
    PerBuffer,
    Tiling,
    array_takes,
    machine_of,
)
from sardonyx.runtime_ops.accelerator.residents import residents
from sardonyx.runtime_ops.accelerator.schedule import bound, cost_of_plan, least_cost, tiling_of
from sardonyx.runtime_ops.accelerator.timing import Plan
from sardonyx.runtime_ops.accelerator.work import Layer, Product, Value, Vector
from sardonyx.runtime_ops.errors import InputError

CHIPS = ["gobo", "tensorcore-like", "tensorcore-like+gobo-memory", "tpu-like", "eyeriss-like"]
BUFFERS = ["activations", "weights", "outputs"]


def bytes_of_tiles(product, tiling, weights):
    """Of A, W and the result, both halves; a weight in the buffer takes ``weights`` bytes."""
    a = tiling.rows * tiling.depth * product.activation_bytes
    return 2 * a, 2 * tiling.depth * tiling.columns * weights, 8 * tiling.rows * tiling.columns


@pytest.mark.parametrize("name", CHIPS)
@settings(max_examples=8)
@given(st.integers(1, 300), st.integers(1, 4000), st.integers(1, 4000))
def test_tiles_fit_and_cover_the_product(name, m, k, n):
    machine = machine_of(load_chip(name))
    product = Product(m, k, n, True, "codebook", 3)
    room = machine.capacity.activations
    tiling = tiling_of(machine, product, Kept(), room)
    a, w, out = bytes_of_tiles(product, tiling, 3 / 8 if name == "gobo" else 4)
    assert a <= room
    assert w <= machine.capacity.weights
    assert out <= machine.capacity.outputs
    assert name != "gobo" or (
        tiling.depth == k and (tiling.columns == n or tiling.columns % 16 == 0)
    )


def all_tilings(machine, product):
    rows = {-(-product.m // (1 << shift)) for shift in range(product.m.bit_length())}
    for split in (1, 2, 4, 8, 16, 32):
        for columns in (16, 48, 64, 96, 128, 192, 256, 384):
            for outer, each in cartesian(("rows", "columns"), rows):
                yield Tiling(each, product.k, columns, outer, split)


def cost(machine, product, tiling, kept):
    return cost_of_plan(Plan(machine, product, tiling, kept))


def test_other_tilings_cost_no_less():
    """For GOBO's first projection; the worst would take more than twice as long."""
    machine = machine_of(load_chip("gobo"))
    product = Product(128, 768, 768, True, "codebook", 3)
    room = machine.capacity.activations
    costs = [
        cost(machine, product, tiling, Kept())
        for tiling in all_tilings(machine, product)
        if bytes_of_tiles(product, tiling, 3 / 8)[0] <= room
    ]
    best = least_cost(machine, product, Kept(), room)
    assert best == cost(machine, product, tiling_of(machine, product, Kept(), room), Kept())
    assert best <= min(costs)
    assert best < 0.5 * max(costs)


SHAPES = st.builds(
    Product,
    st.integers(1, 300),
    st.integers(16, 2000),
    st.integers(16, 2000),
    st.booleans(),
    st.sampled_from(["codebook", "float32"]),
    st.just(32),
    count=st.integers(1, 3),
).map(lambda p: replace(p, bits=3) if p.format == "codebook" else p)

KEPT = st.builds(Kept, st.booleans(), st.booleans(), st.booleans())


@pytest.mark.parametrize("name", ["tensorcore-like+gobo-memory", "tpu-like", "eyeriss-like"])
@settings(max_examples=30)
@given(st.data(), SHAPES, KEPT)
def test_no_tiling_costs_less_than_its_bound(name, data, product, kept):
    product = replace(product, constant=product.constant or product.format == "codebook")
    kept = replace(kept, weights=kept.weights and not product.constant)
    tiling = Tiling(
        data.draw(st.integers(1, product.m)),
        data.draw(st.integers(1 + product.k // 5, product.k)),
        data.draw(st.integers(1 + product.n // 5, product.n)),
        data.draw(st.sampled_from(["rows", "columns"])),
        data.draw(st.sampled_from([1, 2, 3])) if "eyeriss" in name else 1,
    )
    machine = machine_of(load_chip(name))
    assert bound(machine, product, tiling, kept) <= cost(machine, product, tiling, kept) + 1e-6


@settings(max_examples=15)
@given(st.integers(1, 300), st.integers(16, 2000), st.integers(16, 2000))
@pytest.mark.parametrize("name", ["tensorcore-like", "tpu-like", "eyeriss-like"])
def test_compressed_weights_cost_no_more(name, m, k, n):
    """16 x 16 of them take 97 bytes, not 1,024, and decoding keeps up with DRAM. On a chip that
    does not decode, the two are the same work."""
    plain = Product(m, k, n, True, "float32", 32)
    packed = replace(plain, format="codebook", bits=3)
    chip, memory = (machine_of(load_chip(name + more)) for more in ("", "+gobo-memory"))
    room = chip.capacity.activations
    expected = least_cost(chip, plain, Kept(), room)
    assert least_cost(chip, packed, Kept(), room) == expected
    assert least_cost(memory, plain, Kept(), room) == expected
    assert least_cost(memory, packed, Kept(), room) <= expected


@settings(max_examples=15)
@given(
    st.integers(1, 300),
    st.integers(16, 2000),
    st.integers(16, 2000),
    st.sampled_from([*(f"buffers.{b}.capacity" for b in BUFFERS), "dram.bandwidth"]),
    st.floats(1.05, 4),
)
@pytest.mark.parametrize("name", CHIPS)
def test_more_of_anything_costs_no_more(name, m, k, n, field, factor):
    """Room for tiles, or bytes a second. In cycles alone it may, by what DRAM weighs in the cost:
    a sixteenth."""
    chip = load_chip(name)
    *_, value = field.split(".")
    part = chip.dram if field.startswith("dram") else getattr(chip.buffers, field.split(".")[1])
    more = getattr(part, value).value * factor
    other = changed(chip, field, more if field.startswith("dram") else int(more))
    product = Product(m, k, n, True, "codebook", 3)
    costs = []
    for each in (chip, other):
        machine = machine_of(each)
        costs.append(least_cost(machine, product, Kept(), machine.capacity.activations))
    assert costs[1] <= costs[0]


def test_outliers_take_room_too():
    """Where the best tiles fill the buffer exactly, they do not once there are outliers."""
    array, memory = Gobo(8, 3, True, 1), Memory(64, Fraction(1), 0)
    ample = PerBuffer(1 << 20, 1 << 20, 1 << 20)
    machine = Machine(array, ample, ample, memory)
    plain = Product(64, 64, 128, True, "codebook", 3)
    rich = replace(plain, outliers=(50,) * 8)

    def weights(product, tiling):
        return 2 * product.container_bytes(64, product.blocks(0, tiling.columns))

    best = tiling_of(machine, plain, Kept(True), 1 << 20)
    assert tiling_of(machine, rich, Kept(True), 1 << 20) == best
    exact = replace(machine, capacity=replace(ample, weights=weights(plain, best)))
    assert tiling_of(exact, plain, Kept(True), 1 << 20) == best
    narrower = tiling_of(exact, rich, Kept(True), 1 << 20)
    assert weights(rich, narrower) <= exact.capacity.weights < weights(rich, best)


@pytest.mark.parametrize("part", ["activations", "weights", "outputs"])
@pytest.mark.parametrize("name", CHIPS)
def test_a_buffer_that_holds_no_tile(name, part):
    chip = changed(load_chip(name), f"buffers.{part}.capacity", 4)
    machine = machine_of(chip)
    product = Product(8, 768, 768, True, "codebook", 3)
    with pytest.raises(InputError, match=f"buffers.{part}.capacity is 4 bytes") as caught:
        tiling_of(machine, product, Kept(), machine.capacity.activations)
    assert "\n" not in str(caught.value)


def test_gobo_never_cuts_k():
    """Centroids meet sums of all of K once."""
    machine = machine_of(load_chip("gobo"))
    product = Product(1, 4096, 1024, True, "codebook", 4)
    assert tiling_of(machine, product, Kept(), machine.capacity.activations).depth == 4096


def test_what_an_array_takes():
    weights = {name: Product(1, 2, 3, True, name, 4) for name in ("codebook", "float32", "int8")}
    takes = {
        chip: {name for name, product in weights.items() if array_takes(load_chip(chip), product)}
        for chip in ("gobo", "tpu-like", "tpu-like-int8")
    }
    assert takes == {
        "gobo": {"codebook"},
        "tpu-like": {"codebook", "float32"},
        "tpu-like-int8": {"int8"},
    }
    assert not array_takes(load_chip("gobo"), replace(weights["codebook"], bits=5))


def layer(name, reads, writes, on="vector"):
    """A layer whose values have 10 bytes each."""
    values = [tuple(Value(each, 10) for each in names.split()) for names in (reads, writes)]
    return Layer(name, "Op", "", Vector(1, 10, 10, "arithmetic"), on, *values)


CHAIN = [layer("1", "x", "a"), layer("2", "a", "b"), layer("3", "b", "c"), layer("4", "a c", "y")]


def moved(work, kept, room):
    """A cost: what does not stay."""
    return sum(10 for value in (*work.reads, *work.writes) if value.name not in kept)


def test_all_that_is_written_and_read_stays_if_it_fits():
    assert residents(CHAIN, 30, moved).names == {"a", "b", "c"}
    assert residents(CHAIN, 30, moved).room == (20, 10, 0, 10)


def test_short_lives_come_first():
    assert residents(CHAIN, 20, moved).names == {"b", "c"}
    assert residents(CHAIN, 10, moved).names == {"b"}


def test_nothing_stays_that_costs_more_room_than_it_saves():
    def cramped(work, kept, room):
        return moved(work, kept, room) + (100 if room < 30 else 0)

    assert residents(CHAIN, 30, cramped).names == set()


def test_what_the_host_touches_goes_through_dram():
    chain = [*CHAIN[:2], layer("3", "b", "c", on="host"), CHAIN[3]]
    assert residents(chain, 30, moved).names == {"a"}
