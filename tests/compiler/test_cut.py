"""What of a graph is cut out with what a pass changed."""

import numpy as np

from sardonyx.compiler import compile
from sardonyx.compiler.recipe import Recipe
from sardonyx.passes.cleanup.fold_shapes import FoldShapes
from sardonyx.passes.cleanup.merge_equal import MergeEqual
from sardonyx.passes.cleanup.merge_movements import MergeMovements
from sardonyx.passes.cleanup.remove_no_ops import RemoveNoOps


def test_what_lies_between_two_nodes_of_a_region_comes_along(text_model):
    """The Range that stays reads a size that the region makes, and the region reads the Range."""
    model = text_model(
        """g (float[B,S] X) => (int64[S] Y, int64[S] Z) {
             a = Shape (X)
             s = Shape (X)
             n = Gather (s, one)
             r = Range (zero, n, one)
             Y = Abs (r)
             m = Gather (a, one)
             q = Range (zero, m, one)
             Z = Neg (q)
           }""",
        one=np.array(1),
        zero=np.array(0),
    )
    done = compile(model, Recipe("r", "", (MergeEqual(),), alone=True)).report.verification
    assert done.regions_run == done.regions > 0


def test_what_bodies_read_comes_along(text_model):
    """The If changed, and what its body reads lies in a region too."""
    model = text_model(
        """g (float[1] X) => (float[1] Y) {
             a = Neg (X)
             b = Identity (a)
             p = Abs (b)
             k = Cast <to = 9> (p)
             c = Identity (k)
             Y = If (c) <
               then_branch = t () => (float[1] r1) { r1 = Neg (p) },
               else_branch = e () => (float[1] r2) { r2 = Add (p, X) }>
           }"""
    )
    done = compile(model, Recipe("r", "", (RemoveNoOps(),), alone=True)).report.verification
    assert done.regions_run == done.regions == 2


def test_what_a_region_reads_of_others_is_not_made_up_apart(text_model, run_ort):
    """Sizes of 5 alone run: the regions are checked one by one, and what the second reads before,
    w, and after, X, hang together by what the first makes."""
    model = text_model(
        """g (float[B,S,6] X) => (float[?,?,?] Y, float[?,?,?,?] Z) {
             s = Shape (X)
             b = Gather (s, first)
             t = Concat <axis = 0> (b, rest)
             u = Unsqueeze (X, last)
             v = Reshape (u, t)
             w = Unsqueeze (v, first)
             r = Reshape (w, target)
             Y = Neg (r)
             Z = Neg (w)
           }""",
        first=np.array([0]),
        rest=np.array([5, -1]),
        last=np.array([-1]),
        target=np.array([-1, 5, 6]),
    )
    passes = (FoldShapes(), MergeMovements())
    done = compile(model, Recipe("r", "", passes, alone=True))
    x = np.arange(60, dtype=np.float32).reshape(2, 5, 6)
    assert np.array_equal(run_ort(done.model, {"X": x})[0], -x)
