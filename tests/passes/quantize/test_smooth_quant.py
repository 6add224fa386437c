"""smooth-quant: where divisions go, what stays alone and why; outputs as before."""

import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sardonyx.compiler import compile
from sardonyx.models import minilm_l3_onnx
from sardonyx.passes.metadata import PREFIX
from sardonyx.passes.quantize.smooth_quant import SmoothQuant

B, S, K, N = 2, 24, 32, 40
X = f"float[B,S,{K}] X"
Y = f"float[B,S,{N}] Y"

BOUND = 2e-6
"""Relative to the largest output: quotients and products of float32 round a few times."""

ALWAYS = SmoothQuant(good_enough_db=99, least_gain_db=1)
LN = "LayerNormalization <axis = -1>"


@pytest.fixture
def smooth(measure, text_model, normal, run_ort, outliers):
    """A model from text after the pass; outputs as before."""

    def run(body, inputs=X, outputs=Y, a_pass=ALWAYS, opset=17, seen=None, bound=BOUND, **held):
        known = {
            "W": normal(K, N),
            "V": normal(K, K, seed=1),
            "b": normal(K, seed=2),
            "g": outliers(1, K, seed=3)[0, 0],
        } | held
        read = {n: v for n, v in known.items() if re.search(rf"[(, ]{n}[,)]", body)}
        model = text_model(f"g ({inputs}) => ({outputs}) {{ {body} }}", opset, **read)
        feeds = {"X": outliers(S, K)} if seen is None else seen
        after = measure(a_pass, model, [feeds])
        for want, have in zip(run_ort(model, feeds), run_ort(after.model, feeds), strict=True):
            assert np.abs(want - have).max() <= bound * np.abs(want).max()
        return after

    return run


def lines(model):
    """Nodes as text, without attributes."""
    return [f"{', '.join(n.output)} = {n.op_type} ({', '.join(n.input)})" for n in model.graph.node]


def held(model, name):
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def places(after):
    return [(s.activation, s.into) for s in after.journal.smoothed]


def reasons(after):
    return [(miss.node, miss.reason) for miss in after.journal.missed]


# (a)
def test_into_a_layer_norm(smooth):
    after = smooth(f"[n] h = {LN} (X, g, b) [mm] Y = MatMul (h, W)")
    assert lines(after.model) == [
        "h/smoothed = LayerNormalization (X, g/smoothed, b/smoothed)",
        "Y = MatMul (h/smoothed, W/smoothed)",
    ]
    assert places(after) == [("h", "LayerNormalization 'n'")]


def test_what_was_decided_is_noted(smooth):
    after = smooth(f"[n] h = {LN} (X, g) [mm] Y = MatMul (h, W)")
    notes = {p.key.removeprefix(PREFIX): p.value for p in after.model.graph.node[1].metadata_props}
    (entry,) = after.journal.smoothed
    assert entry.nodes == ("mm",)
    assert entry.after_db > entry.before_db
    assert notes == {
        "smooth_into": "LayerNormalization 'n'",
        "smooth_alpha": str(entry.alpha),
        "smooth_db": f"{entry.before_db} -> {entry.after_db}",
    }


@pytest.mark.parametrize("end", ["Add (m, b)", "Add (b, m)"])
@pytest.mark.parametrize("factors", ["c, g", "g, c"])
def test_into_a_layer_norm_written_out(smooth, end, factors):
    body = f"c = Sigmoid (X) [scale] m = Mul ({factors}) h = {end} Y = MatMul (h, W)"
    after = smooth(body)
    new = factors.replace("g", "g/smoothed")
    assert f"m/smoothed = Mul ({new})" in lines(after.model)
    assert places(after) == [("h", "Mul 'scale'")]


def test_a_vector_that_others_read_too_stays_for_them(smooth):
    body = f"h = {LN} (X, g) Y = MatMul (h, W) Z = Mul (X, g)"
    after = smooth(body, outputs=f"{Y}, float[B,S,{K}] Z")
    assert "Z = Mul (X, g)" in lines(after.model)


def test_all_products_of_one_activation_have_one_scale(smooth, normal):
    body = f"h = {LN} (X, g) p = MatMul (h, W) q = MatMul (h, W2) Y = Add (p, q)"
    after = smooth(body, W2=normal(K, N, seed=5))
    assert after.rewrites == 1
    ratio = held(after.model, "W/smoothed") / normal(K, N)
    other = held(after.model, "W2/smoothed") / normal(K, N, seed=5)
    np.testing.assert_allclose(ratio, np.tile(ratio[:, :1], N), rtol=1e-6)  # float32
    np.testing.assert_allclose(other, ratio, rtol=1e-6)


def test_who_reads_sizes_does_not_mind(smooth):
    after = smooth(f"h = {LN} (X, g) s = Shape (h) Y = MatMul (h, W)", outputs=f"{Y}, int64[3] s")
    assert places(after) == [("h", "LayerNormalization 'h'")]
    assert "s = Shape (h/smoothed)" in lines(after.model)


# (b)
@pytest.mark.parametrize(
    "body",
    [
        "[v] h = MatMul (X, V) [mm] Y = MatMul (h, W)",
        "[v] p = MatMul (X, V) h = Add (p, b) [mm] Y = MatMul (h, W)",
        "[v] p = MatMul (X, V) a = Add (b, p) h = Relu (a) [mm] Y = MatMul (h, W)",
        "[v] p = MatMul (X, V) u = Sigmoid (X) h = Mul (u, p) [mm] Y = MatMul (h, W)",
        "t = Transpose <perm = [1, 0]> (V) [v] h = MatMul (X, t) [mm] Y = MatMul (h, W)",
    ],
)
def test_into_a_product(smooth, normal, outliers, body):
    big = normal(K, K, seed=1) * np.abs(outliers(1, K, seed=3)[0, 0])
    big = big.T.copy() if "Transpose" in body else big
    after = smooth(body, V=big)
    assert ("h", "MatMul 'v'") in places(after)
    assert "V/smoothed" in [tensor.name for tensor in after.model.graph.initializer]
    assert "h/inverse" not in [tensor.name for tensor in after.model.graph.initializer]


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("bias", ["", ", b"])
def test_into_a_gemm(smooth, normal, outliers, turned, bias):
    big = normal(K, K, seed=1) * np.abs(outliers(1, K, seed=3)[0, 0])
    body = f"[v] h = Gemm <transB = {turned}> (X, V{bias}) [mm] Y = MatMul (h, W)"
    seen = {"X": outliers(S, K).reshape(-1, K)}
    after = smooth(
        body, f"float[B,{K}] X", f"float[B,{N}] Y", seen=seen, V=big.T.copy() if turned else big
    )
    assert ("h", "Gemm 'v'") in places(after)


# (c)
HEADS = """
    [v] p = MatMul (X, V) a = Add (p, b) s = Reshape (a, split)
    t = Transpose <perm = [0, 2, 1, 3]> (s) c = MatMul (P, t)
    u = Transpose <perm = [0, 2, 1, 3]> (c) h = Reshape (u, join)
    [mm] Y = MatMul (h, W)
"""
PROBABILITIES = {"P": np.random.default_rng(7).dirichlet(np.ones(S), (B, 4, S)).astype(np.float32)}


@pytest.fixture
def attention(smooth, normal, outliers):
    def run(body=HEADS, heads=4, join=(0, 0, K), outputs=Y, **changes):
        known = {
            "V": normal(K, K, seed=1) * np.abs(outliers(1, K, seed=3)[0, 0]),
            "split": np.array([0, 0, heads, K // heads]),
            "join": np.array(join),
        } | changes
        inputs = f"{X}, float[B,{heads},S,S] P"
        return smooth(body, inputs, outputs, seen={"X": outliers(S, K)} | PROBABILITIES, **known)

    return run


def test_into_the_values_of_attention(attention):
    after = attention()
    assert ("h", "MatMul 'v'") in places(after)
    assert lines(after.model)[-7:] == [
        "a/smoothed = Add (p/smoothed, b/smoothed)",
        "s/smoothed = Reshape (a/smoothed, split)",
        "t/smoothed = Transpose (s/smoothed)",
        "c/smoothed = MatMul (P, t/smoothed)",
        "u/smoothed = Transpose (c/smoothed)",
        "h/smoothed = Reshape (u/smoothed, join)",
        "Y = MatMul (h/smoothed, W/smoothed)",
    ]


def test_values_that_others_read_stay(attention):
    """As a cache does."""
    after = attention(outputs=f"{Y}, float[B,4,S,8] t")
    assert ("h", "Mul") in places(after)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[0, 2, 1, 3]> (c)", "[0, 1, 2, 3]> (c)"),  # heads not back beside their sizes
        ("(s)", "(s2)"),
    ],
)
def test_other_ways_through_attention(attention, old, new):
    body = HEADS.replace(old, new).replace("t = ", "s2 = Neg (s) t = " if "s2" in new else "t = ")
    after = attention(body, join=(-1, S, K))
    assert ("h", "Mul") in places(after)


def test_values_of_one_head_for_all_queries(attention, normal, outliers):
    """Channel 8 of what attention makes is channel 0 of the values."""
    values = normal(K, 8) * np.abs(outliers(1, 8, seed=3)[0, 0])
    after = attention(V=values, b=normal(8), split=np.array([0, 0, 1, 8]))
    assert ("h", "Mul") in places(after)


# (d)
def test_a_mul_in_front_of_the_products_only(smooth):
    body = "h = Sigmoid (X) k = Mul (h, g) z = Neg (k) p = MatMul (k, W) q = MatMul (z, W2)"
    after = smooth(body + " Y = Add (p, q)", W2=np.ones((K, N), np.float32), a_pass=ALWAYS)
    text = lines(after.model)
    assert "k/smoothed = Mul (k, k/inverse)" in text
    assert "p = MatMul (k/smoothed, W/smoothed)" in text
    assert "z = Neg (k)" in text
    assert ("k", "Mul") in places(after)


def test_a_mul_must_be_needed_and_gain_enough(smooth):
    body = "[mm] Y = MatMul (X, W)"
    (entry,) = smooth(body).journal.smoothed
    gain = entry.after_db - entry.before_db
    enough = smooth(body, a_pass=SmoothQuant(good_enough_db=entry.before_db))
    assert (enough.rewrites, reasons(enough)) == (0, [])
    dear = smooth(body, a_pass=SmoothQuant(good_enough_db=99, least_gain_db=gain + 1))
    ((node, reason),) = reasons(dear)
    assert node == "mm"
    assert reason == f"smoothing gains {gain:.2f} dB, less than {gain + 1:g}"
    never = smooth(body, a_pass=SmoothQuant(good_enough_db=99, explicit=False))
    ((_, reason),) = reasons(never)
    assert reason == "no Mul is wanted, and the input 'X' has no constant to take a scale"


def test_an_alpha_that_is_given(smooth):
    (entry,) = smooth("Y = MatMul (X, W)", a_pass=SmoothQuant(0.65, 99)).journal.smoothed
    assert entry.alpha == 0.65


def test_float16(smooth, normal, outliers):
    held = {"W": normal(K, N, dtype=np.float16)}
    seen = {"X": outliers(S, K).astype(np.float16)}
    text = f"float16[B,S,{K}] X", f"float16[B,S,{N}] Y"
    bound = 8e-3  # 8 roundings of float16, as the driver allows
    after = smooth("Y = MatMul (X, W)", *text, seen=seen, bound=bound, **held)
    assert lines(after.model)[0] == "X/smoothed = Mul (X, X/inverse)"


# 1, 2
@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        ("Z = MatMul (A, W) [mm] Y = MatMul (X, W)", "Z", "weight 'W' is also read by MatMul 'mm'"),
        ("Z = Gather (W, i) [mm] Y = MatMul (X, W)", "Z", "weight 'W' is also read by Gather"),
        ("Z = Neg (W) [mm] Y = MatMul (X, W)", "Z", "weight 'W' is also read by Neg"),
        ("c = Cast <to = 1> (D) [mm] Y = MatMul (X, c)", "", "is stored as float64"),
        ("Z = Gather (W3, i) [mm] Y = MatMul (X, W)", "Z", "also read by Gather '', as 'W3'"),
    ],
)
def test_weights_that_others_need(smooth, normal, outliers, body, outputs, reason):
    inputs, seen = [X], {"X": outliers(S, K)}
    if "A, W" in body:
        inputs, seen = [*inputs, f"float[B,S,{K}] A"], seen | {"A": outliers(S, K, seed=9)}
    kinds = {"MatMul": f"float[B,S,{N}] Z", "Gather": "float[1,D] Z", "Neg": f"float[{K},{N}] Z"}
    made = [Y] + ([kinds[body.split()[2]]] if outputs else [])
    held = {"i": np.array([1]), "D": normal(K, N, dtype=np.float64), "W3": normal(K, N).T.copy()}
    after = smooth(body, ", ".join(inputs), ", ".join(made), seen=seen, **held)
    assert after.rewrites == 0
    assert reason in " ".join(text for _, text in reasons(after))


def test_no_way_through_a_tensor_that_is_an_output(smooth):
    after = smooth(f"h = {LN} (X, g) [mm] Y = MatMul (h, W)", outputs=f"{Y}, float[B,S,{K}] h")
    assert places(after) == [("h", "Mul")]


def test_gelu_keeps_its_half(smooth):
    """A number is no vector: the formula must stay one that others know."""
    body = "d = Mul (X, g) e = Erf (d) a = Add (e, one) m = Mul (d, a) h = Mul (m, half)"
    after = smooth(body + " Y = MatMul (h, W)", one=np.float32(1), half=np.float32(0.5))
    assert places(after) == [("h", "Mul")]
    assert "h = Mul (m, half)" in lines(after.model)


def test_weights_that_hold_nan(smooth, normal):
    bad = normal(K, 1)
    bad[3] = np.nan
    body = "p = MatMul (X, bad) Y = Where (no, p, X)"
    held = {"bad": bad, "no": np.array(False)}
    after = smooth(body, outputs=X.replace(" X", " Y"), **held)
    ((_, reason),) = reasons(after)
    assert reason == "its weights hold NaN or infinite values"


def test_the_same_model_comes_of_other_batches(measure, text_model, normal, outliers):
    model = text_model(f"g ({X}) => ({Y}) {{ Y = MatMul (X, W) }}", W=normal(K, N))
    x = outliers(S, K)
    one = measure(ALWAYS, model, [{"X": x}])
    two = measure(ALWAYS, model, [{"X": x[1:]}, {"X": x[:1]}])
    assert one.model == two.model


def test_minilm(measure, run_ort):
    """A post-LN model: the projections of values take the scales of what attention makes; where
    nothing can, Muls do."""
    model = onnx.load(minilm_l3_onnx())
    rng = np.random.default_rng(0)
    names = [given.name for given in model.graph.input]
    feeds = []
    for _ in range(16):
        ids = rng.integers(1000, 20000, (1, 24))
        held = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        feeds.append({n: held.get(n, np.zeros_like(ids)) for n in names})
    after = measure(SmoothQuant(), model, feeds)
    into = [entry.into for entry in after.journal.smoothed]
    assert sum("/value/" in place for place in into) == 3
    assert into.count("Mul") >= 1
    gains = [entry.after_db - entry.before_db for entry in after.journal.smoothed]
    assert all(g > 0 for g in gains)
    assert max(gains) > 3
    for want, have in zip(run_ort(model, feeds[0]), run_ort(after.model, feeds[0]), strict=True):
        assert np.abs(want - have).max() <= 1e-5 * np.abs(want).max()  # 3 layers of float32


def test_in_a_recipe(tmp_path, text_model, normal, outliers):
    recipe = tmp_path / "smooth.toml"
    table = '[[passes]]\npass = "smooth-quant"\ngood_enough_db = 99\n'
    recipe.write_text(f'description = "smooth"\n{table}')
    model = text_model(f"g ({X}) => ({Y}) {{ Y = MatMul (X, W) }}", W=normal(K, N))
    feeds = [{"X": outliers(S, K)}]
    for setting, alpha in (("search", None), ("0.5", 0.5)):
        chosen = [f"smooth-quant.alpha={setting}"]
        made = compile(model, recipe, feeds, overrides=chosen, verify="full")
        (note,) = (
            prop.value
            for prop in made.model.graph.node[1].metadata_props
            if prop.key == f"{PREFIX}smooth_alpha"
        )
        assert float(note) == (alpha or pytest.approx(0.7, abs=0.31))
