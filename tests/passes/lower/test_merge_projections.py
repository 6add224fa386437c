"""merge-projections: products of one activation -> one product and a Split."""

import numpy as np
import pytest
from onnx import numpy_helper
from pydantic import TypeAdapter, ValidationError

from sardonyx.passes.lower.merge_projections import MergeProjections

PASS = MergeProjections()
K = 16
WIDTHS = {"Q": 8, "V": 8, "W": 24}
LINEAR = "com.microsoft.MatMulIntegerToFloat"


@pytest.fixture(scope="module")
def held():
    generator = np.random.default_rng(0)
    constants = {"s": np.float32(0.02), "z": np.uint8(7), "s2": np.float32(0.02), "o": np.int8(1)}
    constants |= {"other": np.float32(0.03), "one": np.float32(0.5)}
    for name, width in WIDTHS.items():
        constants[name] = generator.integers(-63, 64, (K, width)).astype(np.int8)
        constants[f"t{name}"] = generator.random(width, np.float32)
        constants[f"b{name}"] = generator.random(width, np.float32)
        constants[f"U{name}"] = constants[name].view(np.uint8)
    return constants


@pytest.fixture
def model_of(contrib, held):
    def make(body, opset=17, outputs="float[B,S,M] Y", inputs=""):
        words = set(body.replace(",", " ").replace(")", " ").replace("(", " ").split())
        given = {name: value for name, value in held.items() if name in words}
        text = f"g (uint8[B,S,{K}] X{inputs}) => ({outputs}) {{ {body} }}"
        return contrib(text, opset, **given)

    return make


@pytest.fixture
def x():
    return np.random.default_rng(1).integers(0, 256, (2, 5, K)).astype(np.uint8)


def products(*weights, biased=True, scale="s"):
    """Products of X, named as their weights, and a Concat of all."""
    biases = {w: f", , b{w}" if biased else "" for w in weights}
    lines = [f"[{w}] y{w} = {LINEAR} (X, {w}, {scale}, t{w}, z{biases[w]})" for w in weights]
    return " ".join(lines) + f" Y = Concat <axis = -1> ({', '.join('y' + w for w in weights)})"


def constant(model, name):
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


@pytest.fixture
def merged(apply, run_ort):
    """A model after the pass, which computes the same, bit for bit."""

    def check(model, feeds, times=1, a_pass=PASS):
        after = apply(a_pass, model)
        assert (after.rewrites, after.again) == (times, 0)
        for want, have in zip(run_ort(model, feeds), run_ort(after.model, feeds), strict=True):
            np.testing.assert_array_equal(have, want, strict=True)
        return after

    return check


@pytest.mark.parametrize("opset", [13, 17, 18, 23])
@pytest.mark.parametrize("biased", [True, False])
def test_text(model_of, merged, held, x, biased, opset):
    after = merged(model_of(products("Q", "V", "W", biased=biased), opset), {"X": x})
    linear, split, _ = after.model.graph.node
    parts = ["Codes", "Scale"] + ["Bias"] * biased
    codes, scale, *bias = (f"Q/Merged/{part}" for part in parts)
    assert list(linear.input) == ["X", codes, "s", scale, "z", *([""] * biased), *bias]
    assert (linear.op_type, linear.name) == ("MatMulIntegerToFloat", "Q/Merged")
    assert {prop.key.removeprefix("sardonyx."): prop.value for prop in linear.metadata_props} == {
        "pass": "merge-projections",
        "merged": "Q\nV\nW",
        "part1.columns": "0 to 8",
        "part2.columns": "8 to 16",
        "part3.columns": "16 to 40",
    }
    assert (split.op_type, list(split.output)) == ("Split", ["yQ", "yV", "yW"])
    assert constant(after.model, split.input[1]).tolist() == [8, 8, 24]
    together = np.concatenate([held[name] for name in "QVW"], axis=1)
    np.testing.assert_array_equal(constant(after.model, codes), together)
    (entry,) = after.journal.fused
    assert (entry.node, entry.replaced) == ("Q/Merged", 3)
    assert entry.reason == "3 products of one activation: one product of 40 columns"


def test_notes_of_each_product(model_of, merged, x):
    model = model_of(products("Q", "V"))
    for node in model.graph.node[:2]:
        node.metadata_props.add(key="sardonyx.weight", value=f"weight of {node.name}")
        node.metadata_props.add(key="own", value="stays behind")
    linear = merged(model, {"X": x}).model.graph.node[0]
    notes = {prop.key: prop.value for prop in linear.metadata_props}
    assert notes["sardonyx.part1.weight"] == "weight of Q"
    assert notes["sardonyx.part2.weight"] == "weight of V"
    assert "own" not in "".join(notes)


def test_scales_of_equal_value(model_of, merged, x):
    body = products("Q", "V").replace("V, s,", "V, s2,")
    merged(model_of(body), {"X": x})


def test_a_scale_for_all_columns_beside_one_for_each(model_of, merged, held, x):
    body = products("Q", "V").replace("tV", "one")
    after = merged(model_of(body), {"X": x})
    scale = constant(after.model, "Q/Merged/Scale")
    np.testing.assert_array_equal(scale, [*held["tQ"], *[0.5] * 8])


def test_where_one_is_an_output(model_of, merged, x):
    outputs = "float[B,S,M] Y, float[B,S,8] yQ"
    merged(model_of(products("Q", "V"), outputs=outputs), {"X": x})


def test_behind_a_quantizer(model_of, merged):
    body = products("Q", "V").replace("(X,", "(q,").replace("s, t", "e, t").replace("z,", "y,")
    model = model_of(f"q, e, y = DynamicQuantizeLinear (R) {body}", inputs=f", float[B,S,{K}] R")
    real = np.random.default_rng(1).standard_normal((2, 5, K)).astype(np.float32)
    model.graph.input.pop(0)
    merged(model, {"R": real})


@pytest.mark.parametrize(("most", "kept"), [(40, [3]), (39, [2]), (16, [2]), (15, []), (0, [])])
def test_no_more_columns_than(model_of, apply, most, kept):
    after = apply(MergeProjections(max_columns=most), model_of(products("Q", "V", "W")))
    assert [entry.replaced for entry in after.journal.fused] == kept


def test_a_wide_one_among_others(model_of, merged, x):
    """Those on either side of it are still one."""
    after = merged(model_of(products("Q", "W", "V")), {"X": x}, 1, MergeProjections(max_columns=16))
    assert [entry.reason[:10] for entry in after.journal.fused] == ["2 products"]


def test_fewer_than_no_columns():
    with pytest.raises(ValidationError):
        TypeAdapter(MergeProjections).validate_python({"max_columns": -1})


LEFT = {
    "only one": products("Q"),
    "1 one weight, two readers": products("Q", "V").replace("V,", "Q,", 1),
    "1 a zero point": products("Q", "V").replace("z, ,", "z, o,"),
    "1 a weight that is turned": "c = Identity (V) " + products("Q", "V").replace("(X, V", "(X, c"),
    "2 another scale": products("Q", "V").replace("V, s,", "V, other,"),
    "2 another type": products("Q", "V").replace("(X, V", "(X, UV"),
    "2 a bias and none": products("Q", "V").replace(", , bV", ""),
    "another activation": "c = Identity (X) " + products("Q", "V").replace("(X, V", "(c, V"),
}


@pytest.mark.parametrize("case", LEFT)
def test_near_misses(model_of, apply, case):
    assert apply(PASS, model_of(LEFT[case])).rewrites == 0


def test_of_an_old_opset(model_of, apply):
    assert apply(PASS, model_of(products("Q", "V"), opset=12)).rewrites == 0


@pytest.mark.parametrize("chosen", [True, False])
def test_in_branches(model_of, merged, x, chosen):
    """Each by itself, none with one outside."""
    branches = [f"{n} () => (float[B,S,M] {n}) {{ {products('Q', 'V')} }}" for n in "AE"]
    for place, (name, weight) in enumerate(zip("AE", "VW", strict=True)):
        branches[place] = (
            branches[place]
            .replace(" Y =", f" {name} =")
            .replace("[V]", f"[{weight}]")
            .replace("(X, V, s, tV, z, , bV)", f"(X, {weight}, s, t{weight}, z, , b{weight})")
        )
        branches[place] = branches[place].replace("yQ", f"{name}q").replace("yV", f"{name}v")
    first, second = branches
    second = second.replace("(X, Q, s, tQ, z, , bQ)", "(X, V2, s, tQ, z, , bQ)")
    body = f"Y = If (c) <then_branch = {first}, else_branch = {second}>"
    model = model_of(body, inputs=", bool c")
    codes = np.full((K, 8), 3, np.int8)
    model.graph.initializer.append(numpy_helper.from_array(codes, "V2"))
    merged(model, {"X": x, "c": np.array(chosen)}, 2)


def test_the_record_names_the_node_of_the_file(model_of, merged, x):
    text = products("Q", "V").replace("[Q]", "[name]").replace("[V]", "[other]")
    model = model_of(text)
    model.graph.node[-1].name = "name/Merged"
    after = merged(model, {"X": x})
    assert [node.name for node in after.model.graph.node] == [
        "name/Merged_",
        "name/Split",
        "name/Merged",
    ]
    assert [entry.node for entry in after.journal.fused] == ["name/Merged_"]
