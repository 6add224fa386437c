"""Chips load, every constant says where it is from, and each mistake is one sentence."""

from __future__ import annotations

import math
import re

import pytest

from sardonyx.runtime_ops.accelerator.chip_file import (
    CHIPS,
    changed,
    chip_files,
    chip_names,
    load_chip,
)
from sardonyx.runtime_ops.errors import InputError

GOBO = (CHIPS / "gobo.toml").read_text()
TECHNOLOGY = (CHIPS / "technology/45nm.toml").read_text()

ORIGIN = re.compile(
    "chosen: .|derived: .|GOBO \\(MICRO 2020\\)|Horowitz, .*ISSCC 2014|Dally, .*NIPS 2015"
    "|JESD79-[34]|PCI Express 3.0|NVIDIA Tesla V100 whitepaper|Jouppi et al., .*ISCA 2017"
    "|Mistry et al., IEDM 2007|Chen et al., .*JSSC 2017|NanGate 45 nm"
)


def constants(table):
    for value in table.values():
        if isinstance(value, dict):
            yield from [value] if "value" in value else constants(value)


def test_the_chips():
    assert chip_names() == ["eyeriss-like", "gobo", "tensorcore-like", "tpu-like", "tpu-like-int8"]
    kinds = [load_chip(name).array.kind for name in chip_names()]
    assert kinds == ["row-stationary", "gobo", "tensorcore", "systolic", "systolic"]


@pytest.mark.parametrize("name", chip_names())
def test_every_constant_has_an_origin(name):
    chip = load_chip(name)
    assert chip.name == name
    assert not chip.gobo_memory
    found = list(constants(chip.model_dump()))
    assert len(found) > 35
    for constant in found:
        assert ORIGIN.match(constant["source"]), constant["source"]


def test_what_the_published_table_says():
    """Horowitz, ISSCC 2014, by hand; the energies of memories double as capacity quadruples."""
    table = load_chip("gobo").technology
    assert (table.fp32_add_energy.value, table.fp32_multiply_energy.value) == (0.9, 3.7)
    assert (table.int8_add_energy.value, table.int8_multiply_energy.value) == (0.03, 0.2)
    assert (table.sram_8kb_energy.value, table.sram_32kb_energy.value) == (10, 20)


def test_derived_constants():
    """What a source says it is derived from gives the value."""
    chip, table = load_chip("gobo"), load_chip("gobo").technology
    assert table.int16_multiply_energy.value == pytest.approx(math.sqrt(0.2 * 3.1), abs=5e-4)
    assert table.int16_multiply_area.value == pytest.approx(math.sqrt(282 * 3495), abs=0.5)
    assert table.special_energy.value == pytest.approx(4 * (0.9 + 3.7))
    assert chip.buffers.activations.port.value == 4 * chip.array.tiles.value
    assert chip.buffers.weights.port.value == chip.array.tiles.value * 16 * 4 / 8
    assert chip.host.link.value == pytest.approx(16 * 8 * 128 / 130 / 8, abs=0.005)


def test_gobo_memory():
    plain, packed = load_chip("tpu-like"), load_chip("tpu-like+gobo-memory")
    assert packed.gobo_memory
    assert packed.name == "tpu-like+gobo-memory"
    both = {"name", "gobo_memory"}
    assert packed.model_dump(exclude=both) == plain.model_dump(exclude=both)
    for name in ("gobo", "tpu-like-int8"):
        with pytest.raises(InputError, match=f"chip '{name}' cannot take .*: it has no decoder"):
            load_chip(f"{name}+gobo-memory")


def test_a_file_of_ones_own(tmp_path):
    mine = tmp_path / "mine.toml"
    (tmp_path / "3nm.toml").write_text(TECHNOLOGY.replace("value = 0.9", "value = 0.1"))
    mine.write_text(GOBO.replace('"45nm"', '"3nm.toml"').replace("value = 32", "value = 64"))
    chip = load_chip(mine)
    assert (chip.name, chip.array.tiles.value) == ("mine", 64)
    assert chip.technology.fp32_add_energy.value == 0.1


MISTAKES = [
    ("[dram]", "[drum]", "there is no field drum"),
    ("tiles = {", "tyles = {", "there is no field array.tyles"),
    ("special = {", "spare = 1\nspecial = {", "there is no field vector.spare"),
    ("\nburst = {", "\n# burst = {", "dram.burst is missing"),
    ('kind = "gobo"', "", "array.kind is missing"),
    ('kind = "gobo"', 'kind = "cgra"', "array.kind is 'cgra', not one of 'gobo', 'tensorcore'"),
    ("value = 32", "value = -32", "array.tiles.value: should be greater than 0 (got -32)"),
    ("value = 32", "value = 0", "array.tiles.value: should be greater than 0 (got 0)"),
    ("value = 32", "value = 1.5", "array.tiles.value: should be a valid integer (got 1.5)"),
    ("value = 1.0", "value = nan", "clock.value: should be a finite number (got nan)"),
    ("value = 1.0", 'value = "1"', "clock.value: should be a valid number (got '1')"),
    ('unit = "GHz"', 'unit = "MHz"', "clock: its unit is 'GHz', not 'MHz'"),
    ('unit = "GHz", ', "", "clock.unit is missing"),
    ('source = "chosen: as all', 'spare = "', "there is no field clock.spare"),
    ("GOBO (MICRO 2020): 16 PEs share an SPU", "", "array.pes.source is empty: give a source, as"),
    ("special = {", "special = 4\n# {", "vector.special must be a table (got 4)"),
    ("[host]", "host = 4\n[hosts]", "dram.host"),
    ('technology = "45nm"', "", "technology is missing"),
    ('technology = "45nm"', "technology = 45", "technology must be a table (got 45)"),
]


@pytest.mark.parametrize(("before", "after", "sentence"), MISTAKES)
def test_mistakes(tmp_path, before, after, sentence):
    mine = tmp_path / "mine.toml"
    assert before in GOBO
    mine.write_text(GOBO.replace(before, after, 1))
    with pytest.raises(InputError) as caught:
        load_chip(mine)
    assert str(caught.value).startswith(f"chip '{mine}': ")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mistakes_of_a_technology(tmp_path):
    mine, technology = tmp_path / "mine.toml", tmp_path / "3nm.toml"
    mine.write_text(GOBO.replace('"45nm"', '"3nm.toml"'))
    with pytest.raises(InputError, match=r"cannot read technology '.*3nm.toml': No such file"):
        load_chip(mine)
    technology.write_text(TECHNOLOGY.replace("dram_energy", "dram"))
    with pytest.raises(InputError, match=r"technology '3nm.toml': there is no field dram$"):
        load_chip(mine)
    mine.write_text(GOBO.replace('"45nm"', '"44nm"'))
    with pytest.raises(
        InputError, match="unknown technology '44nm': did you mean '45nm'"
    ) as caught:
        load_chip(mine)
    assert str(caught.value) == (
        f"chip '{mine}', field technology: unknown technology '44nm': did you mean '45nm', or a "
        "technology of your own, by a path that ends in .toml?"
    )


def test_the_files_of_a_chip(tmp_path):
    ours = [CHIPS / "gobo.toml", CHIPS / "technology/45nm.toml"]
    assert chip_files("gobo") == ours
    mine = tmp_path / "mine.toml"
    mine.write_text(GOBO.replace('"45nm"', '"3nm.toml"'))
    assert chip_files(f"{mine}+gobo-memory") == [mine, tmp_path / "3nm.toml"]


def test_no_such_chip(tmp_path):
    with pytest.raises(InputError, match="unknown chip 'gobi': did you mean 'gobo'"):
        load_chip("gobi")
    with pytest.raises(InputError, match=r"cannot read chip '.*none.toml': No such file"):
        load_chip(tmp_path / "none.toml")
    (tmp_path / "text.toml").write_text("no toml")
    with pytest.raises(InputError, match=r"chip '.*text.toml' is not valid TOML: "):
        load_chip(tmp_path / "text.toml")


def test_changed():
    chip = load_chip("gobo")
    other = changed(changed(chip, "array.tiles", 64.0), "dram.bandwidth", 100)
    assert (other.array.tiles.value, other.dram.bandwidth.value) == (64, 100)
    assert isinstance(other.array.tiles.value, int)
    assert other.array.tiles.source == "chosen: changed from 32"
    assert changed(other, "array.tiles", 32).buffers == chip.buffers


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("array.tyles", 3, "chip 'gobo' has no field 'array.tyles': did you mean 'array.tiles'"),
        ("array", 3, "chip 'gobo' has no field 'array'"),
        ("name", 3, "chip 'gobo' has no field 'name'"),
        ("dram.bandwidth.value", 3, "has no field 'dram.bandwidth.value': did you mean 'dram.band"),
        ("array.tiles", 2.5, "array.tiles.value: should be a valid integer"),
        ("array.tiles", -2, "array.tiles.value: should be greater than 0"),
        ("clock", math.nan, "clock.value: should be a finite number"),
    ],
)
def test_changes_that_are_wrong(field, value, sentence):
    with pytest.raises(InputError) as caught:
        changed(load_chip("gobo"), field, value)
    assert sentence in str(caught.value)
