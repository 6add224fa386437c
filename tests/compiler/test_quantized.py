"""Integer weights and rounded activations, found in every form that recipes and targets make."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sardonyx.compiler import compile
from sardonyx.compiler.explain import explainer
from sardonyx.compiler.inventory import take_inventory
from sardonyx.compiler.stored import StoredValues
from sardonyx.runtime_ops.uniform import sqnr_db

KEY = "encoder.layer.0.attention.self.key.weight"
MERGED = "/encoder/layer.0/attention/self/query/MatMul/Merged"

FORMS = {
    "static": ("int8-kl", "portable", []),
    "static, lowered and merged": ("int8-kl", "cpu", []),
    "dynamic": ("int8-dynamic", "portable", []),
    "dynamic, lowered and merged": ("int8-dynamic", "cpu", []),
    "a scale for all": ("int8-dynamic", "portable", ["insert-qdq.per=tensor"]),
    "a scale for all of a table": ("int8-dynamic", "cpu", ["insert-qdq.embedding_per=tensor"]),
}


@pytest.fixture(scope="module")
def compiled(bert):
    """What the small BERT becomes in a form, made once."""
    made = {}

    def form(name):
        if name not in made:
            recipe, target, overrides = FORMS[name]
            made[name] = compile(
                bert, recipe, target=target, overrides=overrides, random_calibration=4
            )
        return made[name]

    return form


@pytest.fixture
def explained(compiled, tmp_path):
    def form(name):
        compiled(name).save(tmp_path / "m.onnx")
        return explainer(tmp_path / "m.onnx")

    return form


def matrix(weight):
    """W [K, N] of an integer weight, from its constants."""
    span = weight.notes.span
    columns = slice(*span) if span else slice(None)
    arrays = {role: StoredValues(part.tensor).load() for role, part in weight.parts.items()}
    codes = arrays["codes"].astype(np.float32)
    if arrays["scale"].ndim and weight.notes.replaces == "Gather":
        return codes * arrays["scale"][:, None]
    scale = arrays["scale"][..., columns] if arrays["scale"].ndim else arrays["scale"]
    return codes[:, columns] * scale


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_those_of_the_report(explained, compiled, form):
    entries = sorted(compiled(form).report.tensors, key=lambda entry: entry.name)
    found = sorted(explained(form).quantized, key=lambda entry: entry.name)
    assert len(entries) == 14
    for entry, other in zip(entries, found, strict=True):
        assert other.sqnr_db == pytest.approx(entry.sqnr_db, abs=0.005)  # two digits are noted
        assert other.model_copy(update={"sqnr_db": entry.sqnr_db}) == entry


@pytest.mark.parametrize("form", FORMS)
def test_the_parts_hold_the_weight(explained, bert, form):
    source = {tensor.name: numpy_helper.to_array(tensor) for tensor in bert.graph.initializer}
    weights = explained(form).held.quantized
    plain = {name: weight for name, weight in weights.items() if name in source}
    assert len(plain) == 14 or form.startswith("static")  # the others were smoothed
    assert KEY in plain
    for name, weight in plain.items():
        found = sqnr_db(source[name], matrix(weight))
        assert found == pytest.approx(weight.notes.sqnr_db, abs=0.005)


@pytest.mark.parametrize("form", FORMS)
def test_bytes_are_those_of_the_report(explained, compiled, form):
    entries = {entry.name: entry.bytes_after for entry in compiled(form).report.tensors}
    found = {name: weight.nbytes for name, weight in explained(form).held.quantized.items()}
    assert found == entries


@pytest.mark.parametrize("form", FORMS)
def test_activations_are_those_of_the_report(explained, compiled, form):
    entries, found = compiled(form).report.activations, explained(form).activations
    assert entries
    for entry, other in zip(entries, found, strict=True):
        assert other.range == (pytest.approx(entry.range, rel=1e-5) if entry.range else None)
        for key in ("sqnr_db", "product_sqnr_db"):
            wanted = getattr(entry, key)
            assert getattr(other, key) == (wanted and pytest.approx(wanted, abs=0.005))
        rounded = {key: getattr(entry, key) for key in ("range", "sqnr_db", "product_sqnr_db")}
        assert other.model_copy(update=rounded | {"curve": entry.curve}) == entry


def test_no_integer_is_left_over(explained):
    """All codes are parts of weights, but those of biases."""
    answers = explained("static")
    names = [t.name for t in answers.others + answers.made if t.dtype in ("int8", "int32")]
    assert names
    assert all("bias" in name for name in names)


def test_a_tied_table(text_model, normal, tmp_path):
    table = normal(96, 64)
    model = text_model(
        """g (int64[N] I, float[N,64] X) => (float[N,64] E, float[N,96] Y) {
          E = Gather (W, I)
          T = Transpose <perm = [1, 0]> (W)
          Y = MatMul (X, T)
        }""",
        W=table,
    )
    for target in ("portable", "cpu"):
        for recipe in ("int8-dynamic", "int8-kl"):
            done = compile(model, recipe, target=target, random_calibration=2)
            done.save(tmp_path / "m.onnx")
            (weight,) = take_inventory(tmp_path / "m.onnx").quantized.values()
            assert set(weight.parts) == {"codes", "scale"}
            assert len(weight.nodes) == 2
            found = sqnr_db(table, matrix(weight))
            assert found == pytest.approx(weight.notes.sqnr_db, abs=0.005)


@pytest.mark.parametrize("scale", ["channel", "tensor"])
def test_a_table_read_in_order(text_model, normal, tmp_path, scale):
    table = normal(96, 64)
    model = text_model(
        """g (int64[1] E) => (float[1,N,64] Y) {
          I = Slice (P, zero, E, one)
          Y = Gather (W, I)
        }""",
        **{"W": table, "P": np.arange(96)[None], "zero": [0], "one": [1]},
    )
    overrides = [f"insert-qdq.embedding_per={scale}"]
    compile(model, "int8-dynamic", overrides=overrides).save(tmp_path / "m.onnx")
    (weight,) = take_inventory(tmp_path / "m.onnx").quantized.values()
    assert [node.op for node in weight.nodes] == ["Slice"]
    found = sqnr_db(table, matrix(weight))
    assert found == pytest.approx(weight.notes.sqnr_db, abs=0.005)


def edited(model, key, value):
    """A copy of a model with another note on its first merged product."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    node = next(node for node in copy.graph.node if node.name == MERGED)
    next(prop for prop in node.metadata_props if prop.key == f"sardonyx.{key}").value = value
    return copy


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("part2.columns", "64 to 193"),
        ("part2.columns", "64 to 64"),
        ("part2.columns", "64"),
        ("part2.bits", "many"),
        ("part2.columns", f"0 to {'9' * 5000}"),
    ],
)
def test_notes_of_a_part_that_another_hand_changed(compiled, tmp_path, key, value):
    onnx.save(edited(compiled("static, lowered and merged").model, key, value), tmp_path / "m.onnx")
    found = take_inventory(tmp_path / "m.onnx").quantized
    assert len(found) == 13
    assert KEY not in found


@pytest.mark.parametrize("value", ["1 to", "low to high", f"0 to {'9' * 5000}"])
def test_notes_of_an_activation_that_another_hand_changed(compiled, tmp_path, value):
    model = onnx.ModelProto()
    model.CopyFrom(compiled("static").model)
    props = [prop for node in model.graph.node for prop in node.metadata_props]
    next(prop for prop in props if prop.key == "sardonyx.activation_range").value = value
    onnx.save(model, tmp_path / "m.onnx")
    count = len(compiled("static").report.activations)
    assert len(take_inventory(tmp_path / "m.onnx").rounded) == count - 1


def test_codes_that_are_no_constant(compiled, tmp_path):
    model = onnx.ModelProto()
    model.CopyFrom(compiled("static").model)
    codes = next(t for t in model.graph.initializer if t.name == f"{KEY}.codes")
    value = onnx.helper.make_tensor_value_info(codes.name, codes.data_type, list(codes.dims))
    model.graph.input.append(value)
    model.graph.initializer.remove(codes)
    onnx.save(model, tmp_path / "m.onnx")
    assert KEY not in take_inventory(tmp_path / "m.onnx").quantized
