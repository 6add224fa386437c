"""What passes say while they run: the one record behind the report, the table and the checks."""

from collections.abc import Callable
from dataclasses import dataclass, field

import onnx_graphsurgeon as gs

from sardonyx.passes.origin import label
from sardonyx.passes.quantize.observers.statistic import Statistic
from sardonyx.passes.roles import Place
from sardonyx.passes.sizes import Sizes
from sardonyx.passes.trial import Trials, no_trials
from sardonyx.passes.weights import WeightView
from sardonyx.runtime_ops.coded import CodedTensor
from sardonyx.runtime_ops.formats import Format

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

Watched = dict[str, tuple[Statistic, ...]]
"""Statistics of tensors, by name."""


@dataclass(frozen=True)
class Encoded:
    """A weight that a pass encoded.

    ``name``: of the (first) constant. ``nodes``: names of the nodes that read it; ``op``: of the
    first. ``place``: what it is for. ``views``: the matrix in each constant that holds it, to be
    read again when checked. ``tensor``: what replaced it; ``bytes_after``: of that, but for what
    another's count holds. ``compute``: how products by it are computed, fp32 or int8; after a
    comma, why not as wanted. ``slice_of``: the matrix that it is some rows or columns of, or empty.
    """

    name: str
    nodes: tuple[str, ...]
    op: str
    place: Place
    views: tuple[WeightView, ...]
    tensor: CodedTensor
    format: Format
    sqnr_db: float
    bytes_before: int
    bytes_after: int
    compute: str = "fp32"
    slice_of: str = ""


@dataclass(frozen=True)
class Skip:
    """A constant that a pass left alone, and why.

    ``eligible``: it is of the kind the pass encodes, so that leaving it needs an excuse.
    """

    name: str
    node: str
    reason: str
    eligible: bool


@dataclass(frozen=True)
class Activation:
    """An activation that a pass rounds to a grid.

    ``node``: the first that reads it so. ``format``: as uint8/tensor. ``range``: what does not
    saturate, None where it is found at run time; ``method``: how it was found; ``curve``: of the
    method's (threshold, loss). ``tensor_class``: of its histogram, with the sentence that says why
    (empty where it was not measured). ``sqnr_db``, ``product_sqnr_db``: of its values, and of the
    products that read it, on sampled rows; None where nothing was lost or measured. ``role``,
    ``kind``, ``layer``, ``group``: of its site, where it is one (`activation_sites.Site`);
    ``why_wide``: why it has more than 8 bits.
    """

    name: str
    node: str
    format: str
    range: tuple[float, float] | None
    method: str
    curve: tuple[tuple[float, float], ...] = ()
    tensor_class: str = ""
    class_reason: str = ""
    sqnr_db: float | None = None
    product_sqnr_db: float | None = None
    role: str = ""
    kind: str = ""
    layer: int | None = None
    group: int | None = None
    why_wide: str = ""

    @property
    def bits(self) -> int:
        """Of a code."""
        return int(self.format.partition("/")[0].lstrip("uint"))


@dataclass(frozen=True)
class Fusion:
    """A formula that became one op. ``by``: the pass; ``node``, ``op``: what stands there now;
    ``replaced``: how many nodes it took the place of; ``reason``: why this op, where there was a
    choice."""

    by: str
    node: str
    op: str
    replaced: int
    reason: str = ""


@dataclass(frozen=True)
class Smoothed:
    """An activation that was divided channel by channel, its weights multiplied.

    ``nodes``: names of its products; ``into``: where the division went. ``alpha``: how much of the
    range the weights took over. ``before_db``, ``after_db``: SQNR of the products with 8-bit
    activations.
    """

    activation: str
    nodes: tuple[str, ...]
    into: str
    alpha: float
    before_db: float
    after_db: float


@dataclass(frozen=True)
class Decision:
    """What a pass (``by``) chose: ``what``, and the ``reason``, or how."""

    by: str
    what: str
    reason: str


@dataclass(frozen=True)
class Miss:
    """What looked like the formula of a pass (``by``) at ``node``, and why it was left alone."""

    by: str
    node: str
    reason: str


@dataclass(frozen=True)
class Kept:
    """A node of an op that the target does not want, and why no pass took it apart."""

    node: str
    op: str
    reason: str


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass
class Journal:
    """Filled by passes in the order of their run. ``weights``: elements that could be encoded.

    ``watched``: what the driver measured for the pass that runs next, on the graph as it stands.
    ``known``: sizes in that graph, if somebody asked for them. ``trial``: runs the whole model with
    some activations rounded.
    """

    progress: Progress = _silent
    trial: Trials = no_trials
    encoded: list[Encoded] = field(default_factory=list)
    activations: list[Activation] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    fused: list[Fusion] = field(default_factory=list)
    smoothed: list[Smoothed] = field(default_factory=list)
    decided: list[Decision] = field(default_factory=list)
    missed: list[Miss] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    weights: int = 0
    watched: Watched = field(default_factory=dict)
    known: Sizes | None = None

    def sizes(self, graph: gs.Graph) -> Sizes:
        """Sizes in the graph as it was before the pass that runs."""
        if self.known is None or self.known.graph is not graph:
            self.known = Sizes(graph)
        return self.known

    def miss(self, by: str, node: gs.Node, reason: object) -> None:
        """Note, once, why a pass left a node alone."""
        miss = Miss(by, label(node), str(reason))
        if miss not in self.missed:
            self.missed.append(miss)
