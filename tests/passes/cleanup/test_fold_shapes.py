"""fold-shapes: what is known of sizes is no longer computed."""

import numpy as np
import pytest
from onnx import numpy_helper

from sardonyx.compiler import Recipe, compile
from sardonyx.passes.cleanup.fold_shapes import FoldShapes
from sardonyx.passes.cleanup.remove_unused import RemoveUnused


def of(*shape, dtype=np.float32):
    """Values of a shape, no two alike."""
    return (np.arange(np.prod(shape)) - 3).reshape(shape).astype(dtype)


FEEDS = [{"X": of(*shape, 6)} for shape in ((1, 1), (1, 5), (3, 5), (2, 0), (0, 3))]

SIZES = """s = Shape (X) zero = Constant <value_int = 0> () one = Constant <value_int = 1> ()
    b = Gather (s, zero) n = Gather (s, one)
    b1 = Unsqueeze (b, [0]) n1 = Unsqueeze (n, [0])"""


@pytest.fixture
def sized(apply, listed_model):
    """A model from text without what nothing reads."""
    return lambda text, **kinds: apply(RemoveUnused(), listed_model(text, **kinds)).model


def constants(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


@pytest.mark.parametrize(
    ("nodes", "value"),
    [
        pytest.param("Y = Gather (s, two)", 6, id="a-size"),
        pytest.param("w = Gather (s, two) Y = Mul (w, two)", 12, id="computed"),
        pytest.param("w = Gather (s, [2]) Y = Concat <axis = 0> (w, [3])", [6, 3], id="joined"),
        pytest.param("w = Gather (s, two) Y = Equal (w, two)", False, id="a-truth-value"),
        pytest.param(
            "r = Reshape (X, [0, 0, 3, 2]) t = Shape (r) Y = Gather (t, [3])", [2], id="1"
        ),
        pytest.param("v = Sub (n, n) Y = Add (v, two)", 2, id="symbols-that-cancel"),
    ],
)
def test_1_numbers(apply, sized, run_ort, nodes, value):
    kind = "bool" if value is False else "int64"
    rank = "[?]" if isinstance(value, list) else ""
    before = sized(
        f"g (float[B,S,6] X) => ({kind}{rank} Z) {{ {SIZES}\n"
        f"two = Constant <value_int = 2> ()\n {nodes}\n Z = Identity (Y) }}"
    )
    after = apply(FoldShapes(), before)
    assert after.again == 0
    assert np.array_equal(after.constants["Y"], value)
    assert after.ops == ["Identity"]
    for feeds in FEEDS:
        assert np.array_equal(*(run_ort(m, feeds)[0] for m in (before, after.model)))


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ("t = Concat <axis = 0> (b1, n1, [3], [2])", [0, 0, 3, 2]),
        ("t = Concat <axis = 0> (b1, [-1], [3], [2])", [0, 0, 3, 2]),
        ("t = Concat <axis = 0> (b1, n1, [-1])", [0, 0, 6]),
        ("m = Mul (b1, n1) t = Concat <axis = 0> (m, [6])", [-1, 6]),
        ("m = Mul (b1, n1) t = Concat <axis = 0> ([1], m, [6])", [1, -1, 6]),
        ("t = Concat <axis = 0> (b1, [-1])", [0, -1]),
        ("t = Concat <axis = 0> (n1, b1, [6])", None),
        ("m = Mul (n1, [6]) t = Concat <axis = 0> (b1, m)", None),
    ],
)
def test_2_targets_of_reshapes(apply, cleaned, sized, run_ort, nodes, says):
    model = sized(f"g (float[B,S,6] X) => (float[] Y) {{ {SIZES}\n {nodes}\nY = Reshape (X, t) }}")
    left = cleaned(FoldShapes(), model, *_that_run(run_ort, model))
    after = apply(FoldShapes(), model).model
    if says is None:
        assert "Concat" in left
    else:
        assert left == ["Reshape"]
        assert constants(after)[after.graph.node[0].input[1]].tolist() == says


def _that_run(run_ort, model):
    """Those of the feeds that a model runs on: a -1 says nothing where another size is 0."""
    ran = []
    for feeds in FEEDS:
        try:
            run_ort(model, feeds)
        except Exception:
            continue
        ran.append(feeds)
    assert len(ran) >= 3
    return ran


def test_2_a_size_of_0_that_is_meant(cleaned, sized):
    """allowzero: what was computed is taken as it is; what is copied is the same."""
    model = sized(
        f"g (float[B,S,6] X) => (float[] Y) {{ {SIZES}\n"
        "t = Concat <axis = 0> (b1, n1, [2], [3])\n"
        "Y = Reshape <allowzero = 1> (X, t) }"
    )
    assert cleaned(FoldShapes(), model, *FEEDS) == ["Reshape"]


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ("t = Concat <axis = 0> (b1, [4], n1, [6])\n u = Unsqueeze (X, [1])", [1, 4, 1, 6]),
        ("t = Concat <axis = 0> ([2], b1, n1, [1])\n u = Identity (X)", [2, 1, 1, 1]),
        ("t = Concat <axis = 0> (b1, n1, n1, [6])\n u = Unsqueeze (X, [1])", None),
    ],
)
def test_3_targets_of_expands(apply, cleaned, sized, nodes, says):
    model = sized(
        f"g (float[B,S,6] X) => (float[?,?,?,?] Y) {{ {SIZES}\n {nodes}\nY = Expand (u, t) }}"
    )
    left = cleaned(FoldShapes(), model, *FEEDS)
    after = apply(FoldShapes(), model).model
    if says is None:
        assert "Concat" in left
    else:
        assert len(left) == 2
        assert constants(after)[after.graph.node[1].input[1]].tolist() == says


def test_4_equal_sizes_are_computed_once(cleaned, sized):
    """As exporters write it: Equal and Where change no size; what a later tensor has, the first
    has too."""
    model = sized(
        f"""g (float[B,S,6] X, float[1,1] Z) => (float[?,?] Y, float[?,?] W) {{ {SIZES}
             t = Concat <axis = 0> (b1, n1)
             e = Equal (t, [-1])
             one1 = ConstantOfShape <value = int64[1] {{1}}> ([2])
             v = Where (e, one1, t)
             Y = Expand (Z, v)
             d = Abs (X)
             ds = Shape (d)
             dn = Slice (ds, [0], [2])
             W = Expand (Z, dn)
           }}""",
        opset=13,
    )
    feeds = [each | {"Z": np.float32([[7]])} for each in FEEDS]
    left = cleaned(FoldShapes(), model, *feeds)
    assert sorted(left) == ["Expand", "Expand", "Gather", "Shape"]


@pytest.mark.parametrize(
    ("nodes", "opset", "left"),
    [
        ("Y = Gather (s, [1])", 13, ["Shape", "Gather"]),
        ("d = Shape (a)\n Y = Gather (d, [1])", 13, ["Shape", "Gather"]),
        ("d = Shape (a)\n Y = Gather (d, [1])", 17, ["Shape"]),
        ("d = Shape (a)\n Y = Gather (d, [1, 0])", 17, ["Shape", "Gather"]),
        ("d = Shape (a)\n Y = Slice (d, [0], [2])", 17, ["Shape"]),
        ("Y = Concat <axis = 0> (b1, n1)", 17, ["Shape"]),
        ("c = Concat <axis = 0> (X, X)\n d = Shape (c)\n Y = Gather (d, [1])", 17, ["Shape"]),
    ],
)
def test_5_sizes_of_inputs(cleaned, sized, nodes, opset, left):
    model = sized(
        f"g (float[B,S,6] X) => (int64[] Y) {{ {SIZES}\n a = Abs (X)\n {nodes} }}", opset=opset
    )
    assert cleaned(FoldShapes(), model, *FEEDS) == left


@pytest.mark.parametrize("opset", [13, 17])
def test_5_all_sizes_of_an_input(cleaned, sized, opset):
    model = sized("g (float[B,S] X) => (int64[2] Y) { a = Abs (X)\n Y = Shape (a) }", opset=opset)
    assert cleaned(FoldShapes(), model, {"X": of(3, 5)}) == ["Shape"]


def test_near_miss_5_sizes_of_two_inputs(apply, sized):
    model = sized(
        "g (float[A] X, float[B] Z) => (int64[2] Y) { a = Shape (X)\n b = Shape (Z)\n"
        "Y = Concat <axis = 0> (a, b) }"
    )
    assert apply(FoldShapes(), model).rewrites == 0


@pytest.mark.parametrize("names", [("B", "S", "B", "S"), ("B", "S", "C", "T"), ("", "", "", "")])
def test_symbols_of_inputs(cleaned, sized, names):
    """Equal where they have one name; where they have none, what is copied is the tensor's own."""
    one, other = (",".join(name or "?" for name in names[i : i + 2]) for i in (0, 2))
    model = sized(
        f"""g (float[{one},6] X, float[{other},6] Z) => (float[] Y) {{ {SIZES}
             t = Concat <axis = 0> (b1, n1, [3], [2])
             y = Reshape (X, t)
             z = Reshape (Z, t)
             Y = Add (y, z)
           }}"""
    )
    feeds = [each | {"Z": 2 * each["X"]} for each in FEEDS]
    reshapes = cleaned(FoldShapes(), model, *feeds).count("Reshape")
    assert reshapes == 2
    left = cleaned(FoldShapes(), model)
    assert ("Concat" in left) == (names[0] != names[2] or not names[0])


def test_near_miss_1_outputs(cleaned, sized):
    model = sized(
        "g (float[B,6] X) => (int64[1] Y, int64[1] Z) { s = Shape (X)\n Y = Gather (s, [1])\n"
        "Z = Gather (s, [-1]) }"
    )
    assert cleaned(FoldShapes(), model, {"X": of(3, 6)}, rewrites=0) == ["Shape"] + ["Gather"] * 2


def test_bodies(apply, sized, run_ort):
    """Sizes are known inside; a body asks the input of the graph around it."""
    before = sized(
        """g (bool c, float[B,S,6] X) => (float[?,?,?] Y) {
             a = Neg (X)
             d = Shape (a)
             n = Gather (d, [1])
             b = ReduceSum (a, [1])
             Y = If (c) <
               then_branch = t () => (float[?,?,?] r1) {
                 p = Abs (a) q = Shape (p) i = Gather (q, [0]) t = Concat <axis = 0> (i, [-1], [6])
                 r1 = Reshape (p, t) },
               else_branch = e () => (float[?,?,?] r2) {
                 u = Concat <axis = 0> ([1], n, [1]) v = Identity (u) r2 = Expand (b, v) }>
           }"""
    )
    after = apply(FoldShapes(), before)
    assert after.again == 0
    then, other = (a.g for a in after.model.graph.node[-1].attribute)
    if then.name != "t":
        then, other = other, then
    assert [node.op_type for node in then.node] == ["Abs", "Reshape"]
    assert [node.op_type for node in other.node] == ["Concat", "Expand"]
    for c in (True, False):
        for feeds in FEEDS[:3]:
            each = feeds | {"c": np.array(c)}
            assert np.array_equal(*(run_ort(m, each)[0] for m in (before, after.model)))


def test_a_body_that_goes_needs_nothing(listed_model, run_ort):
    """Of an If only the sizes are read, which X has too: what its bodies read goes as well."""
    before = listed_model(
        """g (bool c, float[B,6] X) => (int64 Y) {
             zero = Constant <value_int = 0> ()
             a = Neg (X)
             y = If (c) <then_branch = t () => (float[B,6] r1) { r1 = Abs (a) },
                         else_branch = e () => (float[B,6] r2) { r2 = Neg (a) }>
             s = Shape (y)
             Y = Gather (s, zero)
           }"""
    )
    recipe = Recipe("r", "", (FoldShapes(), RemoveUnused()), alone=True)
    after = compile(before, recipe).model
    assert [node.op_type for node in after.graph.node] == ["Shape", "Gather"]
    feeds = {"c": np.array(True), "X": of(3, 6)}
    assert run_ort(after, feeds) == run_ort(before, feeds) == [3]


def test_numbers_are_those_of_single_precision(apply, sized, run_ort):
    """10 * 0.7 is 7 in float32, and 6 of it if rounded down from double."""
    before = sized(
        """g (float[10] X) => (int64 Y) {
             s = Shape (X) n = Squeeze (s) f = Cast <to = 1> (n)
             m = Mul (f, share) i = Cast <to = 7> (m) Y = Identity (i)
           }""",
        share=np.float32(0.7),
    )
    after = apply(FoldShapes(), before)
    assert after.constants["i"] == run_ort(before, {"X": of(10)})[0] == 7


def test_integers_that_their_type_cannot_hold_stay(apply, sized):
    before = sized(
        """g (float[100000] X) => (int32 Y) {
             s = Shape (X) n = Squeeze (s) i = Cast <to = 6> (n)
             m = Mul (i, i) Y = Identity (m)
           }"""
    )
    after = apply(FoldShapes(), before)
    assert after.ops == ["Mul", "Identity"]


def test_a_graph_without_sizes_is_left_alone(apply, text_model):
    model = text_model("g (float[B,6] X, int64[2] t) => (float[?,?] Y) { Y = Reshape (X, t) }")
    assert apply(FoldShapes(), model).rewrites == 0
