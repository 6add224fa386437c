"""What a chip must compute of a graph: its nodes as layers, in their order.

Ops that have a cost here run on the chip; all others are the host's. A table that rows are looked
up in is taken to be stored row by row, so that a row's codes lie together. DequantizeLinear in
front of a product of integers has no work: that takes the codes, and its sums are rescaled.
"""

from collections.abc import Iterable, Iterator, Mapping

import onnx_graphsurgeon as gs

from sardonyx.compiler.chip_attention import ATTENTION, attention_layers
from sardonyx.compiler.chip_costs import ALIASES, COSTS, TAKES_FEW
from sardonyx.compiler.chip_products import Multiplied, is_product, op_name, product_of
from sardonyx.compiler.chip_values import ChipValues, product_shape, written_shape
from sardonyx.passes.fused import is_standard
from sardonyx.passes.scopes import bodies
from sardonyx.runtime_ops.accelerator.work import OUTLIER_BYTES, Layer, Value, Vector
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.ops import DOMAIN, OPS

_MULTIPLY = frozenset(
    ["ConvInteger", "ConvTranspose", "Einsum", "GRU", "LSTM", "QLinearConv", "RNN"]
)


def layers_of(values: ChipValues) -> list[Layer]:
    """The layers of a graph. Raises InputError where only running it tells what a node does."""
    nodes = [node for node in values.graph.nodes if values.runs(node)]
    for node in nodes:
        _check(node)
    products = {id(node): found for node in nodes if (found := product_of(values, node))}
    layers: list[Layer] = []
    for node in nodes:
        product = products.get(id(node))
        if product:
            layers += _product_layers(values, node, product)
        elif op_name(node) in ATTENTION:
            layers += attention_layers(values, node, op_name(node))
        elif not _is_free(node, products):
            layers.append(_layer(values, node))
    return list(_with_outputs(values, layers))


def _is_free(node: gs.Node, products: Mapping[int, Multiplied]) -> bool:
    """Whether a node does nothing, or only decodes what products of integers take as it is."""
    if not is_standard(node) or node.op != "DequantizeLinear":
        return is_standard(node) and node.op in ALIASES
    made, coded = node.outputs[0], node.inputs[0]
    taken = [
        id(reader) in products and any(coded is t for t in products[id(reader)].operands)
        for reader in made.outputs
    ]
    return bool(taken) and all(taken)


def _layer(values: ChipValues, node: gs.Node) -> Layer:
    """What is no product."""
    reads, writes = values.activations(*node.inputs), values.written(node)
    shape = written_shape(values.sizes.shape(node.outputs[0]))
    cost = COSTS.get(op_name(node))
    if node.domain == DOMAIN:
        return Layer(
            node.name, node.op, shape, _decoded_rows(values, node), "vector", reads, writes
        )
    brought, left = _bytes(reads), _bytes(writes)
    stored = values.stored_bytes(*node.inputs)
    if cost is None:
        size = max(values.sizes.elements(t) for t in (*node.inputs, *node.outputs) if t.name)
        work = Vector(size, brought + stored, left, "arithmetic")
        return Layer(node.name, node.op, shape, work, "host", reads, writes)
    if op_name(node) in TAKES_FEW:
        reads, brought, stored = _taken(values, node, left)
    counted = node.outputs[0] if cost.of == "output" else node.inputs[0]
    operations = cost.each * values.sizes.elements(counted)
    work = Vector(operations, brought, left, cost.kind, stored, stored)
    return Layer(node.name, node.op, shape, work, "vector", reads, writes)


def _check(node: gs.Node) -> None:
    """Refuse a node whose work cannot be counted."""
    if bodies(node):
        raise InputError(f"'{node.name}' ({node.op}): only running it tells what it does")
    fused = not is_standard(node) and node.domain != DOMAIN and not is_product(node)
    weights = [t for t in node.inputs if isinstance(t, gs.Constant) and len(t.shape) > 1]
    if node.op in _MULTIPLY or (fused and weights):
        raise InputError(
            f"'{node.name}' ({op_name(node)}) multiplies in a way that is not counted: compile the "
            "model's source for the target portable"
        )


def _taken(values: ChipValues, node: gs.Node, taken: int) -> tuple[tuple[Value, ...], int, int]:
    """Activations, their bytes and those of constants of a node that takes some of its input."""
    data, others = node.inputs[0], node.inputs[1:]
    reads = values.activations(*others)
    stored = values.stored_bytes(*others)
    if values.is_stored(data):
        return reads, _bytes(reads), stored + taken
    part = Value(values.place(data), taken)
    return (part, *reads), taken + _bytes(reads), stored


def _decoded_rows(values: ChipValues, node: gs.Node) -> Vector:
    """A lookup in a table in GOBO form: codes, and its share of the table's outliers."""
    width, rows = (int(size) for size in node.attrs["shape"])
    bits, tokens = OPS[node.op].bits, values.sizes.elements(node.inputs[0])
    outliers = values.sizes.elements(node.inputs[4])
    codes = -(-width * bits // 8) + OUTLIER_BYTES * -(-outliers // rows)
    floats = 4 * width * tokens
    return Vector(
        operations=width * tokens,
        bytes_in=_bytes(values.activations(node.inputs[0])),
        bytes_out=floats,
        kind="lookup",
        stored_bytes=codes * tokens,
        decoded_bytes=floats,
    )


def _product_layers(values: ChipValues, node: gs.Node, product: Multiplied) -> Iterator[Layer]:
    """A product, what makes codes for it, and what its sums go through."""
    work, (result,) = product.work, values.written(node)
    a, w = (values.value(tensor) for tensor in product.operands)
    if product.before:
        elements = work.count * work.m * work.k
        made = Value(f"{node.name}/codes", elements)
        quantize = Vector(COSTS[product.before].each * elements, a.nbytes, elements, "arithmetic")
        shape = f"{elements:,}"
        yield Layer(node.name, product.before, shape, quantize, "vector", (a,), (made,))
        a = made
    size = work.count * work.m * work.n
    sums = [Value(f"{node.name}/{name}", 4 * size) for name, _, _ in product.after]
    chain = [*sums, result]
    reads = (a,) if work.constant else (a, w)
    yield Layer(node.name, node.op, product_shape(work), work, "array", reads, (chain[0],))
    for (name, each, constants), source, target in zip(
        product.after, chain, chain[1:], strict=False
    ):
        stored = values.stored_bytes(*constants)
        step = Vector(each * size, source.nbytes, target.nbytes, "arithmetic", stored, stored)
        shape = written_shape(values.sizes.shape(node.outputs[0]))
        yield Layer(node.name, name, shape, step, "vector", (source,), (target,))


def _bytes(values: Iterable[Value]) -> int:
    return sum(value.nbytes for value in values)


def _with_outputs(values: ChipValues, layers: list[Layer]) -> Iterator[Layer]:
    """The layers, and a move of each output of the graph that layers read too, behind the layer
    that writes it: it may stay on the chip for them, but must leave it all the same."""
    read = {value.name for layer in layers for value in layer.reads}
    outputs = {values.place(t): t for t in values.graph.outputs if values.place(t) in read}
    for layer in layers:
        yield layer
        for value in layer.writes:
            if value.name in outputs:
                name = outputs[value.name].name
                left = Value(f"{name} (output)", value.nbytes)
                work = Vector(0, value.nbytes, value.nbytes, "move")
                yield Layer(name, "Output", layer.shape, work, "vector", (value,), (left,))
