"""verify: a pass is not believed. What it changed is cut out and run, before against after."""

import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.compiler.check_model import first_line
from sardonyx.compiler.cut import (
    NUMBERS,
    Feeds,
    Pair,
    StandIn,
    Surroundings,
    Unknown,
    cut,
    random_feeds,
)
from sardonyx.compiler.fidelity import Fidelity
from sardonyx.compiler.load import Source
from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.compiler.region import Region, Scope, changed_regions
from sardonyx.compiler.repro import save_repro
from sardonyx.passes.base import Pass
from sardonyx.passes.journal import Encoded
from sardonyx.passes.scopes import all_constants, all_nodes, computed_constants
from sardonyx.passes.sizes import Sizes
from sardonyx.runtime_ops.errors import VerificationError

Level = Literal["off", "default", "full"]
Outputs = list[NDArray[np.generic]]

_ROUNDINGS = 8
"""Of a type's own precision, that an inexact rewrite may differ by. Taking attention apart in
float16 has been seen to differ by 1.2."""

_TOGETHER = 256
"""Regions of one model. Of a model of thousands, onnxruntime's session takes far longer."""

_CHEAP = 1 << 18
"""Constant elements up to which every region is run; of larger ones, one of each kind."""


@dataclass(frozen=True)
class Moment:
    """A graph and those inside it at one moment, and the sizes in them."""

    scopes: list[Scope]
    sizes: Sizes


@dataclass
class Verification:
    """What was checked. ``unchecked``: regions that could not be run, and why. ``outputs``: of a
    model whose activations are rounded, on real samples."""

    level: Level = "default"
    regions: int = 0
    regions_run: int = 0
    largest_difference: float = 0.0
    tensors_decoded: int = 0
    unchecked: list[str] = field(default_factory=list)
    model_difference: float | None = None
    outputs: list[Fidelity] = field(default_factory=list)


def check_encoded(a_pass: Pass, entries: list[Encoded], result: Verification) -> None:
    """Unpack every encoded tensor and hold it against the original weights."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda entry: entry.tensor.contradiction(entry.views[0].matrix()), entries)
        for entry, text in zip(entries, found, strict=True):
            if text:
                raise VerificationError(
                    f"pass {a_pass.name} is wrong: at {entry.op} '{entry.nodes[0]}' the encoded "
                    f"weight '{entry.name}' {text}"
                )
            result.tensors_decoded += 1


def check_regions(
    a_pass: Pass,
    before: Moment,
    after: list[Scope],
    source: Source,
    encoded: list[Encoded],
    result: Verification,
) -> None:
    """Run what ``a_pass`` changed, before and after, on equal inputs.

    ``after``: the graph and those inside it. ``encoded``: what the pass encoded; before, its
    constants hold what the encoded ones decode to. Raises VerificationError, with a saved repro,
    where outputs differ by more than the pass's bound.
    """
    alive = {id(scope.graph): scope for scope in after}
    pairs = [(scope, alive[id(scope.graph)]) for scope in before.scopes if id(scope.graph) in alive]
    found = [(scope.graph, changed_regions(old, scope)) for old, scope in pairs]
    if not any(regions for _, regions in found):
        return
    graph, stand_in = after[0].graph, stand_ins(encoded)
    computed = computed_constants(graph)
    for scope, regions in found:
        _check_complete(a_pass, regions, graph)
        changed = {id(record.node) for region in regions for record in region.records}
        exact = a_pass.bound == 0
        around = Surroundings(scope, source, before.sizes, changed, computed, stand_in, exact)
        check = _RegionCheck(a_pass, around, result)
        read = [region for region in regions if region.outputs]
        result.regions += len(read)
        for group in _groups(read, result.level):
            check.run(group)


def stand_ins(encoded: list[Encoded]) -> StandIn:
    """A function from a constant to what it decodes to, or to itself if it was not encoded."""
    views = {id(view.constant): (view, entry) for entry in encoded for view in entry.views}

    def stand_in(constant: gs.Constant) -> gs.Constant:
        if id(constant) not in views:
            return constant
        view, entry = views[id(constant)]
        return view.decoded(entry.tensor)

    return stand_in


def _check_complete(a_pass: Pass, regions: list[Region], graph: gs.Graph) -> None:
    """Every tensor that the rest of the graph reads must still be made by somebody."""
    known = {t.name for node in all_nodes(graph) for t in node.outputs}
    known |= {constant.name for constant in all_constants(graph)}
    for region in regions:
        lost = [name for name in region.outputs if name not in known]
        if lost:
            raise VerificationError(
                f"pass {a_pass.name} is wrong: at {region.label} it lost the tensor '{lost[0]}', "
                "which the rest of the graph reads"
            )


def _groups(regions: list[Region], level: Level) -> Iterator[list[Region]]:
    """Regions to run together: all cheap ones, some at a time, then one of each kind of the rest
    (full: all)."""
    cheap = [r for r in regions if r.constant_elements() <= _CHEAP]
    yield from (cheap[start : start + _TOGETHER] for start in range(0, len(cheap), _TOGETHER))
    seen = set()
    for region in regions:
        if region.constant_elements() > _CHEAP:
            kind = region.signature()
            if level == "full" or kind not in seen:
                yield [region]
            seen.add(kind)


@dataclass
class _RegionCheck:
    """Runs groups of regions of one pass."""

    a_pass: Pass
    around: Surroundings
    result: Verification

    def run(self, group: list[Region]) -> None:
        """Run a group; where it cannot be run as one, each region alone."""
        try:
            pair = cut(group, self.around)
            feeds, wanted = self._run_before(group, pair)
        except (Unknown, RunFailed) as error:
            if len(group) > 1:
                for region in group:
                    self.run([region])
            else:
                self.result.unchecked.append(f"{group[0].label}: {_reason(error)}")
            return
        try:
            got = run_model(pair.after, feeds)
        except RunFailed as error:
            if len(group) > 1:
                for region in group:
                    self.run([region])
                return
            text = f"fails: {_reason(error)}"
            raise self._failure(pair, feeds, group[0], text, self.a_pass.bound) from error
        self._compare(group, pair, feeds, wanted, got)

    def _run_before(self, group: list[Region], pair: Pair) -> tuple[Feeds, Outputs]:
        """Inputs that the pair takes, and what it makes of them before the pass."""
        records = [record for region in group for record in region.records]
        for numbers in NUMBERS:
            feeds = random_feeds(pair, records, numbers, self.a_pass.rounds_less)
            try:
                return feeds, run_model(pair.before, feeds)
            except RunFailed as error:
                failure = error
        raise failure

    def _compare(
        self,
        group: list[Region],
        pair: Pair,
        feeds: Feeds,
        wanted: Outputs,
        got: Outputs,
    ) -> None:
        for name, want, have in zip(pair.outputs, wanted, got, strict=True):
            if self.a_pass.rounds_less and _nearly_equal(want, have):
                continue
            alike = (want.shape, want.dtype) == (have.shape, have.dtype)
            if alike and math.isinf(self.a_pass.bound):
                continue  # no more than the kind of a value is promised
            difference = relative_difference(want, have)
            bound = bound_for(want.dtype, self.a_pass.bound)
            if not alike or difference > bound:
                region = next(r for r in group if name in r.outputs)
                alone = cut([region], self.around)
                fed = {value.name for value in alone.before.graph.input} <= feeds.keys()
                text = f"changes '{name}' by {difference:.3g}, above {bound:g}"
                raise self._failure(alone if fed else pair, feeds, region, text, bound)
            self.result.largest_difference = max(self.result.largest_difference, difference)
        self.result.regions_run += len(group)

    def _failure(
        self, pair: Pair, feeds: Feeds, region: Region, text: str, bound: float
    ) -> VerificationError:
        folder = save_repro(pair, feeds, self.a_pass.name, region.label, bound)
        return VerificationError(
            f"pass {self.a_pass.name} is wrong: {region.label} {text}; "
            f"before, after and inputs are in '{folder}'"
        )


class RunFailed(Exception):
    """onnxruntime does not load or run a model; the text is its first line."""


def run_model(model: onnx.ModelProto, feeds: Feeds) -> Outputs:
    """Outputs of a small model in onnxruntime, nodes as they are written; may raise RunFailed."""
    try:
        session = quiet_session(model, optimize=False)
        named = {info.name: feeds[info.name] for info in session.get_inputs()}
        return list(session.run(None, named))
    except Exception as error:
        raise RunFailed(first_line(error)) from error


def relative_difference(want: NDArray[np.generic], have: NDArray[np.generic]) -> float:
    """Largest difference over the largest magnitude; infinite where kind, shape or NaNs differ."""
    if want.shape != have.shape or want.dtype != have.dtype:
        return np.inf
    if np.array_equal(want, have, equal_nan=want.dtype.kind == "f"):
        return 0.0
    if want.dtype.kind != "f":
        return np.inf
    finite = np.isfinite(want) & np.isfinite(have)
    if not np.array_equal(want[~finite], have[~finite], equal_nan=True):
        return np.inf
    a, b = want[finite].astype(np.float64), have[finite].astype(np.float64)
    return float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(a))), np.finfo(np.float32).tiny))


def _nearly_equal(want: NDArray[np.generic], have: NDArray[np.generic]) -> bool:
    """Whether two arrays are integers at most 1 apart."""
    if want.dtype.kind not in "iu" or (want.shape, want.dtype) != (have.shape, have.dtype):
        return False
    return bool(np.all(np.abs(want.astype(np.int64) - have.astype(np.int64)) <= 1))


def bound_for(dtype: np.dtype[Any], bound: float) -> float:
    """What a bound above 0 means for a type: no less than a few of its roundings, as one alone is
    1e-3 in float16."""
    if bound == 0 or dtype.kind != "f":
        return bound
    return max(bound, _ROUNDINGS * float(np.finfo(dtype).eps))


def _reason(error: Exception) -> str:
    if isinstance(error, Unknown):
        return f"the type of its input '{error}' is not known"
    return str(error)
