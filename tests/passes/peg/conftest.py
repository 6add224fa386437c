"""Putting the channels of a model in another order, as a pass does that the driver checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from sardonyx.compiler.check_model import check_valid
from sardonyx.compiler.driver import Driver
from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.compiler.verify import Verification
from sardonyx.passes import Pass
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal
from sardonyx.passes.peg.channels import Stream, stream_of
from sardonyx.passes.peg.reorder import Reorder, cut, orderings
from sardonyx.passes.scopes import all_nodes
from sardonyx.passes.sizes import Sizes

BOUND = 1e-4
"""Relative to the largest output: sums of float32 add up in another order. A mean over channels
that cancel has been seen to differ by 1.8e-5; a channel in a wrong place differs by its size."""

Which = str | Callable[[gs.Graph], list[gs.Tensor]]
"""Tensors of a graph: their names, or how they are found."""


def tensors(which: Which, graph: gs.Graph) -> list[gs.Tensor]:
    """The tensors, wherever they are."""
    if not isinstance(which, str):
        return which(graph)
    read = [t for node in all_nodes(graph) for t in (*node.inputs, *node.outputs)]
    held = {tensor.name: tensor for tensor in read}
    return [held[name] for name in which.split()]


@dataclass(frozen=True)
class Shuffle(Pass):
    """Put the stream of each of some tensors in an order of its own, drawn from a seed; first cut
    behind others."""

    starts: Which
    cuts: Which = ""
    seed: int = 0

    name: ClassVar[str] = "shuffle"
    bound: ClassVar[float] = BOUND

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Always the same rewrite."""
        cut(graph, tensors(self.cuts, graph), Sizes(graph), self.name)
        streams, sizes = list[Stream](), Sizes(graph)
        for tensor in tensors(self.starts, graph):
            if not any(stream.holds(tensor) for stream in streams):
                streams.append(stream_of(graph, tensor, sizes))
        reorder, generator = Reorder(graph, self.name), np.random.default_rng(self.seed)
        for stream in streams:
            reorder.permute(stream, generator.permutation(stream.width))
        assert reorder.apply() == orderings(graph)
        object.__setattr__(self, "streams", streams)
        return 1


@dataclass(frozen=True)
class Shuffled:
    """A model in another order. ``gathers``: those that do nothing but order channels."""

    model: onnx.ModelProto
    streams: list[Stream]
    gathers: list[onnx.NodeProto]

    @property
    def wiring(self) -> list[str]:
        """The nodes, a line each: what they make, the op, what they read."""
        return [
            f"{', '.join(node.output)} = {node.op_type} ({', '.join(node.input)})"
            for node in self.model.graph.node
        ]

    @property
    def constants(self) -> dict[str, np.ndarray]:
        """The initializers."""
        return {t.name: onnx.numpy_helper.to_array(t) for t in self.model.graph.initializer}

    @property
    def why(self) -> list[str]:
        """Why the streams end where they do."""
        return [reason for stream in self.streams for _, reason in stream.exits]


@pytest.fixture(scope="session")
def shuffled(run_ort: Callable[..., list[np.ndarray]]) -> Callable[..., Shuffled]:
    """Put streams in order in the driver, which checks every region; outputs are as before."""

    def run(
        model: Any,
        feeds: dict[str, np.ndarray],
        starts: Which,
        cuts: Which = "",
        seed: int = 0,
        bound: float = BOUND,
    ) -> Shuffled:
        a_pass = Shuffle(starts, cuts, seed)
        source, graph = load(model)
        driver = Driver(source, graph, Journal(), Verification("full"))
        for each in (LiftConstants(), a_pass):
            driver.run(each)
        assert driver.verification.unchecked == []
        made = emit(source, graph)
        check_valid(made, "what the pass made")
        for want, have in zip(run_ort(model, feeds), run_ort(made, feeds), strict=True):
            assert (want.shape, want.dtype) == (have.shape, have.dtype)
            assert np.abs(want - have).max(initial=0) <= bound * np.abs(want).max(initial=0)
        nodes = [node for node in made.graph.node if node.op_type == "Gather"]
        noted = [n for n in nodes if any(p.key == "sardonyx.channels" for p in n.metadata_props)]
        return Shuffled(made, a_pass.streams, noted)

    return run
