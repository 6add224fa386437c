"""insert-qdq: static products as QuantizeLinear and DequantizeLinear, and what they compute."""

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from sardonyx.passes.quantize.insert_qdq import InsertQdq
from sardonyx.runtime_ops.uniform import encode, grid

PASS = InsertQdq()
MATMUL = "g (float[M,64] X) => (float[M,96] Y) { [product] Y = MatMul (X, W) }"
BIASED = """g (float[M,64] X) => (float[M,96] Y) {
  [product] Z = MatMul (X, W)
  [sum] Y = Add (Z, b)
}"""

ENOUGH = 25
"""dB. Weights of 7 bits and activations of 8, both of normal values, leave about 33."""

ROUNDED = [
    "X/Quantize:0 = QuantizeLinear (X, X/Scale, X/ZeroPoint)",
    "X/Dequantize:0 = DequantizeLinear (X/Quantize:0, X/Scale, X/ZeroPoint)",
]


def expected(result, x, name="W"):
    """What the product of rounded activations and weights is: float64 sums."""
    made = grid(*result.activations["X"].range)
    return made.rounded(x).astype(float) @ result.encoded[name].tensor.decode()


def same(want, have):
    """Equal but for the order of 64 float32 additions."""
    assert np.abs(want - have).max() <= 2e-6 * np.abs(want).max()


@pytest.mark.parametrize("opset", [13, 17, 19, 21, 26])
def test_a_product(done, sqnr, text_model, run_ort, normal, x, opset):
    before = text_model(MATMUL, opset, 13 if opset > 25 else 8, W=normal(64, 96))
    after = done(PASS, before, {"X": x})
    assert after.wiring == [
        *ROUNDED,
        "product/Weight:0 = DequantizeLinear (W.codes, W.scale)",
        "Y = MatMul (X/Dequantize:0, product/Weight:0)",
    ]
    kinds = {name: (a.dtype, a.shape) for name, a in after.constants.items()}
    assert kinds == {
        "X/Scale": (np.float32, ()),
        "X/ZeroPoint": (np.uint8, ()),
        "W.codes": (np.int8, (64, 96)),
        "W.scale": (np.float32, (96,)),
    }
    assert np.abs(after.constants["W.codes"]).max() == 63
    assert sqnr(before, after.model, {"X": x}) > ENOUGH
    same(expected(after, x), run_ort(after.model, {"X": x})[0])


@pytest.mark.parametrize("operands", ["(Z, b)", "(b, Z)"])
def test_a_product_and_its_bias(done, sqnr, text_model, run_ort, normal, x, operands):
    bias = 20 * normal(96, seed=3)
    before = text_model(BIASED.replace("(Z, b)", operands), W=normal(64, 96), b=bias)
    after = done(PASS, before, {"X": x})
    bias_first = operands == "(b, Z)"
    assert after.wiring == [
        *ROUNDED,
        "product/Weight:0 = DequantizeLinear (W.codes, W.scale)",
        "product/Bias:0 = DequantizeLinear (b.codes, b.scale)",
        "Z = MatMul (X/Dequantize:0, product/Weight:0)",
        f"Y = Add ({'product/Bias:0, Z' if bias_first else 'Z, product/Bias:0'})",
    ]
    scale = after.constants["X/Scale"] * after.constants["W.scale"]
    assert np.array_equal(after.constants["b.scale"], scale)
    assert after.constants["b.codes"].dtype == np.int32
    assert np.array_equal(after.constants["b.codes"], np.rint(bias / scale.astype(float)))
    same(
        expected(after, x) + after.constants["b.codes"] * scale.astype(float),
        run_ort(after.model, {"X": x})[0],
    )
    assert sqnr(before, after.model, {"X": x}) > ENOUGH


@pytest.mark.parametrize(
    ("text", "bias", "options"),
    [
        (BIASED, (96,), {"bias": "float"}),
        (BIASED, (1, 96), {}),
        (BIASED, (), {}),
        (BIASED.replace("Add (Z, b)", "Sub (Z, b)"), (96,), {}),
        (BIASED.replace("[sum] Y = Add (Z, b)", "U = Relu (Z)\n V = Add (Z, b)\n Y = Add (U, V)"),
         (96,), {}),
    ],
)  # fmt: skip
def test_biases_that_stay_float(done, sqnr, text_model, normal, x, text, bias, options):
    before = text_model(text, W=normal(64, 96), b=20 * normal(*bias))
    after = done(InsertQdq(**options), before, {"X": x})
    assert (after.rewrites, after.constants["b"].dtype) == (1, np.float32)
    assert sqnr(before, after.model, {"X": x}) > ENOUGH


def test_a_bias_beyond_int32_stays_float(done, sqnr, text_model, normal, x):
    before = text_model(BIASED, W=normal(64, 96), b=np.full(96, 1e7, np.float32))
    after = done(PASS, before, {"X": x})
    assert np.array_equal(after.constants["b"], np.full(96, 1e7, np.float32))


def test_one_bias_of_two_products(done, sqnr, text_model, normal, x):
    before = text_model(
        """g (float[M,64] X) => (float[M,96] Y, float[M,96] Z) {
             A = MatMul (X, W)
             B = MatMul (X, V)
             Y = Add (A, b)
             Z = Add (B, b)
           }""",
        W=normal(64, 96),
        V=2 * normal(64, 96, seed=1),
        b=20 * normal(96),
    )
    after = done(PASS, before, {"X": x})
    codes = [name for name in after.constants if name.startswith("b.codes")]
    assert len(codes) == 2  # each on the scale of its product
    assert sqnr(before, after.model, {"X": x}) > ENOUGH


def test_query_key_and_value_share_one_pair(done, sqnr, text_model, census, normal, x):
    before = text_model(
        """g (float[M,64] X) => (float[M,64] Q, float[M,64] K, float[M,96] V) {
             Q = MatMul (X, q)
             K = MatMul (X, k)
             V = MatMul (X, v)
           }""",
        q=normal(64, 64),
        k=normal(64, 64, seed=1),
        v=normal(64, 96, seed=2),
    )
    after = done(PASS, before, {"X": x})
    assert after.rewrites == 3
    assert census(after.model) == {"QuantizeLinear": 1, "DequantizeLinear": 4, "MatMul": 3}
    assert sqnr(before, after.model, {"X": x}) > ENOUGH
    (one,) = after.journal.activations
    assert (one.name, one.node, one.format) == ("X", "", "uint8/tensor")


@pytest.mark.parametrize(
    ("signed", "symmetric", "kind", "zero_point"),
    [
        (False, False, np.uint8, range(90, 160)),
        (True, False, np.int8, range(-40, 40)),
        (False, True, np.uint8, [128]),
        (True, True, np.int8, [0]),
    ],
)
def test_grids(done, sqnr, text_model, normal, x, signed, symmetric, kind, zero_point):
    before = text_model(BIASED, W=normal(64, 96), b=normal(96))
    after = done(InsertQdq(signed=signed, symmetric=symmetric), before, {"X": x})
    assert after.constants["X/ZeroPoint"].dtype == kind
    assert after.constants["X/ZeroPoint"] in zero_point
    assert after.activations["X"].format == f"{kind.__name__}/tensor"
    assert sqnr(before, after.model, {"X": x}) > ENOUGH


@pytest.mark.parametrize("bits", range(4, 9))
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_weights(done, sqnr, text_model, normal, x, bits, per):
    weights = normal(64, 96)
    before = text_model(BIASED, W=weights, b=normal(96))
    after = done(InsertQdq(weight_bits=bits, per=per), before, {"X": x})
    tensor, loss = encode(weights, bits, per)
    assert np.array_equal(after.constants["W.codes"], tensor.codes)
    assert np.array_equal(after.constants["W.scale"], tensor.scale)
    entry = after.encoded["W"]
    assert (str(entry.format), entry.sqnr_db) == (f"uniform{bits}/{per}", loss)
    assert (entry.bytes_before, entry.bytes_after) == (4 * 64 * 96, tensor.nbytes)
    assert (entry.op, entry.nodes, entry.compute) == ("MatMul", ("product",), "int8")
    assert sqnr(before, after.model, {"X": x}) > 4 * bits - 3


METHODS = {
    "min-max": {"method": "min-max"},
    "percentile": {"method": "percentile", "percentile": 99.0},
    "mse-grid": {"method": "mse"},
    "mse-golden": {"method": "mse", "solver": "golden"},
    "ema": {"method": "ema", "decay": 0.5},
    "kl-naive": {"mode": "naive"},
    "kl-symmetric": {"mode": "symmetric"},
    "kl-independent": {"mode": "independent"},
    "kl-conjugate": {"mode": "conjugate"},
}


@pytest.mark.parametrize("method", METHODS)
def test_methods(done, sqnr, text_model, normal, x, method):
    before = text_model(MATMUL, W=normal(64, 96))
    after = done(InsertQdq(**METHODS[method], least_db=0.0), before, {"X": x}, {"X": 2 * x})
    one = after.activations["X"]
    assert one.method.startswith(method.split("-")[0])
    assert np.isclose(after.constants["X/Scale"], (one.range[1] - one.range[0]) / 255)
    # what was expected of the products on the rows is what comes out
    found = sqnr(before, after.model, {"X": np.concatenate([x, 2 * x])})
    assert abs(found - one.product_sqnr_db) < 2


def test_the_best_mode_is_the_best(done, text_model, normal, x):
    x = x.copy()
    x[0, :9] = 30  # a few outliers, which clipping would lose
    before = text_model(MATMUL, W=normal(64, 96))
    losses = {
        mode: done(InsertQdq(mode=mode, least_db=-99.0), before, {"X": x}).activations["X"]
        for mode in ("best", "naive", "symmetric", "independent", "conjugate")
    }
    best = losses.pop("best")
    assert best.product_sqnr_db == max(one.product_sqnr_db for one in losses.values())
    assert best.method in {one.method for one in losses.values()}


def test_what_is_said_of_an_activation(done, text_model, normal, x):
    after = done(PASS, text_model(MATMUL, W=normal(64, 96)), {"X": x})
    (one,) = after.journal.activations
    assert (one.name, one.node, one.tensor_class) == ("X", "product", "gaussian")
    assert "within an eighth" in one.class_reason
    assert one.range[0] < -2 < 2 < one.range[1]
    assert 25 < one.product_sqnr_db < one.sqnr_db < 60


def test_notes(done, text_model, normal, x):
    before = text_model(BIASED, W=normal(64, 96), b=normal(96))
    before.graph.node[0].doc_string = "a line"
    after = done(PASS, before, {"X": x})
    notes = {
        node.name: {p.key.removeprefix("sardonyx."): p.value for p in node.metadata_props}
        for node in after.model.graph.node
    }
    made = {"pass": "insert-qdq"}
    loss = after.encoded["W"].sqnr_db
    said = notes.pop("X/Quantize")
    assert said.items() >= {"activation": "X", "activation_format": "uint8/tensor", **made}.items()
    assert notes == {
        "X/Dequantize": made,
        "product/Weight": made,
        "product/Bias": made,
        "sum": {},
        "product": {
            "pass": "insert-qdq",
            "replaces": "MatMul",
            "replaced_node": "product",
            "bias": "b",
            "weight": "W",
            "original": "float32 [64, 96]",
            "role": "other",
            "format": "uniform7/channel",
            "bits": "7",
            "outlier_share": "0.0000%",
            "sqnr_db": f"{loss:.2f}",
            "bytes": "24576 -> 6528",
            "compute": "int8",
        },
    }
    assert after.model.graph.node[4].doc_string == "a line"


@pytest.mark.parametrize(
    "chain",
    [
        "V = Transpose <perm = [1, 0]> (W)",
        "U = Identity (W)\n V = Transpose (U)",
        "U = Cast <to = 1> (W)\n V = Transpose (U)",
    ],
)
def test_a_weight_behind_others(done, sqnr, text_model, normal, x, chain):
    text = MATMUL.replace("[product]", f"{chain}\n [product]").replace("(X, W)", "(X, V)")
    dtype = np.float16 if "Cast" in chain else np.float32
    before = text_model(text, W=normal(96, 64, dtype=dtype))
    after = done(PASS, before, {"X": x})
    assert after.rewrites == 1
    assert after.constants["W.codes"].shape == (64, 96)
    assert sqnr(before, after.model, {"X": x}) > ENOUGH


def test_equal_weights_are_stored_once(done, sqnr, text_model, normal, x):
    before = text_model(
        """g (float[M,64] X) => (float[M,96] Y, float[M,96] Z) {
             Y = MatMul (X, W)
             N = Neg (X)
             V = Transpose (T)
             Z = MatMul (N, V)
           }""",
        W=normal(64, 96),
        T=np.ascontiguousarray(normal(64, 96).T),
    )
    after = done(PASS, before, {"X": x})
    assert after.rewrites == 2
    assert [name for name in after.constants if "codes" in name] == ["W.codes"]
    assert [view.constant.name for view in after.encoded["W"].views] == ["W", "T"]
    assert sqnr(before, after.model, {"X": x}) > ENOUGH


@pytest.mark.parametrize("shape", ["64", "M,64", "A,B,64", "A,B,C,64"])
def test_activations_of_any_rank(done, sqnr, text_model, normal, shape):
    sizes = [{"64": 64, "A": 2, "B": 3, "C": 5, "M": 7}[size] for size in shape.split(",")]
    x = normal(*sizes)
    text = f"""g (float[{shape}] X) => (float[{shape.replace("64", "96")}] Y) {{
      Z = MatMul (X, W)
      Y = Add (Z, b) }}"""
    before = text_model(text, W=normal(64, 96), b=normal(96))
    after = done(PASS, before, {"X": x})
    assert after.constants["b.codes"].shape == (96,)
    assert sqnr(before, after.model, {"X": x}) > ENOUGH


def test_names_that_are_taken(done, sqnr, text_model, normal, x):
    before = text_model(
        """g (float[M,64] X) => (float[M,96] Y, float[M,64] Z) {
             X_Dequantize = Neg (X)
             product_Weight = Abs (X_Dequantize)
             [product] P = MatMul (X, W)
             Y = Add (P, b)
             Z = Identity (product_Weight)
           }""",
        W=normal(64, 96),
        b=normal(96),
    )
    for node in before.graph.node:
        for names in (node.input, node.output):
            names[:] = [n.replace("_D", "/D").replace("_W", "/W") for n in names]
            names[:] = [f"{n}:0" if "/" in n else n for n in names]
    after = done(PASS, before, {"X": x})
    made = [name for node in after.model.graph.node for name in node.output]
    assert len(made) == len(set(made))
    assert {"X/Dequantize:0", "X/Dequantize:0_", "product/Weight:0_"} <= set(made)
    assert sqnr(before, after.model, {"X": x}) > ENOUGH


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activations": "none"}, "Input should be 'static' or 'dynamic'"),
        ({"weight_bits": 1}, "greater than or equal to 2"),
        ({"weight_bits": 9}, "less than or equal to 8"),
        ({"percentile": 50}, "greater than 50"),
        ({"decay": 1}, "less than 1"),
        ({"rows": 0}, "greater than or equal to 1"),
        ({"min_weights": 0}, "greater than or equal to 1"),
        ({"ruined": "int8"}, "Input should be 'dynamic' or 'float'"),
        ({"activations": "dynamic", "act_act": True}, "act_act needs static activations"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(InsertQdq).validate_python(arguments)
