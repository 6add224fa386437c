"""A model on a chip: layers in a row, each on a unit, with all its costs."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sardonyx.runtime_ops.accelerator.chip_file import changed, load_chip
from sardonyx.runtime_ops.accelerator.machine import Kept, machine_of
from sardonyx.runtime_ops.accelerator.stepper import Job, step_through
from sardonyx.runtime_ops.accelerator.timeline import simulate
from sardonyx.runtime_ops.accelerator.work import Layer, Product, Value, Vector
from sardonyx.runtime_ops.errors import InputError

CHIPS = [
    "gobo",
    "tensorcore-like",
    "tensorcore-like+gobo-memory",
    "tpu-like",
    "tpu-like+gobo-memory",
    "eyeriss-like",
    "eyeriss-like+gobo-memory",
]


def dense(name, m, k, n, outliers=0):
    blocks = (outliers,) * -(-n // 16)
    work = Product(m, k, n, True, "codebook", 3, outliers=blocks, table_bytes=32)
    return Layer(name, "GoboMatMul", "", work, "array")


@pytest.mark.parametrize("name", CHIPS)
def test_a_chip_that_is_simulated_ticks_as_many_cycles(name):
    """Small arrays, and buffers that make every product take several steps."""
    chip = load_chip(name)
    sizes = {"gobo": {"tiles": 4}, "tensorcore": {"units": 2}}
    side = {"rows": 4, "columns": 6}
    for field, value in sizes.get(chip.array.kind, side).items():
        chip = changed(chip, f"array.{field}", value)
    for buffer in ("activations", "weights", "outputs"):
        chip = changed(chip, f"buffers.{buffer}.capacity", 4096)
    layers = [dense("a", 9, 40, 70, 3), dense("b", 20, 64, 33), dense("c", 5, 16, 50, 9)]
    timeline = simulate(chip, layers)
    jobs = [Job(time.layer.work, time.tiling, Kept()) for time in timeline.layers]
    stepped = step_through(machine_of(chip), jobs)
    assert [time.start + time.cycles for time in timeline.layers] == stepped
    for job in jobs:
        product, tiling = job.product, job.tiling
        assert (tiling.rows, tiling.depth, tiling.columns) != (product.m, product.k, product.n)


@pytest.mark.parametrize("name", CHIPS)
def test_totals_lanes_and_bounds(name, bert):
    chip = load_chip(name)
    timeline = simulate(chip, bert(16, width=128, encoders=2))
    assert timeline.macs == 2 * (12 * 16 * 128 * 128 + 2 * 2 * 16 * 16 * 64)
    assert timeline.cycles == sum(time.cycles for time in timeline.layers)
    assert timeline.seconds == timeline.cycles / (chip.clock.value * 1e9)
    assert timeline.energy.total == pytest.approx(sum(t.energy.total for t in timeline.layers))
    assert timeline.dram_bytes == pytest.approx(
        8 * timeline.energy.dram / chip.technology.dram_energy.value
    )
    assert 0 < timeline.utilization < 1
    for time, following in pairwise(timeline.layers):
        assert following.start == time.start + time.cycles
    for time in timeline.layers:
        longer = max(time.compute_cycles, time.memory_cycles)
        assert longer <= time.cycles <= time.compute_cycles + time.memory_cycles
        assert (time.bound == "memory") == (time.memory_cycles > time.compute_cycles)


def test_what_the_vector_unit_multiplies_does_not_use_the_array(bert):
    timeline = simulate(load_chip("gobo"), bert(16, width=128, encoders=2))
    products = 2 * 12 * 16 * 128 * 128
    assert timeline.utilization == pytest.approx(products / (timeline.cycles * 512))


def test_the_spu_lane_is_busy_as_long_as_its_work_takes():
    """Of a product of 3 bits with 9 outliers a block: 8 sums a column and row, and the outliers."""
    timeline = simulate(load_chip("gobo"), [dense("a", 100, 64, 512, 9)])
    busy = sum(event.cycles for event in timeline.events() if event.lane == "SPU")
    macs = 100 * (512 * 8 + 9 * 32)
    steps = sum(event.lane == "SPU" for event in timeline.events())
    assert macs / 32 <= busy < macs / 32 + steps


@pytest.mark.parametrize("name", CHIPS)
def test_events_fill_their_lanes_and_never_overlap(name, bert):
    timeline = simulate(load_chip(name), bert(16, width=128, encoders=2))
    lanes = {}
    for event in timeline.events():
        lanes.setdefault(event.lane, []).append(event)
    for events in lanes.values():
        for event, following in pairwise(events):
            assert event.start + event.cycles <= following.start
        assert events[-1].start + events[-1].cycles <= timeline.cycles
    for unit in ("array", "vector"):
        worked = sum(time.compute_cycles for time in timeline.layers if time.unit == unit)
        assert sum(event.cycles for event in lanes[unit]) == worked
    assert ("SPU" in lanes) == (name == "gobo")
    assert sum(event.cycles for event in lanes["DRAM"]) > 0


def test_gobo_multiplies_activations_on_its_vector_unit(bert):
    units = {time.layer.node: time.unit for time in simulate(load_chip("gobo"), bert(8)).layers}
    assert units["encoder0/q"] == "array"
    assert units["encoder0/scores"] == units["encoder0/context"] == "vector"
    assert set(units.values()) == {"array", "vector"}
    others = simulate(load_chip("tpu-like"), bert(8)).layers
    assert {time.unit for time in others if time.macs} == {"array"}


def test_first_weights_arrive_during_the_layer_before():
    """Behind another layer, a product no longer waits for them."""
    chip = load_chip("gobo")
    before = Layer("v", "Add", "", Vector(10**6, 64, 64, "arithmetic"), "vector")
    alone = simulate(chip, [dense("a", 1, 768, 768)]).layers[0]
    after = simulate(chip, [before, dense("a", 1, 768, 768)]).layers
    assert after[1].cycles < alone.cycles
    assert after[0].cycles == simulate(chip, [before]).layers[0].cycles
    assert after[1].dram_bytes == alone.dram_bytes


def test_values_that_stay_cost_no_dram():
    """Named values; unnamed ones are as large, but come from DRAM and go there."""
    x, y, z = (Value(name, 4 * 8 * 256) for name in "xyz")

    def chain(named):
        work = Product(8, 256, 256, True, "codebook", 3)
        return [
            Layer("1", "GoboMatMul", "", work, "array", *([(x,), (y,)] if named else [])),
            Layer("2", "GoboMatMul", "", work, "array", *([(y,), (z,)] if named else [])),
        ]

    chip = load_chip("gobo")
    stays, goes = simulate(chip, chain(True)), simulate(chip, chain(False))
    assert goes.dram_bytes - stays.dram_bytes == 2 * y.nbytes
    assert stays.cycles < goes.cycles


def test_compression_cuts_what_weights_move():
    """A memory-bound product of one row: 97 bytes of 1024 in each sub-matrix. Rounding
    to bursts, and activations that tiles of columns read again, are less than 2 %."""
    layers = [dense("a", 1, 3072, 3072)]
    plain = simulate(load_chip("tpu-like"), layers)
    packed = simulate(load_chip("tpu-like+gobo-memory"), layers)
    assert plain.layers[0].bound == "memory"
    activations = 2 * 4 * 3072
    of_weights = [timeline.dram_bytes - activations for timeline in (plain, packed)]
    assert of_weights[0] / of_weights[1] == pytest.approx(1024 / 97, rel=0.02)
    assert plain.cycles > 4 * packed.cycles


def test_lookups_read_rows_as_they_are_stored():
    """From a table of codes where the chip knows them, and else of floats."""
    rows = Vector(0, 64, 4096, "lookup", stored_bytes=448, decoded_bytes=4096)
    found = {
        name: simulate(load_chip(name), [Layer("e", "GoboGather", "", rows, "vector")]).dram_bytes
        for name in ("gobo", "tpu-like", "tpu-like+gobo-memory")
    }
    assert found == {
        "gobo": 64 + 448 + 4096,
        "tpu-like": 64 + 4096 + 4096,
        "tpu-like+gobo-memory": 64 + 448 + 4096,
    }


def test_special_functions_take_longer():
    times = [
        simulate(
            load_chip("gobo"), [Layer("v", "Op", "", Vector(16000, 64, 64, kind), "vector")]
        ).layers[0]
        for kind in ("arithmetic", "special")
    ]
    assert [time.compute_cycles for time in times] == [1000, 4000]


@pytest.mark.parametrize(
    "work",
    [
        Vector(10**6, 10**6, 10**6, "arithmetic"),
        Product(100, 100, 50, False, "float32", 32),
        Product(100, 100, 50, True, "float32", 32),
    ],
)
def test_the_host_costs_its_link_and_its_time(work):
    chip = load_chip("gobo")
    time = simulate(chip, [Layer("h", "Op", "", work, "host")]).layers[0]
    operations, moved = 10**6, 2 * 10**6
    if isinstance(work, Product):
        operations = 2 * 100 * 100 * 50
        moved = 4 * (100 * 100 + 100 * 50 + (0 if work.constant else 100 * 50))
    at_least = moved / chip.host.link.value + operations / chip.host.rate.value
    assert time.unit == "host"
    assert at_least <= time.compute_cycles < at_least + 1
    assert time.energy.host == pytest.approx(operations * chip.technology.host_energy.value)
    assert time.dram_bytes == pytest.approx(moved, abs=2 * 64)


def test_a_chip_too_small_for_a_model():
    chip = changed(load_chip("tensorcore-like"), "buffers.weights.capacity", 4)
    expected = r"'tensorcore-like' .* 'a': buffers\.weights\.capacity is 4 "
    with pytest.raises(InputError, match=expected):
        simulate(chip, [dense("a", 8, 64, 64)])


def test_containers_need_pes_of_their_columns():
    chip = changed(load_chip("gobo"), "array.pes", 8)
    with pytest.raises(InputError, match=r"array\.pes must be 16"):
        simulate(chip, [])
