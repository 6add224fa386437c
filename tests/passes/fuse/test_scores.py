"""The scores of attention: their scale and biases are found wherever exporters put them."""

import numpy as np
import onnx
import pytest

from sardonyx.passes.fuse.attention import FuseAttention

N = 2


def attributes(model):
    """Of the one MultiHeadAttention, numbers to six digits."""
    (node,) = (node for node in model.graph.node if node.op_type == "MultiHeadAttention")
    held = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {name: float(f"{value:.6g}") for name, value in held.items()}


SCALES = [
    ({}, None),
    ({"scaled": "Mul (raw, half)"}, None),
    ({"scaled": "Mul (half, raw)"}, None),
    ({"scaled": "Div (raw, root4)"}, None),
    ({"scaled": "Identity (raw)"}, 1),
    ({"scaled": "Div (raw, quarter)"}, 1.41421),
    ({"scaled": "Mul (raw, nearly)"}, 0.5001),
    ({"scaled": "a = Mul (raw, quarter); Mul (a, quarter)"}, None),
    ({"scaled": "a = Mul (raw, less); Div (a, root)"}, -0.5),
    ({"q": "qs = Mul (q4, half); Transpose <perm = [0, 2, 1, 3]> (qs)"}, 0.25),
    ({"q4": "qs = Mul (q3, half); Reshape (qs, split)", "scaled": "Identity (raw)"}, None),
    ({"k4": "ks = Mul (k3, half); Reshape (ks, split)", "scaled": "Identity (raw)"}, None),
    (
        {
            "raw": "qs = Mul (q, quarter); ks = Mul (k, quarter); MatMul (qs, ks)",
            "scaled": "Identity (raw)",
        },
        None,
    ),
    (
        {
            "scaled": "n = Shape (q4); d = Gather (n, last); f = Cast <to = 1> (d); "
            "r = Sqrt (f); Div (raw, r)"
        },
        None,
    ),
    (
        {
            "scaled": "n = Shape (q); d = Slice (n, last1, end); f = Cast <to = 1> (d); "
            "r = Sqrt (f); w = Div (one1, r); Mul (raw, w)"
        },
        None,
    ),
]


@pytest.mark.parametrize(("changes", "scale"), SCALES)
def test_scales(fuse_attention, attention, changes, scale):
    given = {
        "last": np.array(3),
        "nearly": np.float32(0.5001),
        "last1": np.array([-1]),
        "end": np.array([np.iinfo(np.int64).max]),
        "one1": np.ones(1, np.float32),
        "less": np.float32(-1),
        "root4": np.full((1, 1, 1, 1), 2, np.float32),
    }
    attrs = attributes(fuse_attention(attention(given=given, **changes)))
    assert attrs == {"num_heads": N} | ({} if scale is None else {"scale": scale})


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": "Add (mask, scaled)"},
        {"scores": "Identity (scaled)"},
        {"scores": "a = Add (mask, scaled); b = Identity (a); Cast <to = 1> (b)"},
        {"scores": "a = Add (bias, scaled); Add (mask, a)"},
        {"scores": "a = Add (scaled, mask); Where (keep, a, lowest)"},
        {"scores": "b = Identity (lowest); Where (keep, scaled, b)"},
    ],
)
def test_biases(fuse_attention, attention, changes):
    fuse_attention(attention(**changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"scaled": "Add (raw, mask)", "scores": "Div (scaled, root)"},
            "'scores' scales the scores after their mask was added",
        ),
        (
            {"scaled": "Where (keep, raw, lowest)", "scores": "Div (scaled, root)"},
            "'scores' scales the scores after their mask was added",
        ),
        (
            {"scores": "Where (keep, scaled, low)"},
            "'low', in place of masked scores, is not below -1e+30",
        ),
        (
            {"scores": "Where (keep, scaled, bias)"},
            "'bias', in place of masked scores, is not below -1e+30",
        ),
        (
            {"scaled": "Tanh (raw)", "scores": "Identity (scaled)"},
            "'scores' is no product of queries and keys, scaled and masked",
        ),
        (
            {"raw": "MatMul (q, table)"},
            "'scores' is no product of queries and keys, scaled and masked",
        ),
        (
            {"scaled": "Div (root, raw)"},
            "'scores' is no product of queries and keys, scaled and masked",
        ),
        (
            {"scaled": "Mul (raw, zero)"},
            "'scores' is no product of queries and keys, scaled and masked",
        ),
        (
            {"scaled": "Mul (raw, eachhead)"},
            "'scores' is no product of queries and keys, scaled and masked",
        ),
        (
            {"scaled": "Mul (raw, root5)", "scores": "Squeeze (scaled, at0)"},
            "'scores' is no product of queries and keys, scaled and masked",
        ),
    ],
)
def test_near_miss_2_and_3(missed, attention, changes, reason):
    given = {
        "table": np.ones((1, 1, 4, 3), np.float32),
        "eachhead": np.ones((2, 1, 1), np.float32),
        "root5": np.full((1, 1, 1, 1, 1), 2, np.float32),
    }
    assert missed(FuseAttention(), attention(given=given, **changes)) == [f"p: {reason}"]


def test_near_miss_2_a_scale_of_higher_rank(missed, attention):
    # scores of five axes, of which the first is 1
    model = attention(
        scaled="Mul (raw, root5)",
        scores="Identity (scaled)",
        turned="m = Squeeze (mixed, at0); Transpose <perm = [0, 2, 1, 3]> (m)",
        given={"root5": np.full((1, 1, 1, 1, 1), 2, np.float32)},
    )
    (reason,) = missed(FuseAttention(), model)
    assert reason.startswith("p: 'scores' is no product of queries and keys")
