"""A wrong pass is caught: the driver names it and the node, and saves what shows the fault."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from sardonyx.compiler import InputError, Recipe, VerificationError, compile
from sardonyx.compiler.verify import bound_for, relative_difference
from sardonyx.passes import Pass
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.facts import Fact
from sardonyx.passes.gobo.encode import Gobo

TEXT = """
g (float[N,64] X) => (float[N,96] Y) {
  N = Mul (X, scale)
  A = Sub (X, N)
  Z = MatMul (A, W)
  Y = Add (Z, B)
}
"""


@pytest.fixture
def model(text_model, normal):
    made = text_model(TEXT, W=normal(64, 96), B=normal(96), scale=np.float32(0.5))
    for node in made.graph.node:
        node.name = f"the {node.op_type}"
    return made


def find(graph, op):
    return next(node for node in graph.nodes if node.op == op)


@dataclass(frozen=True)
class Wrong(Pass):
    """A pass that does nothing yet."""

    name: ClassVar[str] = "wrong"

    def run(self, graph, journal):
        self.harm(graph)
        return 1

    def harm(self, graph):
        raise NotImplementedError


class ChangesAConstant(Wrong):
    """Gives a constant another value in its place."""

    def harm(self, graph):
        constant = find(graph, "Mul").inputs[1]
        constant.values = np.array(constant.values * np.float32(1.01))


class ReplacesAConstant(Wrong):
    """Puts another constant in the place of one."""

    def harm(self, graph):
        node = find(graph, "Mul")
        node.inputs[1] = gs.Constant("other", np.array(0.25, np.float32))


class SwapsInputs(Wrong):
    """Subtracts the other way round."""

    def harm(self, graph):
        node = find(graph, "Sub")
        swapped = list(node.inputs)[::-1]
        node.inputs.clear()
        node.inputs.extend(swapped)


class ChangesAnOp(Wrong):
    """Divides instead of multiplying."""

    def harm(self, graph):
        find(graph, "Mul").op = "Div"


class ChangesAnAttribute(Wrong):
    """Gives a node what it does not take."""

    def harm(self, graph):
        find(graph, "Mul").attrs["axis"] = 1


class DropsANode(Wrong):
    """Loses a node that another reads."""

    def harm(self, graph):
        graph.nodes.remove(find(graph, "Sub"))


class ChangesTheShape(Wrong):
    """Adds an axis."""

    def harm(self, graph):
        node = find(graph, "Mul")
        node.inputs[1] = gs.Constant("other", np.full((1, 1, 1), 0.5, np.float32))


class MakesNaN(Wrong):
    """Multiplies by NaN."""

    def harm(self, graph):
        find(graph, "Mul").inputs[1] = gs.Constant("other", np.array(np.nan, np.float32))


def failure(model, a_pass, verify="default"):
    with pytest.raises(VerificationError) as caught:
        compile(model, Recipe("wrong", "", (a_pass,)), verify=verify)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reproduce(folder):
    script = [sys.executable, str(folder / "reproduce.py")]
    return subprocess.run(script, capture_output=True, text=True, check=False)


CHANGES = {
    ChangesAConstant: ("Mul 'the Mul'", "N"),
    ReplacesAConstant: ("Mul 'the Mul'", "N"),
    SwapsInputs: ("Sub 'the Sub'", "A"),
    ChangesAnOp: ("Div 'the Mul'", "N"),
    ChangesTheShape: ("Mul 'the Mul'", "N"),
    MakesNaN: ("Mul 'the Mul'", "N"),
}


@pytest.mark.parametrize("wrong", CHANGES)
def test_a_change_of_meaning(model, wrong):
    node, tensor = CHANGES[wrong]
    text = failure(model, wrong())
    assert text.startswith(f"pass wrong is wrong: {node} changes '{tensor}' by ")
    folder = Path(re.search("before, after and inputs are in '(.*)'", text)[1])
    assert {path.name for path in folder.iterdir()} == {
        "before.onnx",
        "after.onnx",
        "inputs.npz",
        "reproduce.py",
    }
    compile(model, Recipe("wrong", "", (wrong(),)), verify="off")


@pytest.mark.parametrize("wrong", [ChangesAConstant, ChangesTheShape, MakesNaN])
def test_the_saved_folder_reproduces(model, wrong):
    folder = Path(re.search("are in '(.*)'", failure(model, wrong()))[1])
    assert reproduce(folder).returncode == 1
    shutil.copy(folder / "before.onnx", folder / "after.onnx")
    fixed = reproduce(folder)
    assert (fixed.returncode, fixed.stderr) == (0, "")


def test_a_node_that_fails_to_run(model):
    text = failure(model, ChangesAnAttribute())
    assert text.startswith("pass wrong is wrong: Mul 'the Mul' fails: [ONNXRuntimeError]")


def test_a_lost_node(model):
    assert failure(model, DropsANode()) == (
        "pass wrong is wrong: at Sub 'the Sub' it lost the tensor 'A', which the rest of the graph "
        "reads"
    )


def test_a_pass_that_raises(model):
    class Raises(Wrong):
        def harm(self, graph):
            raise KeyError("the Mul")

    text = failure(model, Raises())
    assert text.startswith("pass wrong failed, after lift-constants, unfuse-attention, ")
    assert text.endswith(", unfuse-gelu: KeyError: 'the Mul'")


def test_a_pass_that_writes_into_stored_values(model):
    class Writes(Wrong):
        def harm(self, graph):
            find(graph, "MatMul").inputs[1].values[0, 0] = 1

    assert failure(model, Writes()).endswith("ValueError: assignment destination is read-only")


NO_SUB = Fact("no Sub is left", lambda graph: all(node.op != "Sub" for node in graph.nodes))


def test_a_fact_that_does_not_hold(model):
    class Promises(Wrong):
        establishes: ClassVar = (NO_SUB,)

        def harm(self, graph):
            pass

    class Requires(Promises):
        requires: ClassVar = (NO_SUB,)

    end = "that no Sub is left, which does not hold"
    assert failure(model, Promises()) == f"pass wrong promises {end}"
    assert failure(model, Requires()) == f"pass wrong requires {end}"
    assert failure(model, Promises(), verify="off") == f"pass wrong promises {end}"


@dataclass(frozen=True)
class Corrupt(Gobo):
    """gobo, and then one of the arrays of its last weight is changed in place."""

    array: str = "indices"

    name: ClassVar[str] = "corrupt"

    def run(self, graph, journal):
        done = super().run(graph, journal)
        flat = getattr(journal.encoded[-1].tensor, self.array).reshape(-1)
        flat[:1] = flat[:1] + np.array(1, flat.dtype)
        return done


@pytest.mark.parametrize("array", ["indices", "centroids", "positions", "values"])
def test_a_corrupted_encoded_weight(model, array):
    a_pass = Corrupt(array=array, outliers="share", threshold=0.01)
    text = failure(model, a_pass)
    start = "pass corrupt is wrong: at MatMul 'the MatMul' the encoded weight 'W' has a"
    assert text.startswith(start)
    recipe = Recipe("corrupt", "", (a_pass, RemoveUnused()))
    assert compile(model, recipe, verify="off").report.verification.tensors_decoded == 0


@dataclass(frozen=True)
class SwapsWeights(Gobo):
    """gobo, with an op reading the arrays of another than its own weight."""

    name: ClassVar[str] = "swaps-weights"

    def run(self, graph, journal):
        done = super().run(graph, journal)
        one, other = (node for node in graph.nodes if node.op.startswith("GoboMatMul"))
        for place in range(1, 5):
            mine, its = one.inputs[place], other.inputs[place]
            one.inputs[place], other.inputs[place] = its, mine
        return done


def test_encoded_weights_in_each_others_place(text_model, normal):
    model = text_model(
        "g (float[N,64] X) => (float[N,64] Y) "
        "{ Z = MatMul (X, V)\n R = Relu (Z)\n Y = MatMul (R, W) }",
        V=normal(64, 64),
        W=normal(64, 64, seed=1),
    )
    assert "pass swaps-weights is wrong: GoboMatMul3 'Z'" in failure(model, SwapsWeights())


@dataclass(frozen=True)
class DropsTheBias(Pass):
    """``Add(Z, B)``  ->  ``Identity(Z)``: right as to shapes, wrong as to values."""

    name: ClassVar[str] = "drops-the-bias"

    def run(self, graph, journal):
        node = find(graph, "Add")
        node.op = "Identity"
        del node.inputs[1]
        return 1


@pytest.fixture
def opaque(text_model, normal):
    """A model in which nothing is known of what the Add reads."""
    made = text_model(
        "g (float[N,64] X) => (float[N,64] Y) { Z = my.Twice (X)\n Y = Add (Z, B) }",
        B=normal(64),
    )
    made.opset_import.append(onnx.helper.make_opsetid("my", 1))
    made.functions.append(
        onnx.parser.parse_function(
            '<domain: "my", opset_import: ["": 17]> Twice (x) => (y) { y = Add (x, x) }'
        )
    )
    made.graph.node[1].name = "the Add"
    return made


def test_full_catches_what_no_region_shows(opaque, monkeypatch):
    monkeypatch.setattr("onnx.shape_inference.infer_shapes", lambda model, *flags: model)
    recipe = Recipe("wrong", "", (DropsTheBias(),))
    checked = compile(opaque, recipe).report.verification
    assert (checked.regions, checked.regions_run) == (1, 0)
    assert checked.unchecked == ["Identity 'the Add': the type of its input 'Z' is not known"]
    text = failure(opaque, DropsTheBias(), verify="full")
    assert text.startswith("the rewritten model differs at output 'Y' by ")


def test_full_says_how_far_the_models_are_apart(bert):
    full = compile(bert, "gobo", verify="full").report.verification
    assert full.model_difference is not None
    assert 0 <= full.model_difference < 1e-6
    assert full.regions == full.regions_run > 10
    assert full.tensors_decoded == 14
    assert full.largest_difference == 0
    assert compile(bert, "gobo").report.verification.model_difference is None


def test_full_with_inputs_of_the_user(bert_file, tmp_path):
    names = [value.name for value in onnx.load(bert_file).graph.input]
    ids = np.random.default_rng(0).integers(0, 2, (4, 9))
    np.savez(tmp_path / "in.npz", **dict.fromkeys(names, ids))
    done = compile(bert_file, "gobo", calibration=tmp_path / "in.npz", verify="full")
    assert done.report.verification.model_difference < 1e-6
    np.savez(tmp_path / "in.npz", other=ids)
    with pytest.raises(InputError, match="has no array 'input_ids'"):
        compile(bert_file, "gobo", calibration=tmp_path / "in.npz", verify="full")


def test_full_of_a_model_that_onnxruntime_does_not_know(text_model, normal):
    model = text_model(
        "g (float[N,64] X) => (float[N,96] Y) { Z = MatMul (X, W)\n Y = my.Op (Z) }",
        W=normal(64, 96),
    )
    model.opset_import.append(onnx.helper.make_opsetid("my", 1))
    assert compile(model, "gobo").report.totals.weights_quantized == 64 * 96
    with pytest.raises(InputError, match=r"cannot run .* in onnxruntime: .* my:Op"):
        compile(model, "gobo", verify="full")


def test_of_large_regions_one_of_each_kind_is_run(text_model, normal):
    text = "\n".join(f"Z{i} = MatMul (X{i}, W{i})\n X{i + 1} = Relu (Z{i})" for i in range(4))
    weights = {f"W{i}": normal(520, 520, seed=i) for i in range(4)}
    model = text_model(f"g (float[N,520] X0) => (float[N,520] X4) {{ {text} }}", **weights)
    checked = compile(model, "gobo").report.verification
    assert (checked.regions, checked.regions_run, checked.tensors_decoded) == (4, 1, 4)
    full = compile(model, "gobo", verify="full").report.verification
    assert (full.regions, full.regions_run) == (4, 4)


@pytest.mark.parametrize(
    ("dtype", "bound", "allowed"),
    [
        (np.float32, 1e-5, 1e-5),
        (np.float64, 1e-5, 1e-5),
        (np.float16, 1e-5, 8 * 2**-10),
        (np.float16, 0.1, 0.1),
        (np.float16, 0.0, 0.0),
        (np.int64, 1e-5, 1e-5),
    ],
)
def test_what_a_bound_means_for_a_type(dtype, bound, allowed):
    assert bound_for(np.dtype(dtype), bound) == allowed


def test_a_bound_is_kept(model):
    @dataclass(frozen=True)
    class Lossy(Wrong):
        bound: ClassVar[float] = 0.011

        def harm(self, graph):
            find(graph, "Mul").inputs[1] = gs.Constant("other", np.array(0.505, np.float32))

    done = compile(model, Recipe("lossy", "", (Lossy(),)))
    assert 0.009 < done.report.verification.largest_difference < 0.011
    exact = replace(Lossy())
    object.__setattr__(exact, "bound", 0.009)
    assert "above 0.009" in failure(model, exact)


@pytest.mark.parametrize(
    ("want", "have", "difference"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0),
        ([1.0, -4.0], [1.5, -4.0], 0.125),
        ([np.nan, 1], [np.nan, 1], 0),
        ([np.nan, 2], [np.nan, 1], 0.5),
        ([np.nan, 1], [1, np.nan], np.inf),
        ([np.inf, 1], [-np.inf, 1], np.inf),
        ([0.0], [1.0], np.inf),
        ([], [], 0),
        ([[1.0]], [1.0], np.inf),
    ],
)
def test_relative_difference(want, have, difference):
    found = relative_difference(np.array(want, np.float32), np.array(have, np.float32))
    assert found == difference or (found > 1e30 and difference == np.inf)
    assert relative_difference(np.array([1]), np.array([2])) == np.inf
    assert relative_difference(np.array([1]), np.array([1.0])) == np.inf
