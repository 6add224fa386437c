"""quantize-values: every activation that is written back is rounded, for all that read it."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from sardonyx.compiler.load import load
from sardonyx.passes.quantize.quantize_values import QuantizeValues
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.uniform import grid

PASS = QuantizeValues(method="min-max")

NETWORK = """g (float[B,S,16] X) => (float[B,S,16] Y) {
  [sum] T = Add (X, E)
  [norm] x = LayerNormalization <axis = -1> (T, gamma, beta)
  [ffn_in] a = MatMul (x, W)
  b = Add (a, bias)
  [act] g = Relu (b)
  [ffn_out] c = MatMul (g, V)
  h = Add (c, beta)
  [residual] y = Add (x, h)
  [last] Y = LayerNormalization <axis = -1> (y, gamma, beta)
}"""

ENOUGH = 30
"""dB, of five tensors of 8 bits with normal values, one after another."""


@pytest.fixture
def constants(normal):
    return {
        "E": normal(1, 7, 16, seed=1),
        "gamma": 1 + normal(16, seed=2),
        "beta": normal(16, seed=3),
        "W": normal(16, 32, seed=4),
        "bias": normal(32, seed=5),
        "V": normal(32, 16, seed=6),
    }


@pytest.fixture
def network(text_model, constants):
    return text_model(NETWORK, **constants)


@pytest.fixture
def feeds():
    values = np.random.default_rng(5).standard_normal((2, 7, 16))
    return {"X": values.astype(np.float32)}


def test_every_activation_of_a_network(done, sqnr, network, feeds):
    after = done(PASS, network, feeds)
    assert after.rewrites == 5
    assert after.wiring == [
        "T = Add (X, E)",
        "T/Quantize:0 = QuantizeLinear (T, T/Scale, T/ZeroPoint)",
        "T/Dequantize:0 = DequantizeLinear (T/Quantize:0, T/Scale, T/ZeroPoint)",
        "x = LayerNormalization (T/Dequantize:0, gamma, beta)",
        "x/Quantize:0 = QuantizeLinear (x, x/Scale, x/ZeroPoint)",
        "x/Dequantize:0 = DequantizeLinear (x/Quantize:0, x/Scale, x/ZeroPoint)",
        "a = MatMul (x/Dequantize:0, W)",
        "b = Add (a, bias)",
        "g = Relu (b)",
        "g/Quantize:0 = QuantizeLinear (g, g/Scale, g/ZeroPoint)",
        "g/Dequantize:0 = DequantizeLinear (g/Quantize:0, g/Scale, g/ZeroPoint)",
        "c = MatMul (g/Dequantize:0, V)",
        "h = Add (c, beta)",
        "h/Quantize:0 = QuantizeLinear (h, h/Scale, h/ZeroPoint)",
        "h/Dequantize:0 = DequantizeLinear (h/Quantize:0, h/Scale, h/ZeroPoint)",
        "y = Add (x/Dequantize:0, h/Dequantize:0)",
        "y/Quantize:0 = QuantizeLinear (y, y/Scale, y/ZeroPoint)",
        "y/Dequantize:0 = DequantizeLinear (y/Quantize:0, y/Scale, y/ZeroPoint)",
        "Y = LayerNormalization (y/Dequantize:0, gamma, beta)",
    ]
    assert sqnr(network, after.model, feeds) > ENOUGH
    (miss,) = after.journal.missed
    assert (miss.node, miss.reason) == (
        "last",
        "makes an output of the graph that nothing else reads",
    )


def test_what_is_recorded(done, network, feeds):
    after = done(PASS, network, feeds)
    places = {n: (a.role, a.kind, a.layer) for n, a in after.activations.items()}
    assert places == {
        "T": ("sum", "r", None),
        "x": ("norm", "x", 0),
        "g": ("activation", "g", 0),
        "h": ("ffn_out", "h", 0),
        "y": ("sum", "y", 0),
    }
    for one in after.activations.values():
        assert (one.format, one.bits, one.method, one.why_wide) == (
            "uint8/tensor",
            8,
            "min-max",
            "",
        )
        assert one.product_sqnr_db is None
        assert one.sqnr_db > 40
    assert {one.node for one in after.activations.values()} == {
        "norm",
        "ffn_in",
        "ffn_out",
        "residual",
        "last",
    }


def test_ranges_are_those_of_the_plain_graph(done, network, feeds, run_ort, text_model, constants):
    """All of them: what one rounds does not move the range of the next."""
    shown = text_model(
        NETWORK.replace("=> (", "=> (float[B,S,16] T, float[B,S,16] y, "), **constants
    )
    first, y, _ = run_ort(shown, feeds)
    after = done(PASS, network, feeds)
    for name, values in (("T", first), ("y", y)):
        low, high = min(values.min(), 0), max(values.max(), 0)
        assert after.activations[name].range == (low, high)
        assert after.constants[f"{name}/Scale"] == grid(float(low), float(high)).scale


def test_what_an_onnxruntime_computes_is_what_the_grids_say(
    done, network, feeds, run_ort, constants
):
    after = done(PASS, network, feeds)
    made = {name: grid(*one.range) for name, one in after.activations.items()}

    def norm(x):
        x = x - x.mean(axis=-1, keepdims=True)
        root = np.sqrt((x * x).mean(axis=-1, keepdims=True) + 1e-5)
        return x / root * constants["gamma"] + constants["beta"]

    x = made["x"].rounded(norm(made["T"].rounded(feeds["X"] + constants["E"])))
    g = made["g"].rounded(np.maximum(x @ constants["W"] + constants["bias"], 0))
    h = made["h"].rounded(g @ constants["V"] + constants["beta"])
    want = norm(made["y"].rounded(x + h))
    (have,) = run_ort(after.model, feeds)
    # sums in another order may fall on the other side of a tie: a step of few values
    apart = np.abs(want - have) > 1e-4
    assert apart.mean() < 0.02
    assert np.abs(want - have).max() < 0.1


@pytest.mark.parametrize(
    ("sites", "rounded"),
    [
        ("x,h,y", "xhy"),
        (" g , T ", "Tg"),
        ("sum", "Ty"),
        ("norm,activation", "xg"),
        ("context", ""),
        ("", ""),
    ],
)
def test_some_sites(done, network, feeds, sites, rounded):
    after = done(QuantizeValues(sites=sites), network, feeds)
    assert set(after.activations) == set(rounded)
    assert after.rewrites == len(rounded)


@pytest.mark.parametrize(
    ("wide", "names"), [("y", "y"), ("x,h,y", "xhy"), ("sum", "Ty"), ("g", "g")]
)
def test_16_bits(done, sqnr, text_model, constants, feeds, wide, names):
    before = text_model(NETWORK, 21, 10, **constants)
    after = done(QuantizeValues(wide=wide), before, feeds)
    for name, one in after.activations.items():
        kind = np.uint16 if name in names else np.uint8
        assert after.constants[f"{name}/ZeroPoint"].dtype == kind
        assert one.format == f"{kind.__name__}/tensor"
        assert one.bits == (16 if name in names else 8)
        assert one.why_wide == ("asked for" if name in names else "")
        assert (one.sqnr_db > 80) == (name in names)
    assert sqnr(before, after.model, feeds) > ENOUGH


def test_16_bits_everywhere(done, sqnr, text_model, constants, feeds):
    before = text_model(NETWORK, 21, 10, **constants)
    after = done(QuantizeValues(wide="x,g,h,y,T", signed=True), before, feeds)
    assert {after.constants[f"{name}/ZeroPoint"].dtype for name in "xghyT"} == {np.dtype(np.int16)}
    assert sqnr(before, after.model, feeds) > ENOUGH + 45


@pytest.mark.parametrize("method", ["percentile", "mse", "kl", "ema"])
def test_methods(done, network, feeds, method):
    after = done(QuantizeValues(method=method, percentile=95.0), network, feeds)
    assert all(one.method.startswith(method) for one in after.activations.values())
    plain = done(PASS, network, feeds)
    scales = [{n: r.constants[f"{n}/Scale"] for n in "xghyT"} for r in (after, plain)]
    if method != "kl":  # of which some modes mirror the range at 0
        assert all(scales[0][name] <= scales[1][name] for name in "xghyT")
    assert scales[0] != scales[1]


def test_symmetric_grids(done, network, feeds):
    after = done(QuantizeValues(symmetric=True, signed=True), network, feeds)
    assert all(after.constants[f"{name}/ZeroPoint"] == np.int8(0) for name in "xghyT")


def test_an_output_stays_as_it_is(done, text_model, constants, feeds, run_ort):
    before = text_model(NETWORK.replace("=> (", "=> (float[B,S,16] T, "), **constants)
    after = done(PASS, before, feeds)
    assert "T" in after.activations
    assert np.array_equal(run_ort(after.model, feeds)[0], run_ort(before, feeds)[0])


def test_a_body_reads_what_is_rounded(done, text_model, constants, feeds):
    text = NETWORK.replace(
        "[last] Y = LayerNormalization <axis = -1> (y, gamma, beta)",
        """[chosen] Y = If (flag) <
             then_branch = t () => (float[B,S,16] A) { A = Neg (y) },
             else_branch = e () => (float[B,S,16] N) { N = Exp (y) }
           >""",
    ).replace("X)", "X, bool flag)", 1)
    after = done(PASS, text_model(text, **constants), feeds | {"flag": np.array(True)})
    assert "y" in after.activations
    (chosen,) = (node for node in after.model.graph.node if node.op_type == "If")
    reads = [name for a in chosen.attribute for node in a.g.node for name in node.input]
    assert reads == ["y/Dequantize:0"] * 2


def test_half_precision_stays(done, text_model, constants, feeds):
    halves = {name: values.astype(np.float16) for name, values in constants.items()}
    before = text_model(NETWORK.replace("float[", "float16["), **halves)
    after = done(PASS, before, {"X": feeds["X"].astype(np.float16)})
    assert after.rewrites == 0
    assert {miss.reason for miss in after.journal.missed} == {
        "makes float16: only float32 is rounded"
    }


def test_no_values(done, text_model, constants, feeds):
    """Not in one activation: it stays. In none: that is an error."""
    nothing = np.zeros((2, 0, 16), np.float32)
    text = NETWORK.replace("X) =>", "X, float[B,D,16] F) =>")
    text = text.replace("Y) {", "Y, float[B,D,16] G) { e = Relu (F)  G = Neg (e)")
    after = done(PASS, text_model(text, **constants), feeds | {"F": nothing})
    assert after.rewrites == 5
    misses = {miss.node: miss.reason for miss in after.journal.missed}
    assert misses["e"] == "had no values in the calibration data"
    before = text_model(NETWORK.replace("X, E", "X, X"), **constants)
    message = "calibration reached no activation that quantize-values rounds: 'T' had no values; "
    with pytest.raises(InputError, match=message):
        done(PASS, before, {"X": nothing})


@pytest.mark.parametrize("argument", ["sites", "wide"])
def test_a_word_that_nothing_is_called(text_model, constants, argument):
    """Refused before anything is measured."""
    graph = load(text_model(NETWORK, 21, 10, **constants))[1]
    message = rf"quantize-values.{argument}: no activation is 'z': there is r, sum, x, norm, g, "
    with pytest.raises(InputError, match=message):
        QuantizeValues(**{argument: "x,z"}).watches(graph)


def test_16_bits_need_opset_21(done, network, feeds):
    message = "quantize-values.wide: 16 bits need opset 21, and the model has 17: put the pass"
    with pytest.raises(InputError, match=message):
        done(QuantizeValues(wide="x"), network, feeds)


@pytest.mark.parametrize("bad", [{"percentile": 50}, {"method": "max"}, {"budget": 1.1}])
def test_arguments_are_checked(bad):
    with pytest.raises(ValidationError):
        TypeAdapter(QuantizeValues).validate_python(bad)
