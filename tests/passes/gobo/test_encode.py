"""gobo: which weights become ops, what those compute, and why the others are left alone."""

import ml_dtypes
import numpy as np
import pytest
from onnx import helper
from pydantic import TypeAdapter, ValidationError

from sardonyx.passes.gobo.encode import Gobo
from sardonyx.runtime_ops.errors import InputError

MATMUL = "g (float[M,64] X) => (float[M,96] Y) { Y = MatMul (X, W) }"
GATHER = "g (int64[M] I) => (float[M,32] Y) { Y = Gather (W, I) }"
IDS = np.array([0, 99, 7, -1, -100])


@pytest.fixture(scope="module")
def x(normal):
    return normal(5, 64, seed=1) * np.float32(25)


@pytest.mark.parametrize("opset", [13, 17, 18, 26])
def test_matmul(check_gobo, text_model, census, normal, x, opset):
    before = text_model(MATMUL, opset, 13 if opset > 25 else 8, W=normal(64, 96))
    after = check_gobo(before, {"X": x})
    assert (after.rewrites, census(after.model)) == (1, {"GoboMatMul6": 1})
    (node,) = after.model.graph.node
    assert list(node.input) == ["X", "W.indices", "W.centroids", "W.positions", "W.values"]
    assert (node.domain, helper.get_attribute_value(node.attribute[0])) == ("sardonyx", [64, 96])
    assert {t.name for t in after.model.graph.initializer} == set(node.input[1:])
    assert [f.name for f in after.model.functions] == ["GoboMatMul6"]
    assert {o.domain: o.version for o in after.model.opset_import} == {"": opset, "sardonyx": 1}


@pytest.mark.parametrize("opset", [13, 17, 18, 26])
def test_gather(check_gobo, text_model, census, normal, opset):
    before = text_model(GATHER, opset, 13 if opset > 25 else 8, W=normal(100, 32))
    after = check_gobo(before, {"I": IDS})
    assert census(after.model) == {"GoboGather6": 1}
    assert helper.get_attribute_value(after.model.graph.node[0].attribute[0]) == [32, 100]


def test_gather_of_ids_of_any_rank(check_gobo, text_model, normal):
    before = text_model(GATHER.replace("[M]", "[A,B,C]").replace("[M,", "[A,B,C,"), W=normal(9, 32))
    check_gobo(before, {"I": np.arange(8).reshape(2, 2, 2)})


CHAINS = {
    "Transpose": ("V = Transpose <perm = [1, 0]> (W)", True),
    "Transpose without perm": ("V = Transpose (W)", True),
    "two Transposes": ("U = Transpose (W)\n V = Transpose (U)", False),
    "Transpose that turns nothing": ("V = Transpose <perm = [0, 1]> (W)", False),
    "Identity": ("V = Identity (W)", False),
    "Identity, Transpose": ("U = Identity (W)\n V = Transpose (U)", True),
    "Transpose, Identity, Identity": (
        "U = Transpose (W)\n T = Identity (U)\n V = Identity (T)",
        True,
    ),
    "Cast": ("V = Cast <to = 1> (W)", False),
    "Cast, Transpose": ("U = Cast <to = 1> (W)\n V = Transpose (U)", True),
}


@pytest.mark.parametrize(
    ("chain", "dtype"),
    [(chain, np.float32) for chain in CHAINS]
    + [(chain, dtype) for chain in CHAINS if "Cast" in chain for dtype in (np.float16, np.float64)],
)
def test_matmul_through(check_gobo, text_model, census, normal, x, chain, dtype):
    text, turned = CHAINS[chain]
    weight = normal(*((96, 64) if turned else (64, 96)), dtype=dtype)
    before = text_model(
        MATMUL.replace("Y =", f"{text}\n Y =").replace("(X, W)", "(X, V)"), W=weight
    )
    after = check_gobo(before, {"X": x})
    assert census(after.model)["GoboMatMul6"] == 1
    assert after.journal.encoded[0].bytes_before == weight.nbytes


def test_gemm_and_gather_through_a_transpose(check_gobo, text_model, census, normal, x):
    before = text_model(
        """g (float[M,64] X, int64[L] I) => (float[M,96] Y, float[L,64] Z) {
             V = Transpose (W)
             Y = Gemm <transB = 1> (X, V)
             U = Transpose (E)
             Z = Gather (U, I)
           }""",
        W=normal(64, 96),
        E=normal(64, 100, seed=1),
    )
    after = check_gobo(before, {"X": x, "I": IDS}, bound=Gobo.bound)
    assert census(after.model) == {"GoboMatMul6": 1, "GoboGather6": 1, "Transpose": 2}


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "float16"), (np.float64, "double")])
def test_other_floats(check_gobo, text_model, normal, x, dtype, name):
    before = text_model(MATMUL.replace("float", name), W=normal(64, 96, dtype=dtype))
    after = check_gobo(before, {"X": x.astype(dtype)})
    kinds = {t.name: t.data_type for t in after.model.graph.initializer}
    assert kinds["W.centroids"] == helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def test_bfloat16(apply, text_model, census, normal):
    before = text_model(
        MATMUL.replace("float", "bfloat16"), W=normal(64, 96, dtype=ml_dtypes.bfloat16)
    )
    after = apply(Gobo(), before)  # onnxruntime has no bfloat16 MatMul on a CPU
    assert census(after.model) == {"GoboMatMul3": 1}
    assert 10 < after.journal.encoded[0].sqnr_db < 20  # 3 bits: 14 dB


def test_tied_in_gather_and_through_transpose(check_gobo, text_model, census, normal, x):
    before = text_model(
        """g (float[M,64] X, int64[L] I) => (float[M,100] Y, float[L,64] Z) {
             Z = Gather (W, I)
             V = Transpose (W)
             Y = MatMul (X, V)
           }""",
        W=normal(100, 64),
    )
    after = check_gobo(before, {"X": x, "I": IDS}, a_pass=Gobo(bits=3, embedding_bits=6))
    assert census(after.model) == {"GoboGather6": 1, "GoboMatMul6": 1, "Transpose": 1}
    gather, matmul = (n for n in after.model.graph.node if n.domain)
    assert gather.input[1:] == matmul.input[1:]
    (entry,) = after.journal.encoded
    assert (entry.name, len(entry.nodes), len(entry.views)) == ("W", 2, 1)


def test_two_initializers_with_equal_contents_one_turned(check_gobo, text_model, normal, x):
    table = normal(100, 64)
    before = text_model(
        """g (float[M,64] X, int64[L] I) => (float[M,100] Y, float[L,64] Z) {
             Z = Gather (W, I)
             Y = MatMul (X, V)
           }""",
        W=table,
        V=np.ascontiguousarray(table.T),
    )
    after = check_gobo(before, {"X": x, "I": IDS})
    assert len(after.model.graph.initializer) == 4
    (entry,) = after.journal.encoded
    assert [view.constant.name for view in entry.views] == ["W", "V"]
    assert entry.bytes_before == 2 * table.nbytes
    assert after.journal.weights == 2 * table.size


def test_initializers_that_differ_in_one_weight_are_not_tied(check_gobo, text_model, normal, x):
    other = normal(64, 96)
    other[33, 44] += np.float32(0.01)
    before = text_model(
        """g (float[M,64] X) => (float[M,96] Y, float[M,96] Z) {
             Y = MatMul (X, W)
             Z = MatMul (X, V)
           }""",
        W=normal(64, 96),
        V=other,
    )
    assert len(check_gobo(before, {"X": x}).journal.encoded) == 2


def miss(apply, model, name="W", a_pass=None):
    """The reason for which a weight is left alone, and whether it should have been encoded."""
    after = apply(a_pass or Gobo(min_weights=1), model)
    assert (after.rewrites, after.journal.encoded) == (0, [])
    skip = next(skip for skip in after.journal.skipped if skip.name == name)
    return skip.reason, skip.eligible


def test_near_miss_1_left_operand(apply, text_model, normal):
    before = text_model(
        "g (float[64,M] X) => (float[96,M] Y) { Y = MatMul (W, X) }", W=normal(96, 64)
    )
    reason = "left operand of MatMul: only right operands are encoded"
    assert miss(apply, before) == (reason, True)
    before.graph.node[0].op_type = "Gemm"
    assert miss(apply, before) == (reason.replace("MatMul", "Gemm"), True)


def test_near_miss_1_rank_3(apply, text_model, normal):
    before = text_model(
        "g (float[2,M,64] X) => (float[2,M,96] Y) { Y = MatMul (X, W) }", W=normal(2, 64, 96)
    )
    assert miss(apply, before) == ("rank 3: only matrices are encoded", True)


def test_near_miss_1_two_casts(apply, text_model, normal):
    before = text_model(
        MATMUL.replace("Y =", "U = Cast <to = 10> (W)\n V = Cast <to = 1> (U)\n Y =").replace(
            "(X, W)", "(X, V)"
        ),
        W=normal(64, 96),
    )
    assert miss(apply, before) == ("reached through 2 Casts: only one is followed", True)


def test_near_miss_1_gather_along_axis_1(apply, text_model, normal):
    before = text_model(
        "g (int64[M] I) => (float[64,M] Y) { Y = Gather <axis = 1> (W, I) }", W=normal(64, 96)
    )
    assert miss(apply, before) == ("Gather along axis 1: only rows (axis 0) are encoded", True)


@pytest.mark.parametrize(
    ("more", "reader"),
    [
        ("Z = Neg (W)", "Neg 'other'"),
        ("U = Identity (W)\n Z = Neg (U)", "Neg 'other'"),
        ("Z = MatMul (X, V)", "MatMul 'other'"),
        ("Z = Gemm (X, X, W)", "Gemm 'other'"),
    ],
)
def test_near_miss_2_another_reader(apply, text_model, normal, more, reader):
    before = text_model(
        "g (float[64,64] X) => (float[64,64] Y, float[64,64] Z) { Y = MatMul (X, W)\n"
        f"{'V = Transpose (W)' if 'V' in more else ''} {more} }}",
        W=normal(64, 64),
    )
    before.graph.node[-1].name = "other"
    assert miss(apply, before) == (f"also read by {reader}", True)


def test_near_miss_2_read_in_a_subgraph(apply, text_model, normal):
    before = text_model(
        """g (float[64,64] X, bool c) => (float[64,64] Y) {
             Z = MatMul (X, W)
             Y = If (c) <then_branch = t () => (float[64,64] A) { A = Mul (Z, W) },
                         else_branch = e () => (float[64,64] B) { B = Identity (Z) }>
           }""",
        W=normal(64, 64),
    )
    assert miss(apply, before) == ("also read by Mul ''", True)


@pytest.mark.parametrize("name", ["W", "V"])
def test_near_miss_2_output_of_the_graph(apply, text_model, normal, name):
    before = text_model(
        f"g (float[M,64] X) => (float[M,64] Y, float[64,64] {name}) {{ V = Identity (W)\n"
        "Y = MatMul (X, V) }",
        W=normal(64, 64),
    )
    assert miss(apply, before) == (f"also read by the graph's output '{name}'", True)


def test_near_miss_3_small(apply, text_model, normal):
    before = text_model(MATMUL.replace("96", "63"), W=normal(64, 63))
    assert miss(apply, before, a_pass=Gobo()) == ("small: 4032 weights, fewer than 4096", False)
    assert apply(Gobo(min_weights=4032), before).rewrites == 1


def test_near_miss_4_encoded_not_smaller(apply, text_model, normal):
    before = text_model(MATMUL.replace("96", "1").replace("64", "4"), W=normal(4, 1))
    reason, eligible = miss(apply, before)
    assert (reason, eligible) == ("encoded it takes 224 bytes, plain 16", True)


def test_vectors_are_listed(apply, text_model, normal, x, run_ort):
    before = text_model(
        """g (float[M,64] X) => (float[M,96] Y) {
             N = LayerNormalization (X, scale, shift)
             Z = MatMul (N, W)
             A = Add (Z, bias)
             Y = Mul (A, half)
           }""",
        W=normal(64, 96),
        scale=1 + normal(64),
        shift=normal(64),
        bias=normal(96),
        half=np.float32(0.5),
    )
    after = apply(Gobo(), before)
    reason = "a vector (bias or normalisation parameter), not a weight matrix"
    assert after.reasons == dict.fromkeys(("scale", "shift", "bias"), reason)
    assert not any(skip.eligible for skip in after.journal.skipped)
    assert np.array_equal(run_ort(after.model, {"X": x}), run_ort(after.decoded, {"X": x}))


def test_one_that_a_user_may_override_is_never_encoded(apply, text_model, normal, run_ort, x):
    before = text_model(MATMUL.replace("] X)", "] X, float[64,96] W)"), W=normal(64, 96))
    after = apply(Gobo(), before)
    assert (after.rewrites, after.journal.weights, after.journal.skipped) == (0, 0, [])
    other = normal(64, 96, seed=9)
    for feeds in ({"X": x}, {"X": x, "W": other}):
        assert np.array_equal(run_ort(before, feeds), run_ort(after.model, feeds))


def test_a_weight_of_integers_or_of_another_domain_is_no_weight(apply, text_model):
    before = text_model(
        "g (int32[M,64] X) => (int32[M,64] Y) { Y = MatMul (X, W) }", W=np.ones((64, 64), np.int32)
    )
    after = apply(Gobo(), before)
    assert (after.rewrites, after.journal.weights, after.journal.skipped) == (0, 0, [])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_names_the_tensor(apply, text_model, normal, bad):
    weight = normal(64, 96)
    weight[5, 6] = bad
    before = text_model(MATMUL, W=weight)
    before.graph.node[0].name = "dense"
    with pytest.raises(InputError, match="weight 'W' of MatMul 'dense' holds NaN or infinite"):
        apply(Gobo(), before)


def test_largest_first_on_all_cores_in_the_order_of_the_graph(apply, text_model, normal):
    sizes = (64, 128, 96)
    text = "\n".join(f"Y{n} = MatMul (X, W{n})" for n in sizes)
    outputs = ", ".join(f"float[M,{n}] Y{n}" for n in sizes)
    before = text_model(
        f"g (float[M,64] X) => ({outputs}) {{ {text} }}", **{f"W{n}": normal(64, n) for n in sizes}
    )
    after = apply(Gobo(), before)
    assert [entry.name for entry in after.journal.encoded] == ["W64", "W128", "W96"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bits": 1}, "greater than or equal to 2"),
        ({"embedding_bits": 9}, "less than or equal to 8"),
        ({"outliers": "z", "threshold": -1.0}, "must be above 0"),
        ({"outliers": "share", "threshold": 1.5}, "must be between 0 and 1"),
        ({"min_weights": 0}, "greater than or equal to 1"),
        ({"compute": "int4"}, "Input should be 'fp32' or 'int8'"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Gobo).validate_python(arguments)


@pytest.mark.parametrize("bits", range(2, 9))
def test_every_width(apply, text_model, normal, x, run_ort, bits):
    before = text_model(MATMUL, W=normal(64, 96))
    after = apply(Gobo(bits=bits, min_weights=1), before)
    assert np.array_equal(run_ort(after.model, {"X": x}), run_ort(after.decoded, {"X": x}))
    assert after.journal.encoded[0].sqnr_db > 4 * bits


def test_the_optimal_solver_loses_less(apply, text_model, normal):
    before = text_model(MATMUL, W=normal(64, 96))
    paper, optimal = (
        apply(Gobo(solver=solver), before).journal.encoded[0].sqnr_db
        for solver in ("paper", "optimal")
    )
    assert optimal > paper
