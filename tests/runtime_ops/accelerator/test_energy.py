"""Energies by hand, from the constants of the table."""

from __future__ import annotations

import pytest

from sardonyx.runtime_ops.accelerator.area import area_of
from sardonyx.runtime_ops.accelerator.arrays import Tile
from sardonyx.runtime_ops.accelerator.chip_file import changed, load_chip
from sardonyx.runtime_ops.accelerator.energy import (
    Energy,
    access_pj,
    buffer_pj,
    register_pj,
    step_energy,
    traffic_energy,
    vector_energy,
)
from sardonyx.runtime_ops.accelerator.machine import Lanes, machine_of
from sardonyx.runtime_ops.accelerator.timing import Traffic
from sardonyx.runtime_ops.accelerator.work import Product, Vector

GOBO = load_chip("gobo")
ADD, MULTIPLY, DRAM = 0.9, 3.7, 1300
"""Horowitz, ISSCC 2014, in pJ: FP32, and 64 bits of DRAM."""

approx = pytest.approx  # of sums of floats


def test_accesses_of_the_table_and_between():
    technology = GOBO.technology
    table = {8 << 10: 10, 32 << 10: 20, 1 << 20: 100}
    for capacity, energy in table.items():
        assert access_pj(technology, capacity) == approx(energy)
    assert access_pj(technology, 16 << 10) == approx(200**0.5)
    assert access_pj(technology, 2 << 10) == approx(5)
    assert access_pj(technology, 4 << 20) == approx(200)


def test_a_wide_port_is_many_banks():
    """256 KB behind a port of 256 bytes are 32 banks of 8 KB: 10 pJ for 8 bytes."""
    assert buffer_pj(GOBO.technology, GOBO.buffers.weights) == approx(10 / 8)
    narrow = changed(GOBO, "buffers.weights.port", 8).buffers.weights
    assert buffer_pj(GOBO.technology, narrow) > 4 * 10 / 8


def test_a_step_of_gobo():
    """6 rows by 64 of K by 2 blocks with 10 outliers in all, 2 groups of 16 tiles."""
    product = Product(6, 64, 32, True, "codebook", 3, outliers=(4, 6))
    energy = step_energy(GOBO, machine_of(GOBO).array, product, Tile(6, 64, 32, (4, 6)), 2)
    additions, sums = 6 * (64 * 32 - 10), 6 * 32 * 8
    register = register_pj(GOBO.technology, 16 * 4)
    inputs, weights, outputs = (
        buffer_pj(GOBO.technology, buffer)
        for buffer in (GOBO.buffers.activations, GOBO.buffers.weights, GOBO.buffers.outputs)
    )
    assert energy.pe == approx(additions * ADD)
    assert energy.spu == approx((sums + 60) * (ADD + MULTIPLY))
    assert energy.registers == approx(4 * register * (2 * additions + 3 * sums))
    assert energy.sram == approx(
        4 * (6 * 64 + 60) * inputs  # both blocks share an activation; outliers read it again
        + (3 * 64 * 32 * 3 / 8 + 5 * 60) * weights  # two rows share an index
        + 4 * 6 * 32 * outputs
    )
    assert energy.total == approx(energy.pe + energy.spu + energy.registers + energy.sram)


@pytest.mark.parametrize(
    ("name", "mac"),
    [
        ("tensorcore-like", ADD + MULTIPLY),
        ("tpu-like", ADD + MULTIPLY),
        ("eyeriss-like", ADD + MULTIPLY),
        ("tpu-like-int8", 0.2 + 0.1),
    ],
)
def test_other_arrays_multiply_every_weight(name, mac):
    chip = load_chip(name)
    product = Product(6, 64, 32, True, "int8" if "int8" in name else "float32", 8)
    energy = step_energy(chip, machine_of(chip).array, product, Tile(6, 64, 32, (0, 0)), 1)
    assert energy.pe == approx(6 * 64 * 32 * mac)
    assert energy.registers > 0
    assert energy.sram > 0
    assert energy.spu == energy.vector == 0


def test_products_on_the_vector_unit():
    product = Product(6, 64, 32, False, "float32", 32)
    energy = step_energy(GOBO, Lanes(16), product, Tile(6, 64, 32, (0, 0)), 1)
    assert energy.vector == approx(6 * 64 * 32 * (ADD + MULTIPLY))
    assert energy.pe == energy.spu == 0


def test_dram_costs_by_the_burst():
    """Bursts of 64 bytes are 8 accesses of 64 bits; each also meets a buffer."""
    traffic = Traffic(inputs=1, weights=2, results=3)
    energy = traffic_energy(GOBO, traffic)
    assert energy.dram == approx(6 * 8 * DRAM)
    assert energy.sram > 0
    assert traffic_energy(GOBO, traffic * 2).total == approx(2 * energy.total)


def test_what_is_decoded_is_written_as_floats():
    chip = load_chip("tensorcore-like+gobo-memory")
    packed = traffic_energy(chip, Traffic(weights=1, decoded=100))
    plain = traffic_energy(chip, Traffic(weights=1))
    byte = buffer_pj(chip.technology, chip.buffers.weights)
    assert packed.sram - plain.sram == approx((400 - 64) * byte)
    assert packed.registers == approx(400 * register_pj(chip.technology, 64))
    assert packed.dram == plain.dram


def test_the_vector_unit():
    arithmetic = vector_energy(GOBO, Vector(100, 40, 40, "arithmetic"))
    assert arithmetic.vector == approx(100 * (ADD + MULTIPLY) / 2)
    assert vector_energy(GOBO, Vector(100, 40, 40, "special")).vector == approx(100 * 4 * 4.6)
    assert vector_energy(GOBO, Vector(0, 40, 40, "move")).vector == 0
    assert vector_energy(GOBO, Vector(0, 40, 40, "move")).sram == arithmetic.sram > 0


def test_energies_add_up():
    one = Energy(1, 2, 3, 4, 5, 6, 7)
    assert (one + one * 2).total == 3 * 28


def test_area_of_gobo():
    """512 adders, 32 multipliers and adders, 512 x 2 x 16 sums, 1 MiB, 16 lanes."""
    area = area_of(GOBO)
    assert area.pe == approx(512 * 4184)
    assert area.spu == approx(32 * (4184 + 7700))
    assert area.registers == approx(512 * 2 * 16 * 32 * 4.522)
    assert area.sram == approx((1 << 20) * 8 * 0.346 / 0.7)
    assert area.vector == approx(16 * (4184 + 7700))
    assert area.decoder == 0


def test_area_grows_by_what_is_added():
    plain, packed = (area_of(load_chip(f"tpu-like{end}")) for end in ("", "+gobo-memory"))
    assert plain.pe == approx(65536 * (4184 + 7700))
    assert packed.total - plain.total == approx(packed.decoder)
    assert packed.decoder == 256 * 16 * 32 * 4.522
    small, large = area_of(load_chip("tpu-like-int8")), plain
    assert small.pe == approx(65536 * (282 + 137))
    assert small.registers < large.registers


def test_area_of_the_others():
    cores, rows = area_of(load_chip("tensorcore-like")), area_of(load_chip("eyeriss-like"))
    assert cores.pe == approx(512 * (4184 + 7700))
    assert cores.registers == approx(8 * (32 + 16) * 32 * 4.522)
    assert rows.pe == approx(168 * (4184 + 7700))
    assert rows.registers == approx(168 * 36 * 32 * 4.522)
