"""unfuse-gelu: the same outputs from formulas; what stays fused, and why."""

import numpy as np
import onnx
import pytest

from sardonyx.passes.unfuse.gelu import UnfuseGelu

B, S, WIDTH = 2, 3, 16
PASS = UnfuseGelu()

BOUND = 1e-6
"""Relative to the largest output: a few roundings of float32."""

KINDS = {
    "Gelu": "Gelu (X)",
    "BiasGelu": "BiasGelu (X, b)",
    "FastGelu": "FastGelu (X)",
    "FastGelu with bias": "FastGelu (X, b)",
    "QuickGelu": "QuickGelu (X)",
    "QuickGelu with alpha": "QuickGelu <alpha = 1.3> (X)",
}

ERF = "Div Erf Add Mul Mul"
TANH = "Pow Mul Add Mul Tanh Add Mul Mul"
QUICK = "Mul Sigmoid Mul"

WRITTEN = {
    19: [ERF, f"Add {ERF}", TANH, f"Add {TANH}", QUICK, QUICK],
    20: ["Gelu", "Add Gelu", "Gelu", "Add Gelu", QUICK, QUICK],
}
"""Ops of each kind at the last opset without a standard Gelu and the first with one."""


def text_of(kind, element="float"):
    return f"g ({element}[B,S,16] X) => ({element}[B,S,16] Y) {{ Y = com.microsoft.{KINDS[kind]} }}"


@pytest.fixture(scope="module")
def x(normal):
    """Values of which most are between -8 and 8."""
    return np.float32(100) * normal(B, S, WIDTH)


@pytest.fixture(scope="module")
def bias(normal):
    return normal(WIDTH, seed=1) * np.float32(25)


def model_of(contrib, kind, bias, opset):
    return contrib(text_of(kind), opset, **({"b": bias} if "b)" in KINDS[kind] else {}))


@pytest.mark.parametrize("opset", [13, 19, 20, 26])
@pytest.mark.parametrize("kind", KINDS)
def test_every_form(unfuse, contrib, x, bias, kind, opset):
    after = unfuse(PASS, model_of(contrib, kind, bias, opset), {"X": x}, BOUND)
    assert all(node.domain == "" for node in after.graph.node)


@pytest.mark.parametrize("opset", WRITTEN)
def test_text(unfuse, contrib, x, bias, opset):
    for kind, ops in zip(KINDS, WRITTEN[opset], strict=True):
        model = model_of(contrib, kind, bias, opset)
        model.graph.node[0].name = "act"
        model.graph.node[0].doc_string = "a line"
        after = unfuse(PASS, model, {"X": x})
        assert [node.op_type for node in after.graph.node] == ops.split()
        assert all(node.name.startswith("act/") for node in after.graph.node)
        assert after.graph.node[-1].doc_string == "a line"


def test_the_kinds_differ(contrib, x, bias, run_ort):
    """Closer to each other than any bound, one would pass for the other."""
    found = [
        run_ort(model_of(contrib, kind, bias, 17), {"X": x})[0]
        for kind in ("Gelu", "FastGelu", "QuickGelu", "QuickGelu with alpha")
    ]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert np.abs(one - other).max() > 10 * BOUND * np.abs(one).max()


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(apply, contrib, x, bias, run_ort, kind, opset):
    held = {"b": np.float16(bias)} if "b)" in KINDS[kind] else {}
    model = contrib(text_of(kind, "float16"), opset, **held)
    after = apply(PASS, model)
    assert after.rewrites == 1
    onnx.checker.check_model(after.model, full_check=True)
    (want,), (have,) = (run_ort(m, {"X": np.float16(x)}) for m in (model, after.model))
    assert have.dtype == np.float16
    assert np.abs(want - have).max() <= 2e-3 * np.abs(want).max()  # float16 rounds to 1e-3


def test_inside_a_branch(unfuse, contrib, x):
    model = contrib(
        """g (float[B,S,16] X, bool c) => (float[B,S,16] Y) {
             Y = If (c) <
               then_branch = t () => (float[B,S,16] P) { P = com.microsoft.Gelu (X) },
               else_branch = e () => (float[B,S,16] Q) { Q = Neg (X) }>
           }"""
    )
    for chosen in (True, False):
        unfuse(PASS, model, {"X": x, "c": np.array(chosen)}, BOUND)


def test_a_standard_gelu_is_left_alone(apply, contrib):
    text = "g (float[B,S,16] X) => (float[B,S,16] Y) { Y = Gelu (X) }"
    assert apply(PASS, contrib(text, 20)).rewrites == 0


def test_near_miss_1_no_type(contrib, kept):
    model = contrib(
        """g (float[B,S,16] X) => (float[B,S,16] Y) {
             R = my.Op (X)
             G = com.microsoft.Gelu (R)
             Y = my.Op (G)
           }"""
    )
    model.opset_import.append(onnx.helper.make_opsetid("my", 1))
    assert kept(PASS, model) == "the type of its input is not known"
