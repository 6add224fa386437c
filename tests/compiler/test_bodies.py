"""Bodies of If, Loop and Scan from end to end: checked like the graph around them, and run."""

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import numpy_helper

from sardonyx.compiler import Recipe, VerificationError, compile
from sardonyx.passes import Pass
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.scopes import all_nodes, scopes

BRANCHES = """g (float[N,64] X, bool c) => (float[N,96] Y) {
  H = Relu (X)
  Y = If (c) <
    then_branch = t () => (float[N,96] A) {
      P = Mul (H, half)
      Q = MatMul (P, W)
      A = Add (Q, bias)
    },
    else_branch = e () => (float[N,96] B) {
      B = If (c) <
        then_branch = tt () => (float[N,96] C) { C = MatMul (H, W) },
        else_branch = te () => (float[N,96] D) { R = MatMul (H, W)
                                                 D = Sub (R, bias) }>
    }>
}"""
LOOP = """g (float[N,64] X, bool c) => (float[N,64] Y) {
  Y = Loop <body = b (int64 i, bool going, float[N,64] x) => (bool on, float[N,64] y) {
    on = Identity (going)
    p = Mul (x, half)
    z = MatMul (p, V)
    y = Add (z, shift)
  }> (three, c, X)
}"""


@pytest.fixture(scope="module")
def models(text_model, normal):
    constants = {"half": np.float32(0.5)}
    made = {
        "If": text_model(BRANCHES, W=normal(64, 96), bias=normal(96), **constants),
        "Loop": text_model(
            LOOP, V=normal(64, 64), shift=normal(64), three=np.array(3), **constants
        ),
    }
    for model in made.values():
        for graph in _graphs(model.graph):
            for node in graph.node:
                node.name = f"{node.op_type} in {graph.name}"
    return made


def _graphs(graph):
    yield graph
    for inner in (a.g for node in graph.node for a in node.attribute if a.HasField("g")):
        yield from _graphs(inner)


@dataclass(frozen=True)
class Wrong(Pass):
    """Harms the node of a name."""

    node: str = ""

    name: ClassVar[str] = "wrong"

    def run(self, graph, journal):
        scope = next(s for s in scopes(graph) if self._among(s.nodes))
        self.harm(scope, self._among(scope.nodes)[0])
        return 1

    def _among(self, nodes):
        return [node for node in nodes if node.name == self.node]

    def harm(self, scope, node):
        raise NotImplementedError


class ChangesTheConstant(Wrong):
    """Gives the node another constant."""

    def harm(self, scope, node):
        values = np.array(node.inputs[1].values * np.float32(1.01))
        node.inputs[1] = gs.Constant("other", values)


class SwapsInputs(Wrong):
    """Subtracts the other way round."""

    def harm(self, scope, node):
        swapped = list(node.inputs)[::-1]
        node.inputs.clear()
        node.inputs.extend(swapped)


class ChangesTheOp(Wrong):
    """Divides instead of multiplying."""

    def harm(self, scope, node):
        node.op = "Div"


class DropsTheNode(Wrong):
    """Loses a node that another reads."""

    def harm(self, scope, node):
        scope.nodes.remove(node)


WRONG = [
    ("If", ChangesTheConstant, "Mul in t", "P"),
    ("If", ChangesTheConstant, "Add in t", "A"),
    ("If", ChangesTheConstant, "MatMul in tt", "C"),
    ("If", SwapsInputs, "Sub in te", "D"),
    ("If", ChangesTheOp, "Mul in t", "P"),
    ("Loop", ChangesTheConstant, "Mul in b", "p"),
    ("Loop", ChangesTheConstant, "Add in b", "y"),
    ("Loop", ChangesTheOp, "Mul in b", "p"),
]


@pytest.mark.parametrize(("model", "wrong", "node", "tensor"), WRONG)
@pytest.mark.parametrize("verify", ["default", "full"])
def test_a_change_of_meaning_is_caught(models, model, wrong, node, tensor, verify):
    a_pass = wrong(node=node)
    with pytest.raises(VerificationError) as caught:
        compile(models[model], Recipe("wrong", "", (a_pass,)), verify=verify)
    assert re.match(rf"pass wrong is wrong: \w+ '{node}' changes '{tensor}' by ", str(caught.value))
    compile(models[model], Recipe("wrong", "", (a_pass,)), verify="off")


@pytest.mark.parametrize(
    ("model", "node", "tensor"), [("If", "MatMul in te", "R"), ("Loop", "MatMul in b", "z")]
)
def test_a_lost_node_is_caught(models, model, node, tensor):
    with pytest.raises(VerificationError) as caught:
        compile(models[model], Recipe("wrong", "", (DropsTheNode(node=node),)))
    assert f"at MatMul '{node}' it lost the tensor '{tensor}'" in str(caught.value)


@dataclass(frozen=True)
class Swaps(Gobo):
    """gobo, with an op of one body reading the arrays of another body's."""

    name: ClassVar[str] = "swaps"

    def run(self, graph, journal):
        done = super().run(graph, journal)
        one, other = (node for node in all_nodes(graph) if node.op.startswith("GoboMatMul"))
        for place in range(1, 5):
            mine, its = one.inputs[place], other.inputs[place]
            one.inputs[place], other.inputs[place] = its, mine
        return done


@pytest.fixture
def own(text_model, normal):
    """Each branch has a weight of its own, of the same name."""
    made = text_model(
        """g (float[N,64] X, bool c) => (float[N,96] Y) {
             Y = If (c) <
               then_branch = t () => (float[N,96] A) { A = MatMul (X, W) },
               else_branch = e () => (float[N,96] B) { B = MatMul (X, W) }>
           }"""
    )
    for seed, inner in enumerate(list(_graphs(made.graph))[1:]):
        inner.initializer.append(numpy_helper.from_array(normal(64, 96, seed=seed), "W"))
    return made


def test_weights_in_each_others_body(own):
    with pytest.raises(VerificationError, match=r"pass swaps is wrong: GoboMatMul3 '[AB]?' chang"):
        compile(own, Recipe("swaps", "", (Swaps(),)))


def test_a_corrupted_weight_of_a_body(own):
    @dataclass(frozen=True)
    class Corrupt(Gobo):
        name: ClassVar[str] = "corrupt"

        def run(self, graph, journal):
            done = super().run(graph, journal)
            journal.encoded[-1].tensor.centroids[:] += 1
            return done

    with pytest.raises(VerificationError, match="the encoded weight 'W' has a"):
        compile(own, Recipe("corrupt", "", (Corrupt(),)))


@pytest.mark.parametrize(("model", "products"), [("If", 3), ("Loop", 1)])
def test_every_changed_place_is_checked(models, model, products):
    report = compile(models[model], "gobo", verify="full").report
    checked = report.verification
    assert (checked.regions, checked.regions_run) == (products, products)
    assert (checked.tensors_decoded, checked.unchecked) == (1, [])
    assert (checked.largest_difference, checked.model_difference) == (0, 0)
    assert report.totals.weights_quantized == report.totals.weights


def test_full_of_weights_of_one_name(own):
    checked = compile(own, "gobo", verify="full").report.verification
    assert (checked.regions_run, checked.tensors_decoded, checked.model_difference) == (2, 2, 0)


@pytest.mark.parametrize("apart", [False, True], ids=["one file", "external data"])
@pytest.mark.parametrize("model", ["If", "Loop"])
def test_from_file_to_file(models, model, apart, tmp_path, run_ort, normal):
    source, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    copy = onnx.ModelProto()
    copy.CopyFrom(models[model])
    onnx.save(copy, source, save_as_external_data=apart, size_threshold=0)
    compile(source, "gobo4").save(out)
    onnx.checker.check_model(out, full_check=True)
    for chosen in (True, False):
        feeds = {"X": normal(3, 64) * np.float32(25), "c": np.array(chosen)}
        (want,), (have,) = run_ort(source, feeds), run_ort(out, feeds, optimize=True)
        assert np.linalg.norm(want - have) < 0.2 * np.linalg.norm(want)  # 4 bits: about 0.1


def test_only_what_bodies_read_stays(models):
    """A node whose only readers are in bodies survives remove-unused."""
    model = models["If"]
    done = compile(model, Recipe("tidy", "", (RemoveUnused(),)))
    kept = [[node.name for node in graph.node] for graph in _graphs(done.model.graph)]
    assert kept == [[node.name for node in graph.node] for graph in _graphs(model.graph)]
    constants = [sorted(t.name for t in m.graph.initializer) for m in (done.model, model)]
    assert constants[0] == constants[1]
    assert done.report.passes[-1].nodes_before == 9


def test_a_name_that_bodies_use_for_different_things(text_model, normal):
    """Nothing is known of its type: what a weight tells is enough."""
    made = text_model(
        """g (float[N,64] X, float[N,48] U, bool c) => (float[N,96] Y) {
             Y = If (c) <
               then_branch = t () => (float[N,96] A) { P = Neg (X)
                                                       A = MatMul (P, W) },
               else_branch = e () => (float[N,96] B) { P = Neg (U)
                                                       B = MatMul (P, V) }>
           }""",
        W=normal(64, 96),
        V=normal(48, 96, seed=1),
    )
    checked = compile(made, "gobo", verify="full").report.verification
    assert (checked.regions, checked.regions_run, checked.unchecked) == (2, 2, [])
