"""Passes that settle are run, each after another's rewrites, until none makes one."""

from dataclasses import dataclass
from typing import ClassVar

import onnx
import pytest

from sardonyx.compiler import Recipe, VerificationError, compile
from sardonyx.passes import Pass
from sardonyx.passes.cleanup.merge_equal import MergeEqual
from sardonyx.passes.cleanup.remove_unused import RemoveUnused


@dataclass(frozen=True)
class Rename(Pass):
    """A node of one name -> the same of another, one a run."""

    old: str
    new: str
    name: ClassVar[str] = "rename"
    settles: ClassVar[bool] = True

    def run(self, graph, journal):
        named = [node for node in graph.nodes if node.name == self.old]
        for node in named[:1]:
            node.name = self.new
        return len(named[:1])


@dataclass(frozen=True)
class RenameOnce(Rename):
    """The same, that does not settle."""

    name: ClassVar[str] = "rename-once"
    settles: ClassVar[bool] = False


@pytest.fixture
def model(text_model):
    made = text_model("g (float[N] X) => (float[N] Y) { a = Neg (X)\n Y = Abs (a) }")
    made.graph.node[0].name = "a"
    return made


def compiled(model, *passes, **settings):
    seen = []
    done = compile(
        model, Recipe("r", "", passes), observe=lambda stage, _: seen.append(stage), **settings
    )
    return done, seen


def test_until_nothing_is_left(model):
    """From last to first: three rounds, and all passes once more after the last rewrite."""
    done, seen = compiled(model, Rename("c", "d"), Rename("b", "c"), Rename("a", "b"))
    assert done.model.graph.node[0].name == "d"
    rewrites = [run.rewrites for run in done.report.passes if run.name == "rename"]
    assert rewrites == [0, 0, 1, 1, 1]
    assert seen.count("rename") == 3 * 3 + 1


def test_others_run_once(model):
    done, seen = compiled(model, RenameOnce("b", "c"), RenameOnce("a", "b"))
    assert done.model.graph.node[0].name == "b"
    assert seen.count("rename-once") == 2


def test_a_pass_between_parts_those_that_settle(model):
    done, _ = compiled(model, Rename("b", "c"), RenameOnce("x", "y"), Rename("a", "b"))
    assert done.model.graph.node[0].name == "b"


def test_passes_that_undo_each_other(model):
    with pytest.raises(
        VerificationError, match="passes undo each other's work without end: rename"
    ):
        compiled(model, Rename("a", "b"), Rename("b", "a"))


def test_one_pass_makes_work_for_another(text_model):
    """What is unused hides nothing; what is merged leaves nothing unused."""
    model = text_model(
        "g (float[N] X) => (float[N] Y) { a = Neg (X)\n b = Neg (X)\n c = Abs (b)\n Y = Abs (a) }"
    )
    done, _ = compiled(model, MergeEqual(), RemoveUnused())
    assert [node.op_type for node in done.model.graph.node] == ["Neg", "Abs"]


def test_alone_on_the_portable_target(text_model):
    """A recipe that is alone leaves fused ops; on another target they become its own."""
    model = text_model(
        "g (float[N,4] X) => (float[N,4] Y) { a = com.microsoft.Gelu (X)\n Y = Identity (a) }"
    )
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    alone = compile(model, Recipe("r", "", (RemoveUnused(),), alone=True))
    assert "Gelu" in [node.op_type for node in alone.model.graph.node]
    assert [run.name for run in alone.report.passes] == ["lift-constants", "remove-unused"]
    assert "unfuse-gelu" in [run.name for run in compiled(model, RemoveUnused())[0].report.passes]
