"""merge-constants: ``c = [1, 2] ... d = [1, 2]`` -> c, read in place of d."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from sardonyx.compiler import Recipe, compile
from sardonyx.passes.cleanup.merge_constants import MergeConstants

SUM = "g (float[4] X) => (float[4] Y) { a = Add (X, c)\n Y = Mul (a, d) }"


def names(graph):
    return [tensor.name for tensor in graph.initializer]


@pytest.fixture
def merged(apply, same_bits):
    """Merge in a model, and check that it computes the same."""

    def merge(before, feeds):
        after = apply(MergeConstants(), before)
        assert after.again == 0
        same_bits(before, after.model, feeds)
        return after

    return merge


@pytest.mark.parametrize("shape", [(), (4,), (300, 4), (0, 4)], ids=str)
def test_before_after(text_model, merged, normal, shape):
    """Of all sizes: a scalar, what a sample holds, what is hashed, nothing."""
    values = normal(*shape)
    before = text_model(SUM.replace("[4] Y", f"[{'N,' * (len(shape) > 1)}4] Y"), c=values, d=values)
    after = merged(before, {"X": normal(4, seed=1)})
    assert (after.rewrites, names(after.model.graph)) == (1, ["c"])
    assert [node.input[1] for node in after.model.graph.node] == ["c", "c"]


@pytest.mark.parametrize(
    ("c", "d"),
    [
        pytest.param(np.float32([1, 2, 3, 4]), np.float32([1, 2, 3, 5]), id="value"),
        pytest.param(np.float32([0]), np.float32([-0.0]), id="sign-of-zero"),
        pytest.param(np.float32([1]), np.float32(1), id="shape"),
        pytest.param(np.ones((300, 4), np.float32), np.eye(300, 4, dtype=np.float32), id="large"),
    ],
)
def test_what_only_looks_equal_stays(text_model, merged, normal, c, d):
    before = text_model(SUM.replace("[4] Y", f"[{'N,' * (c.ndim > 1)}4] Y"), c=c, d=d)
    assert merged(before, {"X": normal(4)}).rewrites == 0


def test_an_element_between_those_of_the_sample(text_model, merged, normal):
    c = normal(300, 4)
    d = c.copy()
    d[1, 1] += 1
    before = text_model(SUM.replace("[4] Y", "[N,4] Y"), c=c, d=d)
    assert merged(before, {"X": normal(4)}).rewrites == 0


def test_types_of_equal_bytes_stay_apart(apply, text_model):
    before = text_model(
        "g (float[4] X) => (float[4] Y) { i = Cast <to = 1> (c)\n j = Cast <to = 1> (d)\n"
        "Y = Sum (X, i, j) }",
        c=np.int32([1, 2, 3, 4]),
        d=np.uint32([1, 2, 3, 4]),
    )
    assert apply(MergeConstants(), before).rewrites == 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4", "uint4"])
@pytest.mark.parametrize("size", [3, 1001])
def test_types_that_numpy_lacks(apply, text_model, tmp_path, dtype, size):
    """In the file and beside it; types below a byte are packed there."""
    before = text_model(
        "g (float[N] X) => (float[N] Y) { i = Cast <to = 1> (c)\n j = Cast <to = 1> (d)\n"
        "k = Cast <to = 1> (e)\n Y = Sum (X, i, j, k) }",
        21,
        10,
    )
    values = np.arange(size).astype(np.int8) % 7
    for name, held in {"c": values, "d": values, "e": (values + 1) % 7}.items():
        array = held.astype(getattr(ml_dtypes, dtype))
        before.graph.initializer.append(numpy_helper.from_array(array, name))
    after = apply(MergeConstants(), before)
    assert (after.rewrites, names(after.model.graph)) == (1, ["c", "e"])
    onnx.save(before, tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    beside = compile(tmp_path / "m.onnx", Recipe("r", "", (MergeConstants(),), alone=True))
    assert beside.model.graph.initializer == after.model.graph.initializer


def test_nan_equals_itself(text_model, merged, normal):
    values = np.float32([np.nan, 1, 2, 3])
    assert merged(text_model(SUM, c=values, d=values), {"X": normal(4)}).rewrites == 1


IF = """g (bool q, float[2] X) => (float[2] Y) {
          %s
          Y = If (q) <
            then_branch = t () => (float[2] r1) <float[2] k = {1, 2}> { r1 = Add (%s, k) },
            else_branch = e () => (float[2] r2) <float[2] l = {1, 2}, float[2] m = {1, 2}> {
              n = Add (x, l) r2 = Mul (n, m)
            }
          >
        }"""


def test_bodies_read_what_is_around_them(text_model, merged, normal):
    before = text_model(IF % ("x = Add (X, c)", "x"), c=np.float32([1, 2]))
    for q in (True, False):
        after = merged(before, {"q": np.array(q), "X": normal(2)})
    assert after.rewrites == 3
    assert names(after.model.graph) == ["c"]
    done = compile(before, Recipe("r", "", (MergeConstants(),), alone=True))
    assert done.report.verification.regions_run == 2


def test_near_miss_3_sibling_bodies(text_model, merged, normal):
    before = text_model(IF % ("x = Neg (X)", "x"))
    for q in (True, False):
        after = merged(before, {"q": np.array(q), "X": normal(2)})
    assert after.rewrites == 1
    bodies = [attribute.g for attribute in after.model.graph.node[1].attribute]
    assert sorted(map(names, bodies)) == [["k"], ["l"]]


def test_near_miss_1_an_output(apply, text_model):
    before = text_model(
        "g (float[4] X) => (float[4] d, float[4] Y) { a = Add (X, c)\n Y = Mul (a, d) }",
        c=np.ones(4, np.float32),
        d=np.ones(4, np.float32),
    )
    assert apply(MergeConstants(), before).rewrites == 0


def test_near_miss_2_what_callers_may_override(apply, text_model):
    before = text_model(
        "g (float[4] X, float[4] d) => (float[4] Y) { a = Add (X, c)\n Y = Mul (a, d) }",
        c=np.ones(4, np.float32),
        d=np.ones(4, np.float32),
    )
    after = apply(MergeConstants(), before)
    assert after.rewrites == 0
    assert names(after.model.graph) == ["c", "d"]


def test_near_miss_4_text(apply, text_model):
    before = text_model(
        "g (float[2] X) => (bool[2] Y) { i = Equal (c, d)\n j = Equal (d, c)\n Y = And (i, j) }",
        19,
        c=np.array(["a", "b"], object),
        d=np.array(["a", "b"], object),
    )
    assert apply(MergeConstants(), before).rewrites == 0


def test_near_miss_4_sparse_constants(apply, text_model):
    before = text_model(SUM)
    for name in "cd":
        values = onnx.helper.make_tensor(name, 1, [1], [3.0])
        places = onnx.helper.make_tensor(f"{name}_at", 7, [1], [2])
        before.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, places, [4]))
    assert apply(MergeConstants(), before).rewrites == 0


@pytest.mark.parametrize("recipe", ["gobo", "int8-dynamic"])
def test_what_is_merged_can_be_encoded(text_model, normal, run_ort, recipe):
    """Two layers by one weight and one bias: encoded once, for both."""
    w, b = normal(64, 64), normal(64)
    text = """g (float[N,64] X) => (float[N,64] Y) {
                p = MatMul (X, W1)
                q = Add (p, b1)
                r = Relu (q)
                s = MatMul (r, W2)
                Y = Add (s, b2)
              }"""
    before = text_model(text, W1=w, b1=b, W2=w.copy(), b2=b.copy())
    once = compile(before, Recipe("r", "", (MergeConstants(),), alone=True)).model
    assert names(once.graph) == ["W1", "b1"]
    done = compile(
        once, recipe, overrides=[f"{'gobo' if recipe == 'gobo' else 'insert-qdq'}.min_weights=1"]
    )
    assert done.report.totals.weights_quantized == done.report.totals.weights == 64 * 64
    x = {"X": normal(3, 64, seed=1) * 25}
    want, have = run_ort(before, x)[0], run_ort(done.model, x)[0]
    assert np.linalg.norm(want - have) < 0.5 * np.linalg.norm(want)  # 3 bits: about 0.2 a layer


@given(st.lists(st.lists(st.sampled_from([0.0, -0.0, 1.0, np.nan]), max_size=2), min_size=2))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_as_many_stay_as_differ(apply, text_model, contents):
    arrays = [np.float32(held) for held in contents]
    numbers = range(len(arrays))
    nodes = [f"s{i} = Size (c{i})\n t{i} = Unsqueeze (s{i}, axis)" for i in numbers]
    ends = ", ".join(f"t{i}" for i in numbers)
    before = text_model(
        "g () => (int64[N] Y) {" + "\n".join(nodes) + f" Y = Concat <axis = 0> ({ends}) }}",
        axis=np.array([0]),
        **{f"c{i}": array for i, array in enumerate(arrays)},
    )
    after = apply(MergeConstants(), before)
    differ = {(array.shape, array.tobytes()) for array in arrays}
    assert len(after.model.graph.initializer) == len(differ) + 1
    assert after.rewrites == len(arrays) - len(differ)
