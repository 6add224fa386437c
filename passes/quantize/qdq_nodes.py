"""The nodes that quantized products and lookups are written with: standard ops alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.metadata import annotate
from sardonyx.passes.quantize.coded_weights import CodedWeight
from sardonyx.passes.quantize.rows_in_order import RowsInOrder
from sardonyx.passes.rewrite import Draft, Replacements, replace_nodes, reread
from sardonyx.passes.weights import values_of
from sardonyx.runtime_ops.uniform import Grid, integer_bias


@dataclass
class QdqNodes:
    """Writes nodes in front of the first that reads them. ``by``: the pass that makes them.

    ``notes``: on each activation, by ``id``. ``replacements``: what stands in place of each node;
    ``rereads``: nodes that stay, and what they are to read in which slot. Nodes are to be given in
    graph order, those of one graph to one writer: an activation is rounded once, ahead of its first
    reader. `insert` does all of it.
    """

    by: str
    notes: dict[int, dict[str, object]] = field(default_factory=dict)
    replacements: Replacements = field(default_factory=dict)
    rereads: list[tuple[gs.Node, int, gs.Tensor]] = field(default_factory=list)
    _static: dict[int, gs.Tensor] = field(default_factory=dict)
    _dynamic: dict[int, list[gs.Tensor]] = field(default_factory=dict)

    def static_product(self, node: gs.Node, coded: CodedWeight, grid: Grid, bias: bool) -> None:
        """``MatMul(x, W)``, x on a grid  ->  the same of W dequantized; if ``bias``, one that is
        added to it becomes INT32 on the product's own grid."""
        draft = Draft.of(node, np.float32)
        operands = [coded.matrix(draft), coded.scale]
        weight = draft.add("DequantizeLinear", "Weight", operands, axis=1)
        self.rereads.append((node, 1, weight))
        if bias:
            self._round_bias(draft, node, coded, grid)
        self._put(node, draft)
        annotate(node, replaces=node.op, replaced_node=node.name, **coded.notes)

    def dynamic_product(self, node: gs.Node, coded: CodedWeight) -> None:
        """``MatMul(x, W)``  ->  codes of both multiplied, then scaled: the form of onnxruntime's
        quantize_dynamic."""
        codes, scale, zero_point = self._found(node, node.inputs[0])
        draft = Draft.of(node, np.float32)
        operands = [codes, coded.matrix(draft), zero_point]
        sums = draft.add("MatMulInteger", "Product", operands, dtype=np.int32)
        annotate(draft.nodes[-1], replaces=node.op, replaced_node=node.name, **coded.notes)
        both = draft.add("Mul", "Scale", [scale, coded.scale])
        draft.add("Mul", "Scaled", [draft.cast("Sums", sums, np.float32), both])
        self.replacements[id(node)][-1:] = draft.take_place(node, self.by)

    def lookup(self, node: gs.Node, coded: CodedWeight) -> None:
        """``Gather(W, ids)``  ->  rows of codes, times the one scale or each row's own."""
        draft = Draft.of(node, np.float32)
        rows = RowsInOrder.of(node.inputs[1], coded.codes.shape[0])
        if rows is None or len(coded.weight.uses) > 1:
            self._gathered(draft, node, coded)
        else:
            self._sliced(draft, rows, coded)
        annotate(draft.nodes[0], replaces=node.op, replaced_node=node.name, **coded.notes)
        self.replacements[id(node)] = draft.take_place(node, self.by)

    def _gathered(self, draft: Draft, node: gs.Node, coded: CodedWeight) -> None:
        ids, axis = node.inputs[1], node.attrs.get("axis", 0)
        codes = draft.add("Gather", "Codes", [coded.codes, ids], dtype=coded.codes.dtype, axis=axis)
        if coded.tensor.scale.ndim == 0:
            draft.add("DequantizeLinear", "Dequantize", [codes, coded.scale])
            return
        steps = draft.cast("Steps", codes, np.float32)
        # the scales stay a vector: a matrix of them would be a table of its own to later passes
        scales = draft.add("Gather", "Scales", [coded.scale, ids], axis=axis)
        last = draft.constant("Axis", [-1], np.int64)
        column = draft.add("Unsqueeze", "Column", [scales, last])
        draft.add("Mul", "Rows", [steps, column])

    def _sliced(self, draft: Draft, rows: RowsInOrder, coded: CodedWeight) -> None:
        """Rows that follow each other have their scales along one axis."""
        codes = rows.sliced(draft, "Codes", coded.codes)
        if coded.tensor.scale.ndim == 0:
            draft.add("DequantizeLinear", "Dequantize", [codes, coded.scale])
            return
        scales = rows.sliced(draft, "Scales", coded.scale, flat=True)
        draft.add("DequantizeLinear", "Dequantize", [codes, scales], axis=rows.axis)

    def rounded_operand(self, node: gs.Node, slot: int, grid: Grid) -> None:
        """Let a node read ``DequantizeLinear(QuantizeLinear(x))`` for x."""
        x = node.inputs[slot]
        if id(x) not in self._static:
            draft = rounding(x, grid, self.notes.get(id(x), {}))
            self._static[id(x)] = draft.nodes[-1].outputs[0]
            self._put(node, draft)
        self.rereads.append((node, slot, self._static[id(x)]))

    def _found(self, node: gs.Node, x: gs.Tensor) -> list[gs.Tensor]:
        """Codes, scale and zero point of x: ``DynamicQuantizeLinear(x)``."""
        if id(x) not in self._dynamic:
            draft = Draft(x.name, np.float32)
            draft.add("DynamicQuantizeLinear", "Quantize", [x], dtype=np.uint8)
            annotate(draft.nodes[0], **self.notes.get(id(x), {}))
            outputs = draft.nodes[0].outputs
            outputs.append(gs.Variable(f"{x.name}/Scale:0", np.float32, []))
            outputs.append(gs.Variable(f"{x.name}/ZeroPoint:0", np.uint8, []))
            self._dynamic[id(x)] = list(outputs)
            self._put(node, draft)
        else:
            self.replacements.setdefault(id(node), [node])
        return self._dynamic[id(x)]

    def _round_bias(self, draft: Draft, product: gs.Node, coded: CodedWeight, grid: Grid) -> None:
        readers = product.outputs[0].outputs
        total = readers[0] if len(readers) == 1 and readers[0].op == "Add" else None
        biases = [t for t in total.inputs if isinstance(t, gs.Constant)] if total else []
        columns = coded.tensor.codes.shape[1]
        if total is None or [list(t.shape) for t in biases] != [[columns]]:
            return
        scale = np.full(columns, grid.scale * coded.tensor.scale, np.float32)
        codes = integer_bias(values_of(biases[0]).astype(np.float64), scale)
        if codes is None:
            return
        operands = [
            gs.Constant(f"{biases[0].name}.codes", codes),
            gs.Constant(f"{biases[0].name}.scale", scale),
        ]
        annotate(product, bias=biases[0].name)
        slot = 0 if total.inputs[0] is biases[0] else 1
        bias = draft.add("DequantizeLinear", "Bias", operands, axis=0)
        self.rereads.append((total, slot, bias))

    def _put(self, reader: gs.Node, draft: Draft) -> None:
        """New nodes just ahead of one that reads what they make."""
        for node in draft.nodes:
            annotate(node, **{"pass": self.by})
        self.replacements.setdefault(id(reader), [reader])[-1:-1] = draft.nodes


def rounding(x: gs.Tensor, grid: Grid, notes: Mapping[str, object]) -> Draft:
    """``DequantizeLinear(QuantizeLinear(x))``, with notes on the node that rounds."""
    draft = Draft(x.name, np.float32)
    scale = draft.constant("Scale", grid.scale, np.float32)
    zero_point = draft.constant("ZeroPoint", grid.zero_point, grid.dtype)
    codes = draft.add("QuantizeLinear", "Quantize", [x, scale, zero_point], dtype=grid.dtype)
    annotate(draft.nodes[0], **notes)
    draft.add("DequantizeLinear", "Dequantize", [codes, scale, zero_point])
    return draft


def insert(graph: gs.Graph, writers: list[QdqNodes]) -> None:
    """Put what the writers made into the graph; nodes read it once its names are its own."""
    replace_nodes(graph, {old: new for w in writers for old, new in w.replacements.items()})
    for node, slot, tensor in (each for writer in writers for each in writer.rereads):
        reread(node, slot, tensor)
