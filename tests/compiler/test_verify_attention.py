"""A pass that fuses attention wrongly is caught; what it reads is made up so that it fits."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from sardonyx.compiler import Recipe, VerificationError, compile
from sardonyx.compiler.cut import feeds_for
from sardonyx.passes import Pass
from sardonyx.passes.fuse.attention import FuseAttention

TEXT = """
g (float[batch,length,8] X, float[batch,1,1,length] mask) => (float[batch,length,8] Y) {
  q3 = MatMul (X, Wq)
  k3 = MatMul (X, Wk)
  v3 = MatMul (X, Wv)
  q4 = Reshape (q3, split)
  k4 = Reshape (k3, split)
  v4 = Reshape (v3, split)
  q = Transpose <perm = [0, 2, 1, 3]> (q4)
  k = Transpose <perm = [0, 2, 3, 1]> (k4)
  v = Transpose <perm = [0, 2, 1, 3]> (v4)
  raw = MatMul (q, k)
  scaled = Mul (raw, scale)
  scores = Add (scaled, mask)
  p = Softmax <axis = -1> (scores)
  mixed = MatMul (p, v)
  turned = Transpose <perm = [0, 2, 1, 3]> (mixed)
  flat = Reshape (turned, merge)
  Y = Relu (flat)
}
"""


@pytest.fixture
def model(text_model, normal):
    weights = {f"W{name}": normal(8, 8, seed=i) * 20 for i, name in enumerate("qkv")}
    shapes = {"split": np.array([0, 0, 2, 4]), "merge": np.array([0, 0, 8])}
    return text_model(TEXT, scale=np.float32(0.3), **weights, **shapes)


def swap(first, second):
    def harm(node):
        one, other = node.inputs[first], node.inputs[second]
        node.inputs[first], node.inputs[second] = other, one

    return harm


def forget_the_bias(node):
    node.inputs = list(node.inputs)[:3]


HARMS = {
    "swap queries and keys": swap(0, 1),
    "swap keys and values": swap(1, 2),
    "forget the scale": lambda node: node.attrs.pop("scale"),
    "forget the bias": forget_the_bias,
    "look back only": lambda node: node.attrs.update(unidirectional=1),
    "count other heads": lambda node: node.attrs.update(num_heads=4),
    "count heads that do not fit": lambda node: node.attrs.update(num_heads=3),
}


@dataclass(frozen=True)
class Wrong(FuseAttention):
    """fuse-attention, and then one thing is put wrong."""

    harm: str = ""

    name: ClassVar[str] = "wrong"

    def run(self, graph, journal):
        done = super().run(graph, journal)
        node = next(n for n in graph.nodes if n.op == "MultiHeadAttention")
        HARMS[self.harm](node)
        return done


def test_what_is_right_is_run_and_not_refused(model):
    checked = compile(model, Recipe("right", "", (FuseAttention(),))).report.verification
    assert (checked.regions, checked.regions_run, checked.unchecked) == (1, 1, [])
    assert checked.largest_difference < FuseAttention.bound


@pytest.mark.parametrize("harm", HARMS)
def test_what_is_wrong_is_caught(model, harm):
    with pytest.raises(VerificationError) as caught:
        compile(model, Recipe("wrong", "", (Wrong(harm=harm),)))
    node = "MultiHeadAttention 'p/Attend'" if harm == "forget the bias" else "Shape 'p/Queries'"
    assert str(caught.value).startswith(f"pass wrong is wrong: {node} ")


@dataclass(frozen=True)
class Rewrite(Pass):
    """Nodes of one op become such of another."""

    old: str = ""
    new: str = ""

    name: ClassVar[str] = "rewrite"

    def run(self, graph, journal):
        found = [node for node in graph.nodes if node.op == self.old]
        for node in found:
            node.op = self.new
        return len(found)


@dataclass(frozen=True)
class Touch(Pass):
    """Each node of an op is made anew: a region that is right."""

    op: str = ""

    name: ClassVar[str] = "touch"

    def run(self, graph, journal):
        places = [place for place, node in enumerate(graph.nodes) if node.op == self.op]
        for place in places:
            old = graph.nodes[place]
            inputs, outputs = list(old.inputs), list(old.outputs)
            old.inputs.clear()
            old.outputs.clear()
            graph.nodes[place] = gs.Node(self.op, old.name, dict(old.attrs), inputs, outputs)
        return len(places)


DEPENDENT = {
    "a shape computed from another input": """g (float[a,b] X, float[c] Z) => (float[?] Y) {
        n = Shape (Z)
        two = Concat <axis = 0> (n, one)
        big = Mul (two, two)
        Y = Expand (Z, n)
    }""",
    "sizes that agree": """g (float[a,b,6] X) => (float[?,?,6] Y) {
        M = MatMul (X, W)
        n = Shape (X)
        N = Reshape (M, n)
        E = Expand (N, n)
        Y = Relu (E)
    }""",
    "a cut to the length of another": """g (float[a,b] X, float[a,c] Z) => (float[?,?] Y) {
        z = Shape <start = 1> (Z)
        both = Concat <axis = 1> (X, Z)
        C = Slice (both, zero, z, at1)
        Y = Expand (C, ones)
    }""",
    "a value between": """g (float[a,b] X) => (float[?,?] Y) {
        s = ReduceSum <keepdims = 1> (X, at1)
        big = Abs (s)
        more = Add (big, one1)
        shares = Div (X, more)
        Y = Expand (shares, ones)
    }""",
}


@pytest.mark.parametrize("case", DEPENDENT)
@pytest.mark.parametrize("op", ["Expand", "Slice", "Div", "Reshape", "MatMul"])
def test_regions_of_inputs_that_depend_on_each_other(text_model, case, op):
    model = text_model(
        DEPENDENT[case],
        one=np.array([1]),
        zero=np.array([0]),
        at1=np.array([1]),
        ones=np.array([1, 1]),
        one1=np.float32(1),
        W=np.eye(6, dtype=np.float32),
    )
    result = compile(model, Recipe("touch", "", (Touch(op),))).report.verification
    assert result.unchecked == []
    assert result.regions_run == result.regions == (f" {op} " in DEPENDENT[case])


def test_a_shape_that_is_read_is_the_one_of_its_tensor(text_model):
    # [5, 3] made up for n would be no shape of M
    model = text_model(DEPENDENT["sizes that agree"], W=np.eye(6, dtype=np.float32))
    result = compile(model, Recipe("touch", "", (Touch("Reshape"),))).report.verification
    assert (result.regions_run, result.unchecked) == (1, [])


def test_nodes_between_hold_bodies_that_read_more(text_model):
    text = """g (float[a] X, float[a] Z, bool c) => (float[a] Y) {
      A = Abs (X)
      B = If (c) <then_branch = t () => (float[a] P) { P = Add (A, Z) },
                  else_branch = e () => (float[a] P) { P = Sub (A, Z) }>
      C = Mul (A, B)
      Y = Max (A, B, C, X)
    }"""
    result = compile(text_model(text), Recipe("touch", "", (Touch("Max"),))).report.verification
    assert (result.regions_run, result.unchecked) == (1, [])


@dataclass(frozen=True)
class MaxToAbs(Pass):
    """``Max(x, -x)``  ->  ``Abs(x)``: right because the one depends on the other."""

    name: ClassVar[str] = "max-to-abs"

    def run(self, graph, journal):
        (node,) = (node for node in graph.nodes if node.op == "Max")
        node.op = "Abs"
        node.inputs = [node.inputs[0]]
        return 1


def test_a_rewrite_that_holds_only_as_inputs_depend_on_each_other(text_model):
    text = """g (float[a,b] X) => (float[a,b] Y, float[a,b] L) {
      N = Neg (X)
      L = Identity (N)
      Y = Max (X, L)
    }"""
    result = compile(text_model(text), Recipe("right", "", (MaxToAbs(),))).report.verification
    assert (result.regions_run, result.largest_difference) == (1, 0)


def test_a_wrong_node_is_caught_where_its_inputs_depend_on_each_other(text_model):
    text = """g (float[a,b] X) => (float[a,b] Y) {
      low = Neg (X)
      Y = Max (X, low)
    }"""
    with pytest.raises(VerificationError, match="pass rewrite is wrong: Min 'Y' changes 'Y'"):
        compile(text_model(text), Recipe("wrong", "", (Rewrite("Max", "Min"),)))


def test_truths_hold_both_in_every_row():
    info = onnx.helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, ["a", "b", 6])
    for numbers in ((2, 3, 5), (4,), (1, 2)):
        (made,) = feeds_for([info], [], numbers).values()
        assert made.dtype == np.bool_
        assert made[..., 0].all()
        assert not made[..., -1].any()


def test_sizes_of_made_up_inputs():
    infos = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["a", 0, "b"]),
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["b", "a + b", "2*a"]),
        onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["b*(a + 1)"]),
    ]
    made = feeds_for(infos, [], (2, 3))
    assert [array.shape for array in made.values()] == [(2, 0, 3), (3, 5, 4), (9,)]
