"""Weights that share their contents: encoded once, whatever the exporter did to them."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
from onnx_graphsurgeon.ir.tensor import SparseValues

from sardonyx.passes.journal import Skip
from sardonyx.passes.slices import Slice, slice_of
from sardonyx.passes.weights import CARRIERS, WeightUse, WeightView

_SAMPLE = 1024


@dataclass(frozen=True)
class TiedWeight:
    """All uses of one matrix W: of one constant, or of several with equal (turned) contents."""

    uses: tuple[WeightUse, ...]

    @property
    def view(self) -> WeightView:
        """The first use's view; all others show the same matrix."""
        return self.uses[0].view

    @property
    def views(self) -> tuple[WeightView, ...]:
        """One view of each constant that holds the matrix."""
        return tuple({id(use.view.constant): use.view for use in self.uses}.values())

    @property
    def name(self) -> str:
        """Name of the first constant."""
        return str(self.view.constant.name)

    @property
    def size(self) -> int:
        """Weights in the matrix."""
        return int(np.prod(self.view.constant.shape))

    @property
    def slice(self) -> Slice | None:
        """The part of another matrix that this is, if it is one."""
        return slice_of(self.uses[0].node)

    @property
    def nbytes(self) -> int:
        """Bytes of the constants in the file."""
        return sum(_nbytes(view.constant) for view in self.views)

    @property
    def gathered(self) -> bool:
        """Whether an op looks up rows of it: an embedding table."""
        return any(use.node.op == "Gather" for use in self.uses)

    def skip(self, reason: str, eligible: bool) -> Skip:
        """The record of leaving this weight alone."""
        return Skip(self.name, str(self.uses[0].node.name), reason, eligible)

    def other_reader(self, outputs: Iterable[gs.Tensor]) -> str:
        """Who needs the plain constant besides these uses (an op, an output); empty if nobody."""
        ours = {(id(use.node), use.slot) for use in self.uses}
        names = {tensor.name for tensor in outputs}
        pending: list[gs.Tensor] = [view.constant for view in self.views]
        while pending:
            tensor = pending.pop()
            if tensor.name in names:
                return f"the graph's output '{tensor.name}'"
            for reader in tensor.outputs:
                slots = [i for i, read in enumerate(reader.inputs) if read is tensor]
                if all((id(reader), slot) in ours for slot in slots) and slots:
                    continue
                if reader.op not in CARRIERS:
                    return f"{reader.op} '{reader.name}'"
                pending += reader.outputs
        return ""


def _nbytes(constant: gs.Constant) -> int:
    """Bytes in the file; of a sparse constant, those of its values and their places."""
    if isinstance(constant._values, SparseValues):
        stored = constant._values.tensor
        return int(stored.values.ByteSize() + stored.indices.ByteSize())
    return int(np.prod(constant.shape) * np.dtype(constant.dtype).itemsize)


def tied_weights(uses: list[WeightUse]) -> list[TiedWeight]:
    """Group uses by the matrix they see, in the order of their first use."""
    groups: list[list[WeightUse]] = []
    alike: dict[tuple[object, ...], list[list[WeightUse]]] = defaultdict(list)
    for use in uses:
        candidates = alike[_fingerprint(use.view)]
        group = next((g for g in candidates if _same_matrix(g[0].view, use.view)), None)
        if group is None:
            group = []
            groups.append(group)
            candidates.append(group)
        group.append(use)
    return [TiedWeight(tuple(group)) for group in groups]


def _fingerprint(view: WeightView) -> tuple[object, ...]:
    """Equal for equal matrices: shape, dtype and some values."""
    if len(view.constant.shape) != 2:
        return (id(view.constant),)
    k, n = view.shape
    places = np.linspace(0, k * n - 1, min(_SAMPLE, k * n), dtype=np.int64)
    return view.shape, view.dtype, view.sample(places).tobytes()


def _same_matrix(a: WeightView, b: WeightView) -> bool:
    if a.constant is b.constant:
        return a.turned == b.turned and a.dtype == b.dtype
    return len(a.constant.shape) == 2 and np.array_equal(a.matrix(), b.matrix())
