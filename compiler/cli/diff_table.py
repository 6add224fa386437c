"""The differences of two models on a screen; what is alike shares a line."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sardonyx.compiler.cli.table import megabytes, span
from sardonyx.compiler.model_diff import (
    FormatCount,
    ModelDiff,
    Node,
    NodeChange,
    OpCount,
    Side,
    Tensor,
    TensorChange,
)

_T = TypeVar("_T", Tensor, TensorChange, Node, NodeChange)

Count = OpCount | FormatCount

_MOST_ROWS = 8
_MOST_LINES = 4
"""Of one sort; --json gives all."""

_NARROW = 8
"""Columns for a range of decibels, on two lines."""

_LONGEST = 30
_SHORTEST = 12
"""Characters of a text that differs, and of a name where there is no room for more."""


def print_diff(diff: ModelDiff, console: Console) -> None:
    """Both files; then, where they differ, ops, formats, constants, nodes and the rest."""
    for letter, side in (("A", diff.a), ("B", diff.b)):
        console.print(f"[bold]{letter}[/]  {escape(_side(side))}", soft_wrap=True)
    if diff.same:
        console.print("No difference.")
        return
    counts: tuple[tuple[Sequence[Count], Callable[[ModelDiff], Table]], ...] = (
        (diff.ops, _op_table),
        (diff.formats, _format_table),
    )
    for items, table in counts:
        if any(map(_differs, items)):
            console.print(table(diff))
    for line in (*_constants(diff, console.width), *_nodes(diff, console.width), *_rest(diff)):
        console.print(line, markup=False, soft_wrap=True)


def _side(side: Side) -> str:
    parts = [megabytes(side.bytes), f"{side.nodes} nodes"]
    parts += [f"{side.body_nodes} in bodies of If, Loop, Scan"] if side.body_nodes else []
    parts += [f"{len(side.functions)} functions"] if side.functions else []
    parts += [f"{domain} {version}" for domain, version in side.opsets.items()]
    return f"{side.path}: {', '.join(parts)}"


def _op_table(diff: ModelDiff) -> Table:
    """Ops that differ in number or bytes, the largest first; all others share a row."""
    table = _table("op", "nodes", "constants")
    outside = [op for op in diff.ops if op.where != "function"]
    shown = sorted(filter(_differs, outside), key=lambda op: -max(op.bytes_a, op.bytes_b))[
        :_MOST_ROWS
    ]
    for op in shown:
        _add(table, op.op if op.where == "graph" else f"{op.op} (in a body)", [op])
    others = [op for op in outside if op not in shown]
    _add(table, f"{len(others)} more ops", others)
    _add(table, "in functions", [op for op in diff.ops if op.where == "function"])
    stored_a, stored_b = (sum(getattr(f, key) for f in diff.formats) for key in _BYTES)
    rest = diff.a.bytes - stored_a, diff.b.bytes - stored_b
    table.add_row("names, wiring, notes", "", "", *map(megabytes, rest), end_section=True)
    table.add_row("whole file", "", "", megabytes(diff.a.bytes), megabytes(diff.b.bytes))
    return table


def _differs(item: Count) -> bool:
    return (item.a, item.bytes_a) != (item.b, item.bytes_b)


def _format_table(diff: ModelDiff) -> Table:
    """Number formats, the largest first; what the weights lost that only one model holds so."""
    table = _table("number format", "count", "bytes")
    losses = _losses(diff)
    if losses:
        table.add_column("SQNR", justify="right", max_width=_NARROW)
    ordered = sorted(diff.formats, key=lambda form: -max(form.bytes_a, form.bytes_b))
    for form in ordered[:_MOST_ROWS]:
        lost = losses.get(form.format)
        _add(table, form.format, [form], span(lost, "{:.1f}", " dB") if lost else "")
    others = ordered[_MOST_ROWS:]
    _add(table, f"{len(others)} more formats", others)
    return table


def _losses(diff: ModelDiff) -> dict[str, list[float]]:
    """SQNR of quantized weights, in dB, by format."""
    changed = (tensor for change in diff.tensors_changed for tensor in (change.a, change.b))
    found: dict[str, list[float]] = defaultdict(list)
    for tensor in (*changed, *diff.tensors_only_a, *diff.tensors_only_b):
        if tensor.sqnr_db is not None:
            found[tensor.format].append(tensor.sqnr_db)
    return found


_BYTES = ("bytes_a", "bytes_b")


def _table(first: str, counts: str, sizes: str) -> Table:
    table = Table(first)
    for name in (f"{counts} A", f"{counts} B", f"{sizes} A", f"{sizes} B"):
        table.add_column(name, justify="right")
    return table


def _add(table: Table, name: str, items: Sequence[Count], *more: str) -> None:
    """A row that sums up items; none for none."""
    if items:
        counts = (str(sum(getattr(item, key) for item in items)) for key in ("a", "b"))
        sizes = (megabytes(sum(getattr(item, key) for item in items)) for key in _BYTES)
        table.add_row(escape(name), *counts, *sizes, *more)


def _constants(diff: ModelDiff, width: int) -> list[str]:
    return [
        f"Constants: {diff.tensors_same} the same, {len(diff.tensors_changed)} changed, "
        f"{len(diff.tensors_only_a)} only in A, {len(diff.tensors_only_b)} only in B",
        *_alike(diff.tensors_changed, _tensor_change, lambda change: change.a.name, width),
        *_alike(diff.tensors_only_a, _tensor("A"), lambda tensor: tensor.name, width),
        *_alike(diff.tensors_only_b, _tensor("B"), lambda tensor: tensor.name, width),
    ]


def _tensor_change(change: TensorChange) -> str:
    a, b = change.a, change.b
    pairs = {
        "format": f"{a.format} -> {b.format}",
        "shape": f"{a.shape} -> {b.shape}",
        "values": "other values",
    }
    shape = [] if "shape" in change.what else [str(a.shape)]
    return " ".join(["of", a.read_by or "no op", *shape, *(pairs[what] for what in change.what)])


def _tensor(side: str) -> Callable[[Tensor], str]:
    def line(tensor: Tensor) -> str:
        kind = f"only in {side}: {tensor.format}"
        return f"{kind} {tensor.shape}" if len(tensor.shape) > 1 else kind

    return line


def _nodes(diff: ModelDiff, width: int) -> list[str]:
    return [
        f"Nodes: {diff.nodes_same} the same, {len(diff.nodes_changed)} changed, "
        f"{len(diff.nodes_only_a)} only in A, {len(diff.nodes_only_b)} only in B",
        *_alike(diff.nodes_changed, _node_change, lambda change: change.a.name, width),
        *_alike(diff.nodes_only_a, _node("A"), lambda node: node.name, width),
        *_alike(diff.nodes_only_b, _node("B"), lambda node: node.name, width),
    ]


def _node_change(change: NodeChange) -> str:
    if "op" in change.what:
        return f"{change.a.op} -> {change.b.op}"
    return f"{change.a.op}: other {' and '.join(change.what)}"


def _node(side: str) -> Callable[[Node], str]:
    return lambda node: f"only in {side}: {node.op}"


def _alike(
    items: list[_T], line: Callable[[_T], str], name: Callable[[_T], str], width: int
) -> list[str]:
    """A line for those whose line is the same, the most numerous first; with the first's name, or
    as much of its end as ``width`` columns hold."""
    groups: dict[str, list[_T]] = defaultdict(list)
    for item in items:
        groups[line(item)].append(item)
    ordered = sorted(groups.items(), key=lambda group: -len(group[1]))
    lines: list[str] = []
    for text, group in ordered[:_MOST_LINES]:
        start = f"  {len(group):>3} {text}, {'like ' if len(group) > 1 else ''}"
        full, room = name(group[0]), max(width - len(start), _SHORTEST)
        lines.append(start + (full if len(full) <= room else f"...{full[3 - room :]}"))
    more = sum(len(group) for _, group in ordered[_MOST_LINES:])
    return [*lines, f"  {more:>3} more (--json lists all)"] if more else lines


def _rest(diff: ModelDiff) -> list[str]:
    functions = {
        "Functions only in A": sorted(diff.a.functions.keys() - diff.b.functions.keys()),
        "Functions only in B": sorted(diff.b.functions.keys() - diff.a.functions.keys()),
        "Functions that differ": diff.functions_changed,
    }
    return [
        *(f"{what}: {', '.join(names)}" for what, names in functions.items() if names),
        *(f"{change.what}: {_short(change.a)} -> {_short(change.b)}" for change in diff.header),
    ]


def _short(text: str) -> str:
    line = " ".join(text.split()) or "none"
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
