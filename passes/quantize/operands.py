"""The operands of products that are to be rounded: their grids, or why they have none."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx_graphsurgeon as gs

from sardonyx.passes.fused import is_standard
from sardonyx.passes.journal import Watched
from sardonyx.passes.quantize.coded_weights import CodedWeight
from sardonyx.passes.quantize.grids import GridSettings, Measured, measured
from sardonyx.passes.quantize.kept_grid import kept_grid
from sardonyx.passes.quantize.observers.histogram import Histogram
from sardonyx.passes.quantize.observers.row_sample import RowSample
from sardonyx.passes.quantize.product_error import ProductSample
from sardonyx.passes.scopes import is_constant


def activation_products(graph: gs.Graph) -> Iterator[gs.Node]:
    """The MatMuls directly in a graph that multiply two activations of float32, neither of them
    rounded already."""
    for node in graph.nodes:
        if node.op == "MatMul" and is_standard(node):
            floats = all(x.dtype == np.float32 for x in node.inputs)
            if floats and not any(is_constant(x) or kept_grid(x) for x in node.inputs):
                yield node


@dataclass
class Operands:
    """What was measured of operands that are not rounded yet. ``grids``: by ``id`` of the tensor.

    ``sparse``: what becomes of products of one of that class. ``least_db``: of a product that a
    grid serves.
    """

    settings: GridSettings
    watched: Watched
    sparse: Literal["float", "quantize"]
    least_db: float
    grids: dict[int, Measured] = field(default_factory=dict)

    def measure(self, coded: list[CodedWeight]) -> None:
        """Find the grid of everything that products by these weights read."""
        read: dict[int, gs.Tensor] = {}
        readers: dict[int, list[CodedWeight]] = defaultdict(list)
        for each in coded:
            for use in each.weight.uses:
                x = use.node.inputs[0]
                if use.node.op == "MatMul" and x.name in self.watched:
                    read[id(x)] = x
                    readers[id(x)].append(each)
        for key, x in read.items():
            self.grids[key] = measured(
                self.watched[x.name], self.settings, self._products(x, readers[key])
            )

    def of(self, x: gs.Tensor) -> Measured:
        """What was measured of an operand, of whichever product."""
        if id(x) not in self.grids:
            self.grids[id(x)] = measured(self.watched[x.name], self.settings, None)
        return self.grids[id(x)]

    def obstacle(self, x: gs.Tensor) -> str:
        """Why products of an activation stay as they are; empty if they need not."""
        if kept_grid(x):
            return ""
        if x.name not in self.watched:
            return f"its activation '{x.name}' was not measured: a product by it is inside a body"
        if not any(s.count for s in self.watched[x.name] if isinstance(s, Histogram)):
            return f"its activation '{x.name}' had no values in the calibration data"
        one = self.of(x)
        if one.tensor_class.name == "sparse" and self.sparse == "float":
            return f"its activation '{x.name}' is sparse: {one.tensor_class.reason}"
        return ""

    def ruin(self, x: gs.Tensor) -> str:
        """Why no static grid serves an activation; empty if one does."""
        if kept_grid(x):
            return ""
        db = self.of(x).product_sqnr_db
        if db >= self.least_db:
            return ""
        return f"a static grid of '{x.name}' leaves products of {db:.1f} dB"

    def _products(self, x: gs.Tensor, readers: list[CodedWeight]) -> ProductSample | None:
        rows = next(s for s in self.watched[x.name] if isinstance(s, RowSample)).values
        if rows.size == 0:
            return None
        plain = [each.weight.view.matrix() for each in readers]
        coded = tuple(each.tensor.decode().astype(np.float32, copy=False) for each in readers)
        return dataclasses.replace(ProductSample.of(rows, plain), weights=coded)
