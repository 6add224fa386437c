"""fuse-attention: exporters' ways to write attention become one op; what does not, and why."""

import numpy as np
import onnx
import pytest

from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.fuse.attention import FuseAttention
from sardonyx.passes.gobo.encode import Gobo

B, S, T, N, D = 2, 3, 5, 2, 4
LOWEST = float(np.finfo(np.float32).min)

EAGER = {
    "q3": "MatMul (X, Wq)",
    "k3": "MatMul (X, Wk)",
    "v3": "MatMul (X, Wv)",
    "q4": "Reshape (q3, split)",
    "k4": "Reshape (k3, split)",
    "v4": "Reshape (v3, split)",
    "q": "Transpose <perm = [0, 2, 1, 3]> (q4)",
    "k": "Transpose <perm = [0, 2, 3, 1]> (k4)",
    "v": "Transpose <perm = [0, 2, 1, 3]> (v4)",
    "raw": "MatMul (q, k)",
    "scaled": "Div (raw, root)",
    "scores": "Add (scaled, mask)",
    "p": "Softmax <axis = -1> (scores)",
    "mixed": "MatMul (p, v)",
    "turned": "Transpose <perm = [0, 2, 1, 3]> (mixed)",
    "Y": "Reshape (turned, merge)",
}
INPUTS = {
    "X": "float[batch,length,8]",
    "E": "float[batch,other,8]",
    "mask": "float[batch,1,1,length]",
    "keep": "bool[batch,1,1,length]",
    "bias": "float[1,2,length,length]",
    "past_k": "float[batch,2,past,4]",
    "past_v": "float[batch,2,past,4]",
}
OUTPUTS = {"Y": "float[batch,length,8]"}
OP = "com.microsoft.MultiHeadAttention"


def words_in(text):
    for sign in "(),;=\n{}":
        text = text.replace(sign, " ")
    return set(text.split())


def body_of(lines):
    """Nodes as text; a line may hold others that come before it, ended by semicolons."""
    texts = []
    for name, line in lines.items():
        *ahead, last = (part.strip() for part in line.split(";"))
        texts += [*ahead, f"{name} = {last}"]
    return "\n".join(texts)


@pytest.fixture(scope="session")
def constants(normal):
    """Weights, numbers and shapes that the texts here name."""
    weights = {f"W{name}": normal(8, 8, seed=i) * 20 for i, name in enumerate("qkv")}
    numbers = {"root": 2, "half": 0.5, "quarter": 2**-0.5, "zero": 0, "lowest": LOWEST}
    numbers |= {"infinite": -np.inf, "low": -1e4, "eight": 8}
    shapes = {
        "split": [0, 0, N, D],
        "merge": [0, 0, N * D],
        "rows": [-1, N * D],
        "free": [0, 0, -1],
    }
    shapes |= {"at0": [0], "at1": [1], "at2": [2], "four": [4]}
    return (
        weights
        | {name: np.float32(number) for name, number in numbers.items()}
        | {name: np.array(shape) for name, shape in shapes.items()}
        | {"root4": np.full((1, 1, 1, 1), 2, np.float32), "two": np.array(2)}
    )


@pytest.fixture(scope="session")
def written(text_model, constants):
    """The eager model with some lines changed, as a model; keywords that no line has come last."""

    def make(opset=17, inputs=INPUTS, outputs=OUTPUTS, constants=constants, lines=EAGER, **changes):
        lines = {name: line for name, line in (lines | changes).items() if line is not None}
        body = body_of(lines)
        words = words_in(body)
        read = [f"{kind} {name}" for name, kind in inputs.items() if name in words]
        made = [f"{kind} {name}" for name, kind in outputs.items()]
        held = {name: value for name, value in constants.items() if name in words}
        text = f"g ({', '.join(read)}) => ({', '.join(made)}) {{ {body} }}"
        return text_model(text, opset, **held)

    return make


@pytest.fixture(scope="session")
def tensors(normal):
    """Values for the inputs of a model; of two sentences the second has padding."""

    def make(model, lowest=LOWEST):
        counted = np.arange(S) < np.array([[S], [S - 1]])
        held = {
            "X": normal(B, S, N * D) * 25,
            "E": normal(B, T, N * D, seed=5) * 25,
            "mask": np.where(counted, np.float32(0), np.float32(lowest))[:, None, None],
            "keep": counted[:, None, None],
            "bias": normal(1, N, S, S, seed=6) * 25,
            "past_k": normal(B, N, T, D, seed=7) * 25,
            "past_v": normal(B, N, T, D, seed=8) * 25,
        }
        return {value.name: held[value.name] for value in model.graph.input}

    return make


@pytest.fixture(scope="session")
def fused(fuse, tensors, census):
    """The model with its one attention fused, on inputs with padding; it holds no other part."""

    def check(model):
        after = fuse(FuseAttention(), model, **tensors(model))
        assert after.rewrites == 1
        assert after.journal.missed == []
        assert not {"Softmax", "Attention", "Transpose"} & census(after.model).keys()
        return after.model

    return check


def attributes(model):
    """Of the one MultiHeadAttention, numbers to six digits."""
    (node,) = (node for node in model.graph.node if node.op_type == "MultiHeadAttention")
    held = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {name: float(f"{value:.6g}") for name, value in held.items()}


PROJECTIONS = [
    ("MatMul", ["X", "Wq"], ["q3"], {}),
    ("MatMul", ["X", "Wk"], ["k3"], {}),
    ("MatMul", ["X", "Wv"], ["v3"], {}),
]
LENGTHS = [
    ("Shape", ["q3"], ["p/Queries/Shape:0"], {}),
    ("Gather", ["p/Queries/Shape:0", "p/Queries/Axis"], ["p/Queries:0"], {}),
    ("Shape", ["k3"], ["p/Keys/Shape:0"], {}),
    ("Gather", ["p/Keys/Shape:0", "p/Keys/Axis"], ["p/Keys:0"], {}),
    ("Concat", ["p/Ones", "p/Queries:0", "p/Keys:0"], ["p/Shape:0"], {"axis": 0}),
]


def test_eager(fuse, written, tensors, nodes_of):
    model = written()
    after = fuse(FuseAttention(), model, **tensors(model))
    assert nodes_of(after.model) == [
        *PROJECTIONS,
        *LENGTHS,
        ("Expand", ["mask", "p/Shape:0"], ["p/Expand:0"], {}),
        (OP, ["q3", "k3", "v3", "", "", "p/Expand:0"], ["Y"], {"num_heads": N}),
    ]
    (done,) = after.journal.fused
    assert (done.name, done.op, done.replaced) == ("fuse-attention", "MultiHeadAttention", 13)
    assert after.journal.missed == []


def test_names_and_notes(apply, written):
    before = written()
    softmax = next(node for node in before.graph.node if node.op_type == "Softmax")
    softmax.name, softmax.doc_string = "layer/Softmax", "a line"
    softmax.metadata_props.add(key="note", value="kept")
    attend = apply(FuseAttention(), before).model.graph.node[-1]
    assert (attend.name, attend.doc_string) == ("layer/Softmax/Attend", "a line")
    notes = {prop.key: prop.value for prop in attend.metadata_props}
    assert notes == {"note": "kept", "sardonyx.pass": "fuse-attention"}


@pytest.mark.parametrize(
    ("changes", "scale"),
    [
        ({}, None),
        ({"scaled": "Mul (raw, half)"}, None),
        ({"scaled": "Mul (half, raw)"}, None),
        ({"scaled": "Div (raw, root4)"}, None),
        ({"scaled": "Identity (raw)"}, 1),
        ({"scaled": "Div (raw, quarter)"}, 1.41421),
        ({"q": "qs = Mul (q4, half); Transpose <perm = [0, 2, 1, 3]> (qs)"}, 0.25),
        ({"q4": "qs = Mul (q3, half); Reshape (qs, split)", "scaled": "Identity (raw)"}, None),
        (
            {
                "raw": "qs = Mul (q, quarter); ks = Mul (k, quarter); MatMul (qs, ks)",
                "scaled": "Identity (raw)",
            },
            None,
        ),
        (
            {
                "q4": "qs = Mul (q3, quarter); Reshape (qs, split)",
                "k4": "ks = Mul (k3, quarter); Reshape (ks, split)",
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
    ],
)
def test_scales(fused, written, constants, changes, scale):
    held = constants | {"last": np.array(3)}
    attrs = attributes(fused(written(constants=held, **changes)))
    assert attrs == {"num_heads": N} | ({} if scale is None else {"scale": scale})


@pytest.mark.parametrize(
    "changes",
    [
        {"scores": "Add (mask, scaled)"},
        {"scores": "Identity (scaled)"},
        {"p": "Softmax (scores)"},
        {"p": "Softmax <axis = 3> (scores)"},
        {"p": "s = Cast <to = 1> (scores); t = Identity (s); Softmax (t)"},
        {"mixed": "c = Cast <to = 1> (p); i = Identity (c); MatMul (i, v)"},
        {"Y": "Reshape (turned, free)"},
        {"Y": "i = Identity (turned); Reshape (i, merge)"},
        {"k": "t = Transpose <perm = [0, 2, 1, 3]> (k4); Transpose <perm = [0, 1, 3, 2]> (t)"},
        {"k4": "n = Shape (X); b = Slice (n, at0, at2); s = Concat <axis = 0> (b, tail); "
               "Reshape (k3, s)"},
        {"q4": "r = Reshape (q3, rows); Reshape (r, back)"},
        {"Y": "m = Reshape (turned, rows); Reshape (m, whole)"},
        {"Y": "m = Reshape (turned, merge); Relu (m)"},
    ],
)  # fmt: skip
def test_ways_to_write_the_rest(fused, written, constants, changes):
    held = constants | {"tail": np.array([N, D]), "back": np.array([B, S, N, D])}
    held |= {"whole": np.array([B, S, N * D])}
    sized = (
        INPUTS | {"X": f"float[{B},{S},8]"}
        if {"back", "whole"} & words_in(str(changes))
        else INPUTS
    )
    fused(written(inputs=sized, constants=held, **changes))
