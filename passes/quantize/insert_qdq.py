"""insert-qdq: products and lookups by 8-bit integers, as standard Quantize and Dequantize nodes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import onnx_graphsurgeon as gs
from pydantic import Field, FiniteFloat

from sardonyx.passes.base import Pass
from sardonyx.passes.candidates import candidates, entry_of, notes
from sardonyx.passes.facts import CONSTANTS_ARE_INITIALIZERS
from sardonyx.passes.journal import Journal, Miss, Watched
from sardonyx.passes.quantize.activation_notes import activation_entry, activation_notes
from sardonyx.passes.quantize.coded_weights import Chosen, CodedWeight, Sharing, coded_weights
from sardonyx.passes.quantize.grids import GridSettings, KlMode, Measured, RangeMethod
from sardonyx.passes.quantize.kept_grid import kept_grid
from sardonyx.passes.quantize.observers.find import Solver
from sardonyx.passes.quantize.operands import Operands, activation_products
from sardonyx.passes.quantize.products import product_uses
from sardonyx.passes.quantize.qdq_nodes import QdqNodes, insert
from sardonyx.passes.quantize.weight_range import WeightRange
from sardonyx.passes.roles import weight_places
from sardonyx.passes.scopes import is_constant, scopes
from sardonyx.passes.tied import TiedWeight
from sardonyx.passes.weights import WeightUse, weight_uses
from sardonyx.runtime_ops.uniform import Per

MOST_ROWS = 1 << 16
"""Rows K of W up to which a sum of products fits INT32: 255 * 127 * 2^16 < 2^31."""


@dataclass(frozen=True)
class InsertQdq(Pass):
    """``MatMul(x, W) + b``  ->  ``MatMul(DQ(Q(x)), DQ(W codes)) + DQ(b codes)``, and

    ``Gather(W, ids)``  ->  ``DQ(Gather(W codes, ids))``, or rows of codes times each row's scale;
    where ids are rows in order (`rows_in_order`), ``DQ(Slice(W codes), Slice(scales))``. Weights
    with equal contents are encoded once. ``activations = "dynamic"`` needs no calibration:
    ``MatMul(x, W)``  ->  DynamicQuantizeLinear, MatMulInteger and the scales. An x
    that is rounded already keeps its grid, of 8 or 16 bits.

    Of activations: ``method``, ``mode``, ``percentile``, ``solver``, ``decay``, ``rows``: how the
    range is found (`grids.GridSettings`). ``symmetric``: the grid mirrors itself at 0. ``signed``:
    int8, not uint8. ``sparse``: what becomes of products with an operand of that class, whose zeros
    INT8 does not serve (`observers.tensor_class`; Bhandare et al., arXiv 1906.00532): they stay
    ``float``, or are quantized all the same. ``least_db``: a product whose output comes out with
    less on the sampled rows is ``ruined`` by any static scale, and becomes ``dynamic`` or stays
    ``float``. ``act_act``: products of two activations too, by static grids.

    Of weights, symmetric: ``weight_bits``: 7 cannot saturate the 16-bit sums of processors without
    VNNI, 8 can. ``per``: ``channel``: a scale for each column. ``weight_range``: of a scale for a
    whole matrix (`weight_range.WeightRange`). ``embeddings``: tables too, in 8 bits;
    ``embedding_per``: ``channel``: a scale for each row, ``tensor``: one for all, or ``best``
    (`coded_weights.Sharing`). ``bias``: ``int32``: in units of the product (Jacob et al. 2018), or
    ``float`` as it is. ``min_weights``: smaller ones are left alone.

    Does not fire on a weight

    1. that is no right operand of a MatMul or table of a Gather, has another rank than 2 or type
       than float32, or more rows than INT32 sums,
    2. that another op or an output of the graph needs too,
    3. of fewer than ``min_weights`` elements,
    4. one of whose products has a sparse activation, or one that was not measured, as inside the
       body of a Loop, or that a static scale ruins.
    """

    activations: Literal["static", "dynamic"] = "static"
    method: RangeMethod = "kl"
    mode: KlMode = "best"
    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    solver: Solver = "grid"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.9
    rows: Annotated[int, Field(ge=1)] = 256
    symmetric: bool = False
    signed: bool = False
    sparse: Literal["float", "quantize"] = "float"
    least_db: FiniteFloat = 8.0
    ruined: Literal["dynamic", "float"] = "dynamic"
    act_act: bool = False
    weight_bits: Annotated[int, Field(ge=2, le=8)] = 7
    per: Per = "channel"
    weight_range: WeightRange = "max"
    embeddings: bool = True
    embedding_per: Sharing = "best"
    bias: Literal["int32", "float"] = "int32"
    min_weights: Annotated[int, Field(ge=1)] = 4096

    name: ClassVar[str] = "insert-qdq"
    quantizes: ClassVar[bool] = True
    requires: ClassVar = (CONSTANTS_ARE_INITIALIZERS,)
    bound: ClassVar[float] = 4.0
    """Rounding to a grid made for other values may lose all of an output (1) or overshoot it by a
    step: only its kind is held against the plain one. What is lost on real values is reported."""

    def __post_init__(self) -> None:
        if self.act_act and self.activations == "dynamic":
            raise ValueError("act_act needs static activations")
        if self.weight_range == "mse" and self.per == "channel":
            raise ValueError('weight_range = "mse" needs per = "tensor"')

    def watches(self, graph: gs.Graph) -> Watched:
        """What products read, of static grids."""
        if self.activations == "dynamic":
            return {}
        uses = [use for use in product_uses(graph) if not use.misfit and _served(use)]
        weighed = [x for use in uses if kept_grid(x := use.node.inputs[0]) is None]
        plain = [x for node in activation_products(graph) for x in node.inputs if self.act_act]
        watches = {x.name: self._settings.statistics(weighed=False) for x in plain}
        return watches | {x.name: self._settings.statistics(weighed=True) for x in weighed}

    def run(self, graph: gs.Graph, journal: Journal) -> int:
        """Encode all weights, find all grids; then rewrite."""
        uses = weight_uses(graph)
        places = weight_places(graph, uses)
        weights = []
        for weight in candidates(graph, uses, self.min_weights, journal):
            reason = self._misfit(weight)
            if reason:
                journal.skipped.append(weight.skip(reason, eligible=False))
            else:
                weights.append(weight)
        coded = coded_weights(weights, self._format, journal)
        operands = Operands(self._settings, journal.watched, self.sparse, self.least_db)
        operands.measure(coded)
        chosen: dict[int, tuple[CodedWeight, bool]] = {}
        counted = set[int]()
        for each in coded:
            obstacle, ruin = self._obstacle(each.weight, operands)
            if obstacle or (ruin and self.ruined == "float"):
                skip = each.weight.skip(obstacle or ruin, eligible=bool(ruin))
                journal.skipped.append(skip)
                continue
            place = places[id(each.weight.view.constant)]
            compute = _compute(each, ruin)
            shared = each.tensor.scale.nbytes if id(each.scale) in counted else 0
            counted.add(id(each.scale))
            entry = entry_of(each.weight, place, each.tensor, each.sqnr_db, compute, shared)
            journal.encoded.append(entry)
            each.notes.update(notes(self.name, entry))
            static = self.activations == "static" and not ruin
            chosen |= {id(use.node): (each, static) for use in each.weight.uses}
        rewrites, writers = 0, list[QdqNodes]()
        for scope in scopes(graph):
            writer = QdqNodes(self.name)
            writers.append(writer)
            for node in scope.nodes:
                rewrites += self._write(writer, node, chosen, operands, journal)
            if scope is graph and self.act_act:
                rewrites += self._write_activation_products(writer, graph, operands, journal)
        insert(graph, writers)
        return rewrites

    @property
    def _settings(self) -> GridSettings:
        return GridSettings.of(self, symmetric=self.symmetric, signed=self.signed)

    def _format(self, weight: TiedWeight) -> Chosen:
        multiplied = any(use.node.op == "MatMul" for use in weight.uses)
        per = self.embedding_per if weight.gathered else self.per
        return self.weight_bits if multiplied else 8, per, self.weight_range

    def _misfit(self, weight: TiedWeight) -> str:
        """Why a weight cannot be encoded, whatever its activations are."""
        if weight.view.dtype != np.float32:
            return f"{weight.view.dtype}: only float32 weights are quantized"
        if any(use.node.op == "Gemm" for use in weight.uses):
            return "read by Gemm, which pass unfuse-gemm makes a MatMul of"
        if weight.gathered and not self.embeddings:
            return "an embedding table, with embeddings = false"
        multiplied = [use.node for use in weight.uses if use.node.op == "MatMul"]
        if any(is_constant(node.inputs[0]) for node in multiplied):
            return "multiplied by a constant"
        rows = weight.view.shape[0]
        if multiplied and rows > MOST_ROWS:
            return f"columns have {rows} weights: INT32 sums at most {MOST_ROWS} products"
        return ""

    def _obstacle(self, weight: TiedWeight, operands: Operands) -> tuple[str, str]:
        """Why the products by a weight stay as they are, and why no static grid serves them."""
        read = [use.node.inputs[0] for use in weight.uses if use.node.op == "MatMul"]
        if self.activations == "dynamic" or not read:
            return "", ""
        obstacle = next(filter(None, map(operands.obstacle, read)), "")
        ruin = "" if obstacle else next(filter(None, map(operands.ruin, read)), "")
        return obstacle, ruin

    def _write(
        self,
        writer: QdqNodes,
        node: gs.Node,
        chosen: Mapping[int, tuple[CodedWeight, bool]],
        operands: Operands,
        journal: Journal,
    ) -> int:
        """Rewrite one node that reads an encoded weight; how many rewrites that is."""
        if id(node) not in chosen:
            return 0
        coded, static = chosen[id(node)]
        x = node.inputs[0]
        if node.op == "Gather":
            writer.lookup(node, coded)
        elif kept := kept_grid(x):
            writer.static_product(node, coded, kept, self.bias == "int32")
        elif static:
            _note_activation(writer, journal, node, x, operands.of(x))
            writer.rounded_operand(node, 0, operands.of(x).grid)
            writer.static_product(node, coded, operands.of(x).grid, self.bias == "int32")
        else:
            _note_activation(writer, journal, node, x, None)
            writer.dynamic_product(node, coded)
        return 1

    def _write_activation_products(
        self, writer: QdqNodes, graph: gs.Graph, operands: Operands, journal: Journal
    ) -> int:
        rewrites = 0
        for node in list(activation_products(graph)):
            reasons = [operands.obstacle(x) or operands.ruin(x) for x in node.inputs]
            reason = next(filter(None, reasons), "")
            if reason:
                journal.missed.append(Miss(self.name, node.name, reason))
                continue
            for slot, x in enumerate(list(node.inputs)):
                _note_activation(writer, journal, node, x, operands.of(x))
                writer.rounded_operand(node, slot, operands.of(x).grid)
            rewrites += 1
        return rewrites


def _served(use: WeightUse) -> bool:
    return bool(use.node.op == "MatMul" and use.view.dtype == np.float32)


def _note_activation(
    writer: QdqNodes, journal: Journal, node: gs.Node, x: gs.Tensor, found: Measured | None
) -> None:
    entry = next((noted for noted in journal.activations if noted.name == x.name), None)
    if entry is None:
        entry = activation_entry(node, x, found)
        journal.activations.append(entry)
    writer.notes[id(x)] = activation_notes(entry)


def _compute(coded: CodedWeight, ruin: str) -> str:
    """How products by a weight are computed, and why, where that is not by a static range."""
    read = [use.node.inputs[0] for use in coded.weight.uses if use.node.op == "MatMul"]
    if not read:
        return "fp32"
    bits = max(kept.bits if (kept := kept_grid(x)) else 8 for x in read)
    return f"int8, dynamic: {ruin}" if ruin else f"int{bits}"
