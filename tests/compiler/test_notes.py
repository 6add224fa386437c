"""What a compile says in the file about itself, and how it is read back."""

import onnx
import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.notes import activation_notes, left_alone, recipe_of, weight_notes


@pytest.fixture(scope="module")
def compiled(bert):
    return compile(bert, "gobo")


def encoded(model):
    return next(node for node in model.graph.node if node.op_type == "GoboMatMul3")


def test_the_model_tells_its_recipe_and_what_was_left_alone(compiled):
    assert recipe_of(compiled.model) == "gobo"
    skipped = {skip.name: skip.reason for skip in compiled.report.skipped}
    assert left_alone(compiled.model) == skipped


def test_notes_stand_beside_the_users(bert):
    noted = onnx.ModelProto()
    noted.CopyFrom(bert)
    noted.metadata_props.add(key="author", value="me")
    noted.metadata_props.add(key="sardonyx.recipe", value="an earlier one")
    noted.metadata_props.add(key="sardonyx.decided", value="what that chose")
    props = [(prop.key, prop.value) for prop in compile(noted, "gobo").model.metadata_props]
    assert props[:2] == [("author", "me"), ("sardonyx.recipe", "gobo")]
    assert [key for key, _ in props[2:]] == ["sardonyx.left_alone"]


def test_a_model_without_notes(bert):
    assert (recipe_of(bert), left_alone(bert)) == ("", {})
    assert weight_notes(bert.graph.node[0]) is None


def test_the_notes_of_a_weight_agree_with_the_report(compiled):
    notes = weight_notes(encoded(compiled.model))
    entry = next(entry for entry in compiled.report.tensors if entry.name == notes.weight)
    assert (notes.by, notes.replaces, notes.format) == ("gobo", entry.op, entry.format)
    assert notes.originals == {entry.name: ("float32", [64, 64])}
    assert notes.nbytes == (entry.bytes_before, entry.bytes_after)
    assert notes.role == f"{entry.role}, layer {entry.layer}"


def noted(written, key, value):
    """A copy of a node with another note."""
    node = onnx.NodeProto()
    node.CopyFrom(written)
    props = {prop.key: prop.value for prop in node.metadata_props} | {f"sardonyx.{key}": value}
    del node.metadata_props[:]
    for name, text in props.items():
        node.metadata_props.add(key=name, value=text)
    return node


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bits", "three"),
        ("original", "float32"),
        ("tied", "no shape"),
        ("bytes", "many -> few"),
        ("role", "query, layer x"),
        ("sqnr_db", ""),
        ("original", "float32 [1 2]"),
        ("original", "float32 [,]"),
        ("original", "float32 [, 2]"),
        ("original", "float32 [010]"),
        ("original", "float32 [0]"),
        ("original", "float32 [\u0663]"),
        ("original", f"float32 [{'9' * 5000}]"),
        ("original", f"float32 [9{', 9' * 8}]"),
        ("tied", "V: float32 [1 2]"),
        ("bits", "0"),
        ("bits", "-1"),
        ("bits", "100000"),
        ("bytes", f"{'9' * 5000} -> 1"),
        ("bytes", f"1 -> {'9' * 5000}"),
        ("role", f"query, layer {'9' * 5000}"),
    ],
)
def test_notes_that_another_hand_changed_are_none(compiled, key, value):
    assert weight_notes(noted(encoded(compiled.model), key, value)) is None


@pytest.mark.parametrize(
    ("written", "range_"), [("-1 to 2e-09", (-1, 2e-9)), ("0 to 1e+30", (0, 1e30)), ("", None)]
)
def test_the_range_of_an_activation(written, range_):
    node = onnx.NodeProto()
    for key, value in {"activation": "X", "activation_range": written}.items():
        node.metadata_props.add(key=f"sardonyx.{key}", value=value)
    assert activation_notes(node) is None
    for key, value in {"activation_format": "uint8/tensor", "activation_method": "ema"}.items():
        node.metadata_props.add(key=f"sardonyx.{key}", value=value)
    assert activation_notes(node).range == range_


@pytest.mark.parametrize("name", ["V\u2028V", "V\rV", "V: V", "V"])
def test_names_of_tied_weights(compiled, name):
    notes = weight_notes(noted(encoded(compiled.model), "tied", f"{name}: float32 [64, 64]\n"))
    assert list(notes.originals.items())[1:] == [(name, ("float32", [64, 64]))]


def test_reasons_that_another_hand_changed_are_none(compiled):
    model = onnx.ModelProto(metadata_props=compiled.model.metadata_props)
    model.metadata_props[1].value = model.metadata_props[1].value[1:]
    assert left_alone(model) == {}
