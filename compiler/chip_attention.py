"""Fused attention as a chip takes it: two products of activations, and a softmax between."""

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from sardonyx.compiler.chip_costs import COSTS, Cost
from sardonyx.compiler.chip_values import ChipValues, product_shape
from sardonyx.passes.fused import operand, result
from sardonyx.runtime_ops.accelerator.work import Layer, Product, Value, Vector
from sardonyx.runtime_ops.errors import InputError


@dataclass(frozen=True)
class _Form:
    """Attributes and inputs of an op. ``heads``: into which a query of three axes is cut, and keys
    are; ``added``: a bias of query, key and value; ``past``: keys and values of earlier tokens."""

    heads: tuple[str, str]
    past: tuple[int, int]
    added: int | None = None


_FORMS = {
    "Attention": _Form(("q_num_heads", "kv_num_heads"), (4, 5)),
    "com.microsoft.MultiHeadAttention": _Form(("num_heads", "num_heads"), (6, 7), 3),
}

ATTENTION = frozenset(_FORMS)
"""Ops that are attention without projections."""


@dataclass(frozen=True)
class _Heads:
    """Sizes of a query, or of keys or values."""

    batch: int
    heads: int
    tokens: int
    width: int


def attention_layers(values: ChipValues, node: gs.Node, name: str) -> Iterator[Layer]:
    """The layers of a node. ``name``: of its op, in `ATTENTION`.

    Raises InputError where query, key and value are one tensor.
    """
    form, (q, k, v) = _FORMS[name], (operand(node, slot) for slot in range(3))
    if q is None or k is None or v is None:
        raise InputError(
            f"'{node.name}' ({node.op}) reads query, key and value from one tensor: compile the "
            "model for the target portable"
        )
    read = values.value(q), values.value(k), values.value(v)
    if form.added is not None and operand(node, form.added) is not None:
        yield _step(node, "Bias", Cost(1, "arithmetic"), read, read)
    past = [tensor for slot in form.past if (tensor := operand(node, slot)) is not None]
    presents = [values.value(t) for slot in (1, 2) if (t := result(node, slot)) is not None]
    if past or presents:
        olds = values.activations(*past)
        yield _step(node, "Past", Cost(0, "move"), (*read[1:], *olds), tuple(presents))
    query = _heads(values, node, q, form.heads[0])
    keys = _heads(values, node, k, form.heads[1]).tokens
    keys += values.sizes.shape(past[0])[2] if past else 0
    width = _heads(values, node, v, form.heads[1]).width
    count, m = query.batch * query.heads, query.tokens
    scores, shares = (
        Value(f"{node.name}/{part}", 4 * count * m * keys) for part in ("scores", "shares")
    )
    first = Product(m, query.width, keys, False, "float32", 32, count)
    second = Product(m, keys, width, False, "float32", 32, count)
    masks = values.activations(*node.inputs[3 : min(form.past)])
    yield _product(node, first, read[:2], scores)
    yield _step(node, "Mask", Cost(2, "arithmetic"), (scores, *masks), (scores,))
    yield _step(node, "Softmax", COSTS["Softmax"], (scores,), (shares,))
    yield _product(node, second, (shares, read[2]), values.value(node.outputs[0]))


def _heads(values: ChipValues, node: gs.Node, tensor: gs.Tensor, attribute: str) -> _Heads:
    """Of [batch, heads, tokens, width], or [batch, tokens, heads * width]."""
    shape = values.sizes.shape(tensor)
    if len(shape) == 4:
        return _Heads(*shape)
    heads = int(node.attrs[attribute])
    return _Heads(shape[0], heads, shape[1], shape[2] // heads)


def _product(node: gs.Node, work: Product, reads: tuple[Value, Value], written: Value) -> Layer:
    return Layer(node.name, node.op, product_shape(work), work, "array", reads, (written,))


def _step(
    node: gs.Node, op: str, cost: Cost, reads: tuple[Value, ...], writes: tuple[Value, ...]
) -> Layer:
    """Work on every element of what is read first, which is float32."""
    elements = reads[0].nbytes // 4
    brought, left = (sum(value.nbytes for value in values) for values in (reads, writes))
    work = Vector(cost.each * elements, brought, left, cost.kind)
    return Layer(node.name, op, f"{elements:,}", work, "vector", reads, writes)
