"""unfuse-skip-layer-norm: the same outputs from standard ops; what stays fused, and why."""

import itertools

import numpy as np
import onnx
import pytest

from sardonyx.passes.unfuse.skip_layer_norm import UnfuseSkipLayerNorm

B, S, WIDTH = 2, 3, 16
PASS = UnfuseSkipLayerNorm()

BOUND = 1e-6
"""Relative to the largest output: sums of tens of float32 numbers in another order."""

OPSETS = (13, 17, 18, 22, 23, 26)
"""Each side of every opset from which on a form is written in another way."""

SKIPS = {"as large": "B,S,16", "one for all sequences": "1,S,16", "no batch": "S,16"}
OPTIONS = ("beta", "bias", "sum")


@pytest.fixture(scope="module")
def vectors(normal):
    """Scale, shift and bias of 16 columns."""
    shifts = {name: normal(WIDTH, seed=i) for i, name in enumerate(("beta", "bias"), 2)}
    return {"gamma": 1 + normal(WIDTH)} | shifts


def case(normal, skip="as large", options=(), simplified=False):
    """The text of one normalization with a skip, and its inputs."""
    op = "SkipSimplifiedLayerNormalization" if simplified else "SkipLayerNormalization"
    slots = ("gamma", "bias") if simplified else ("gamma", "beta", "bias")
    given = ["X", "K", *(name if name in (*options, "gamma") else "" for name in slots)]
    outputs, results = "float[B,S,16] Y", "Y"
    if "sum" in options:
        outputs, results = f"{outputs}, float[B,S,16] Z", "Y, , , Z"
    text = (
        f"g (float[B,S,16] X, float[{SKIPS[skip]}] K) => ({outputs}) {{ {results} = "
        f"com.microsoft.{op} <epsilon = 0.001> ({', '.join(given).rstrip(', ')}) }}"
    )
    shape = [{"B": B, "S": S}.get(size) or int(size) for size in SKIPS[skip].split(",")]
    return text, {"X": normal(B, S, WIDTH), "K": normal(*shape, seed=1)}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("simplified", [False, True])
def test_every_form(unfuse, contrib, normal, vectors, opset, skip, simplified):
    for count in range(4):
        for options in itertools.combinations(OPTIONS, count):
            text, feeds = case(normal, skip, options, simplified)
            held = {name: vectors[name] for name in ("gamma", *options) if name in vectors}
            after = unfuse(PASS, contrib(text, opset, **held), feeds, BOUND)
            assert all(node.domain == "" for node in after.graph.node)


WRITTEN = {
    (False, 13): "Add ReduceMean Sub Mul ReduceMean Add Sqrt Div Mul Add",
    (False, 17): "Add LayerNormalization",
    (True, 13): "Add Mul ReduceMean Add Sqrt Div Mul",
    (True, 22): "Add Mul ReduceMean Add Sqrt Div Mul",
    (True, 23): "Add RMSNormalization",
}


@pytest.mark.parametrize(("simplified", "opset"), WRITTEN)
def test_text(unfuse, contrib, normal, vectors, simplified, opset):
    text, feeds = case(normal, options=("beta", "sum"), simplified=simplified)
    model = contrib(text, opset, gamma=vectors["gamma"], beta=vectors["beta"])
    model.graph.node[0].name = "norm"
    model.graph.node[0].doc_string = "a line"
    after = unfuse(PASS, model, feeds, BOUND)
    assert [node.op_type for node in after.graph.node] == WRITTEN[simplified, opset].split()
    assert all(node.name.startswith("norm/") for node in after.graph.node)
    assert after.graph.node[0].output == ["Z"]
    assert after.graph.node[-1].doc_string == "a line"


@pytest.mark.parametrize("operands", ["X, P", "P, X"])
def test_bias_of_a_product(unfuse, contrib, normal, vectors, operands):
    op = f"com.microsoft.SkipLayerNormalization ({operands}, gamma, , bias)"
    text = f"g (float[B,S,16] X) => (float[B,S,16] Y) {{ P = MatMul (X, W)\n Y = {op} }}"
    held = {"gamma": vectors["gamma"], "bias": vectors["bias"], "W": normal(WIDTH, WIDTH)}
    after = unfuse(PASS, contrib(text, 17, **held), {"X": normal(B, S, WIDTH)}, BOUND)
    product, biased, total, _ = after.graph.node
    assert biased.input == [*product.output, "bias"]
    assert total.input == [*biased.output, "X"]


@pytest.mark.parametrize(
    ("op", "opset"),
    [("LayerNormalization", 13), ("LayerNormalization", 16)]
    + [("SimplifiedLayerNormalization", opset) for opset in OPSETS],
)
@pytest.mark.parametrize("axis", ["", "axis = -1, ", "axis = 2, "])
def test_what_onnxruntime_writes_into_the_standard_domain(
    unfuse, contrib, normal, vectors, census, op, opset, axis
):
    call = f"{op} <{axis}epsilon = 0.001> (X, gamma)"
    text = f"g (float[B,S,16] X) => (float[B,S,16] Y) {{ Y = {call} }}"
    model = contrib(text, opset, gamma=vectors["gamma"])
    after = unfuse(PASS, model, {"X": normal(B, S, WIDTH)}, BOUND)
    assert op not in census(after)


@pytest.mark.parametrize("op", ["LayerNormalization", "SkipLayerNormalization"])
def test_epsilon_that_is_left_out(unfuse, contrib, normal, vectors, op):
    """1e-5, or 1e-12 with a skip: values as small as these tell one from the other."""
    domain, operands = ("com.microsoft.", "X, X") if "Skip" in op else ("", "X")
    text = f"g (float[B,S,16] X) => (float[B,S,16] Y) {{ Y = {domain}{op} ({operands}, gamma) }}"
    tiny = np.float32(1e-2) * normal(B, S, WIDTH)
    unfuse(PASS, contrib(text, 16, gamma=vectors["gamma"]), {"X": tiny}, BOUND)


def test_a_standard_layer_normalization_is_left_alone(apply, contrib, vectors):
    text = "g (float[B,S,16] X) => (float[B,S,16] Y) { Y = LayerNormalization (X, gamma) }"
    assert apply(PASS, contrib(text, 17, gamma=vectors["gamma"])).rewrites == 0


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("simplified", [False, True])
def test_half_precision(apply, contrib, normal, vectors, run_ort, opset, simplified):
    text, feeds = case(normal, options=("sum",), simplified=simplified)
    half = {name: np.float16(values) for name, values in feeds.items()}
    model = contrib(text.replace("float[", "float16["), opset, gamma=np.float16(vectors["gamma"]))
    after = apply(PASS, model)
    assert after.rewrites == 1
    onnx.checker.check_model(after.model, full_check=True)
    for want, have in zip(run_ort(model, half), run_ort(after.model, half), strict=True):
        assert have.dtype == np.float16
        assert np.abs(want - have).max() <= 2e-3 * np.abs(want).max()  # float16 rounds to 1e-3


def test_inside_a_branch(unfuse, contrib, normal, vectors):
    model = contrib(
        """g (float[B,S,16] X, bool c) => (float[B,S,16] Y) {
             Y = If (c) <
               then_branch = t () => (float[B,S,16] P) {
                 P = com.microsoft.SkipLayerNormalization (X, X, gamma) },
               else_branch = e () => (float[B,S,16] Q) { Q = Neg (X) }>
           }""",
        gamma=vectors["gamma"],
    )
    for chosen in (True, False):
        unfuse(PASS, model, {"X": normal(B, S, WIDTH), "c": np.array(chosen)}, BOUND)


NEAR_MISSES = {
    "1 the mean": (
        "Y, m = com.microsoft.SkipLayerNormalization (X, X, gamma)",
        "its mean or deviation is read",
    ),
    "1 the deviation": (
        "Y, m = SimplifiedLayerNormalization (X, gamma)",
        "its mean or deviation is read",
    ),
    "2 no type": (
        "R = my.Op (X)\n G = my.Op (X)\n N = com.microsoft.SkipLayerNormalization (R, R, G)\n"
        " Y = my.Op (N)",
        "the type of its input is not known",
    ),
    "2 two types": (
        "H = Cast <to = 10> (X)\n Y = SimplifiedLayerNormalization (H, gamma)",
        "its input and its scale are not known to be of one type",
    ),
    "3 two axes": (
        "Y = SimplifiedLayerNormalization <axis = 1> (X, gamma)",
        "it normalizes over more than the last axis",
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses(contrib, vectors, kept, name):
    text, reason = NEAR_MISSES[name]
    model = contrib(
        f"g (float[B,S,16] X) => (float[B,S,16] Y) {{ {text} }}", gamma=vectors["gamma"]
    )
    if "my." in text:
        model.opset_import.append(onnx.helper.make_opsetid("my", 1))
    assert kept(PASS, model) == reason
