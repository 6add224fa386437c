"""diff: how two model files differ: ops, constants, number formats, bytes."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import onnx

from sardonyx.compiler.answer import finite
from sardonyx.compiler.contents import PlacedNode, Stored, Where
from sardonyx.compiler.inventory import Inventory, take_inventory
from sardonyx.compiler.model_diff import (
    FormatCount,
    HeaderChange,
    ModelDiff,
    Node,
    NodeChange,
    OpCount,
    Side,
    Tensor,
    TensorChange,
)
from sardonyx.compiler.quantized import Quantized
from sardonyx.passes.metadata import ORDERED, SMOOTHED

_T = TypeVar("_T")


@dataclass(frozen=True)
class _Constant:
    """A constant as it is compared; its data are read only if the rest is equal."""

    tensor: Tensor
    data: Stored | Quantized


@dataclass(frozen=True)
class _Compared(Generic[_T]):
    """Things of one sort in two models. ``changed``: both forms, and what differs."""

    equal: int
    only_a: list[_T]
    only_b: list[_T]
    changed: list[tuple[_T, _T, list[str]]]

    @property
    def same(self) -> bool:
        return not (self.only_a or self.only_b or self.changed)


def diff(a: str | Path, b: str | Path) -> ModelDiff:
    """The differences of two .onnx files; their weights are read a piece at a time.

    A weight that is quantized in one file is held against the constant that it was in the other.
    Raises InputError where a file is no model.
    """
    one, two = take_inventory(Path(a)), take_inventory(Path(b))
    constants = _constants(one, two), _constants(two, one)
    header = _header(one.model, two.model)
    tensors = _compare(*constants, _constant_changes)
    nodes = _compare(_nodes(one), _nodes(two), _node_changes)
    functions = _compare(_functions(one.model), _functions(two.model), _function_changes)
    return ModelDiff(
        same=not header and tensors.same and nodes.same and functions.same,
        a=_side(one),
        b=_side(two),
        header=header,
        ops=_op_counts(one, two),
        formats=_format_counts(*constants),
        tensors_same=tensors.equal,
        tensors_only_a=[constant.tensor for constant in tensors.only_a],
        tensors_only_b=[constant.tensor for constant in tensors.only_b],
        tensors_changed=[
            TensorChange(a=x.tensor, b=y.tensor, what=what) for x, y, what in tensors.changed
        ],
        nodes_same=nodes.equal,
        nodes_only_a=[_node(node) for node in nodes.only_a],
        nodes_only_b=[_node(node) for node in nodes.only_b],
        nodes_changed=[
            NodeChange(a=_node(x), b=_node(y), what=what) for x, y, what in nodes.changed
        ],
        functions_changed=[_function_name(x) for x, _, _ in functions.changed],
    )


def _compare(
    a: Mapping[str, _T], b: Mapping[str, _T], changes: Callable[[_T, _T], list[str]]
) -> _Compared[_T]:
    a, b = _paired(a, b), _paired(b, a)
    found = [(a[name], b[name], changes(a[name], b[name])) for name in a if name in b]
    changed = [change for change in found if change[2]]
    only_a = [item for name, item in a.items() if name not in b]
    only_b = [item for name, item in b.items() if name not in a]
    return _Compared(len(found) - len(changed), only_a, only_b, changed)


def _paired(own: Mapping[str, _T], other: Mapping[str, _T]) -> dict[str, _T]:
    """The same by other names: what was rescaled, or put in another order, in one model only has
    its name in the other."""
    new = (name for name in own if name not in other)
    names = {name: name.removesuffix(SMOOTHED).removesuffix(ORDERED) for name in new}
    alone = {name for name, old in names.items() if old in other and old not in own}
    return {names[name] if name in alone else name: item for name, item in own.items()}


def _side(held: Inventory) -> Side:
    where = Counter(node.where for node in held.nodes)
    return Side(
        path=str(held.path),
        bytes=held.nbytes,
        ir_version=held.model.ir_version,
        opsets={o.domain or "ai.onnx": o.version for o in held.model.opset_import},
        nodes=where["graph"],
        body_nodes=where["body"],
        functions={_function_name(f): len(f.node) for f in held.model.functions},
    )


def _header(a: onnx.ModelProto, b: onnx.ModelProto) -> list[HeaderChange]:
    one, two = _facts(a), _facts(b)
    return [
        HeaderChange(what=what, a=one.get(what, ""), b=two.get(what, ""))
        for what in dict.fromkeys([*one, *two])
        if one.get(what) != two.get(what)
    ]


def _facts(model: onnx.ModelProto) -> dict[str, str]:
    """What is said of a model as a whole."""
    facts = {"IR version": str(model.ir_version)}
    facts["producer"] = f"{model.producer_name} {model.producer_version}".strip()
    facts |= {f"opset {o.domain or 'ai.onnx'}": str(o.version) for o in model.opset_import}
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        facts[f"{kind}s"] = ", ".join(value.name for value in values)
        facts |= {f"{kind} {value.name}": _type(value) for value in values}
    facts |= {f"metadata {prop.key}": prop.value for prop in model.metadata_props}
    return facts


def _type(value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    if not kind.elem_type:
        return str(value.type).replace("\n", " ").strip()
    shape = [dim.dim_param or str(dim.dim_value) for dim in kind.shape.dim]
    known = onnx.TensorProto.DataType.values()
    name = (
        onnx.TensorProto.DataType.Name(kind.elem_type).lower()
        if kind.elem_type in known
        else f"type {kind.elem_type}"
    )
    return f"{name} [{', '.join(shape)}]" if kind.HasField("shape") else name


def _constants(held: Inventory, other: Inventory) -> dict[str, _Constant]:
    """Constants by name; a quantized weight has the names it had before, in a body as ``other``
    has it, and is counted once."""
    found = {}
    parts = set()
    for weight in held.quantized.values():
        parts |= {part.name for part in weight.parts.values()}
        nbytes = weight.nbytes
        for old, (_, shape) in weight.notes.originals.items():
            inner = f"{weight.path}{old}"
            name = inner if inner in other.tensors or old in found else old
            tensor = Tensor(
                name=name,
                format=weight.notes.format,
                shape=shape,
                bytes=nbytes,
                read_by=weight.notes.replaces,
                sqnr_db=finite(weight.notes.sqnr_db),
            )
            found[name] = _Constant(tensor, weight)
            nbytes = 0
    for name, stored in held.tensors.items():
        if name not in parts:
            tensor = Tensor(
                name=name,
                format=stored.dtype,
                shape=stored.shape,
                bytes=stored.nbytes,
                read_by=_reader(held, name),
            )
            found[name] = _Constant(tensor, stored)
    return found


def _reader(held: Inventory, name: str) -> str:
    return held.readers[name][0].op if name in held.readers else ""


def _constant_changes(a: _Constant, b: _Constant) -> list[str]:
    what = ["format"] if a.tensor.format != b.tensor.format else []
    what += ["shape"] if a.tensor.shape != b.tensor.shape else []
    if what:
        return what
    equal = a.tensor.bytes == b.tensor.bytes and a.data.digest == b.data.digest
    return [] if equal else ["values"]


def _nodes(held: Inventory) -> dict[str, PlacedNode]:
    """Nodes outside functions by their first named output; a Constant node counts as a constant."""
    return {
        next(filter(None, node.outputs), node.name): node
        for node in held.nodes
        if node.where != "function"
        and not (node.op == "Constant" and held.tensors.keys() & node.outputs[:1])
    }


def _node(node: PlacedNode) -> Node:
    return Node(name=node.name, op=node.op)


def _node_changes(a: PlacedNode, b: PlacedNode) -> list[str]:
    pairs = {
        "op": (a.op, b.op),
        "inputs": (a.inputs, b.inputs),
        "outputs": (a.outputs, b.outputs),
        "attributes": (_attributes(a.node), _attributes(b.node)),
    }
    return [what for what, (one, two) in pairs.items() if one != two]


def _attributes(node: onnx.NodeProto) -> list[bytes]:
    """Attributes in a form to compare; of graphs their ends only, as their nodes stand alone."""
    found = []
    for attribute in node.attribute:
        copy = onnx.AttributeProto()
        copy.CopyFrom(attribute)
        copy.ClearField("doc_string")
        if attribute.type == onnx.AttributeProto.GRAPH:
            copy.g.ClearField("node")
            copy.g.ClearField("initializer")
            copy.g.ClearField("value_info")
        if attribute.HasField("t"):
            copy.t.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(attribute.t)))
        found.append(copy.SerializeToString(deterministic=True))
    return sorted(found)


def _functions(model: onnx.ModelProto) -> dict[str, onnx.FunctionProto]:
    return {_function_name(function): function for function in model.functions}


def _function_name(function: onnx.FunctionProto) -> str:
    name = f"{function.domain}.{function.name}"
    return f"{name}:{function.overload}" if function.overload else name


def _function_changes(a: onnx.FunctionProto, b: onnx.FunctionProto) -> list[str]:
    one, two = (f.SerializeToString(deterministic=True) for f in (a, b))
    return ["body"] if one != two else []


def _op_counts(a: Inventory, b: Inventory) -> list[OpCount]:
    one, two = _ops(a), _ops(b)
    nothing = (0, 0)
    counts = []
    for op, where in sorted(one.keys() | two.keys()):
        (nodes_a, bytes_a), (nodes_b, bytes_b) = (d.get((op, where), nothing) for d in (one, two))
        counts.append(
            OpCount(op=op, where=where, a=nodes_a, b=nodes_b, bytes_a=bytes_a, bytes_b=bytes_b)
        )
    return counts


def _ops(held: Inventory) -> dict[tuple[str, Where], tuple[int, int]]:
    """Number of nodes, and bytes of the constants that they read first, by op and where it is."""
    nodes = Counter((node.op, node.where) for node in held.nodes)
    sizes: Counter[tuple[str, Where]] = Counter()
    for name, tensor in held.tensors.items():
        if name in held.readers:
            reader = held.readers[name][0]
            sizes[reader.op, reader.where] += tensor.nbytes
    return {key: (count, sizes[key]) for key, count in nodes.items()}


def _format_counts(a: dict[str, _Constant], b: dict[str, _Constant]) -> list[FormatCount]:
    one, two = _by_format(a), _by_format(b)
    counts = []
    for name in sorted(one.keys() | two.keys()):
        sizes_a, sizes_b = one.get(name, []), two.get(name, [])
        counts.append(
            FormatCount(
                format=name,
                a=len(sizes_a),
                b=len(sizes_b),
                bytes_a=sum(sizes_a),
                bytes_b=sum(sizes_b),
            )
        )
    return counts


def _by_format(constants: dict[str, _Constant]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for constant in constants.values():
        found.setdefault(constant.tensor.format, []).append(constant.tensor.bytes)
    return found
