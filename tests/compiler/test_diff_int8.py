"""Integer weights beside the constants that they were, and across targets."""

import pytest

from sardonyx.compiler import compile

KEY = "encoder.layer.0.attention.self.key.weight"


@pytest.fixture(scope="module")
def static(bert):
    return compile(bert, "int8-kl", random_calibration=4)


@pytest.fixture(scope="module")
def lowered(bert):
    return compile(bert, "int8-kl", target="cpu", random_calibration=4)


@pytest.mark.parametrize("form", ["static", "lowered"])
def test_a_weight_is_held_against_what_it_was(request, bert, differ, form):
    compiled = request.getfixturevalue(form)
    found = differ(bert, compiled.model)
    entries = {entry.name.removesuffix("/smoothed"): entry for entry in compiled.report.tensors}
    changes = {change.a.name: change for change in found.tensors_changed}
    quantized = {name: change for name, change in changes.items() if change.b.sqnr_db}
    assert quantized.keys() == entries.keys()
    assert any(entry.name.endswith("/smoothed") for entry in entries.values())
    for name, entry in entries.items():
        a, b, what = changes[name].a, changes[name].b, changes[name].what
        assert what == ["format"]
        assert (a.format, b.format, a.read_by, b.read_by) == (
            ("float32", entry.format, entry.op, entry.op)
        )
        assert (a.shape, b.bytes) == (b.shape, entry.bytes_after)
        assert b.sqnr_db == pytest.approx(entry.sqnr_db, abs=0.005)  # two digits are noted
    formats = {form.format: form for form in found.formats}
    assert formats["uniform7/channel"].b == 12
    assert formats["uniform8/tensor"].b == 2
    assert "int8" not in formats


def test_targets_hold_the_same_weights(static, lowered, differ):
    found = differ(static.model, lowered.model)
    changed = [change.a.name for change in found.tensors_changed]
    alone = [tensor.format for tensor in found.tensors_only_a + found.tensors_only_b]
    assert changed == []
    assert not any(form.startswith("uniform") or form == "int8" for form in alone)


@pytest.mark.parametrize(("part", "place"), [("Codes", 64), ("Scale", 64 * 4)])
def test_other_values_in_a_merged_weight_are_its_own(lowered, differ, part, place):
    """``place``: of the first byte in the columns of the second of three."""
    model = type(lowered.model)()
    model.CopyFrom(lowered.model)
    name = f"/encoder/layer.0/attention/self/query/MatMul/Merged/{part}"
    tensor = next(t for t in model.graph.initializer if t.name == name)
    data = bytearray(tensor.raw_data)
    data[place] ^= 1
    tensor.raw_data = bytes(data)
    (change,) = differ(lowered.model, model).tensors_changed
    assert (change.a.name, change.what) == (KEY, ["values"])


def test_recipes_hold_the_same_weights_in_other_formats(bert, static, differ):
    found = differ(compile(bert, "gobo").model, static.model)
    changes = {change.a.name: change for change in found.tensors_changed}
    assert (changes[KEY].a.format, changes[KEY].b.format) == (
        "codebook3/tensor",
        "uniform7/channel",
    )
    assert len([change for change in changes.values() if change.what == ["format"]]) == 14
