"""Where the bytes of a compiled file are: every field of it, measured one by one."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import onnx

from sardonyx.compiler.report import CompileReport
from sardonyx.runtime_ops.ops import DOMAIN
from sardonyx.runtime_ops.ops.custom_op import INPUTS

_ROLES = {
    "indices": "packed indices",
    "centroids": "centroids",
    "positions": "outlier positions",
    "values": "outlier values",
}
_PLAIN = "unquantized FP32 tensors"
_OTHER = "other initializers (shapes, ids)"
_HEADERS = "initializers' names, shapes and framing"
_FUNCTIONS = "function bodies"
_NOTES = "node metadata"
_NODES = "nodes"
_REST = "rest of the graph (inputs, outputs, types, header)"

Rows = tuple[tuple[str, ...], list[tuple[str, str, str]]]


def account(path: Path, report: CompileReport) -> dict[str, Any]:
    """``parts``: bytes by part, adding up to the file; ``unquantized``: name, bytes, reason."""
    data = path.read_bytes()
    model = onnx.ModelProto.FromString(data)
    parts = Counter(dict.fromkeys((*_ROLES.values(), _PLAIN, _OTHER, _HEADERS), 0))
    unquantized = _initializers(model.graph, report, parts)
    for node in model.graph.node:
        whole = _field(node)
        del node.metadata_props[:]
        parts[_NODES] += _field(node)
        parts[_NOTES] += whole - _field(node)
    parts[_FUNCTIONS] = sum(_field(function) for function in model.functions)
    parts[_REST] = _rest(onnx.ModelProto.FromString(data))
    if sum(parts.values()) != len(data):
        raise AssertionError(f"{sum(parts.values())} bytes accounted for, the file has {len(data)}")
    return {"bytes": len(data), "parts": dict(parts), "unquantized": unquantized}


def account_rows(accounted: dict[str, Any]) -> Rows:
    """Columns and rows of a table of the parts."""
    total = accounted["bytes"]
    parts = [*accounted["parts"].items(), ("the file", total)]
    rows = [(part, f"{size:,}", f"{size / total:.4%}") for part, size in parts]
    return ("part", "bytes", "share"), rows


def unquantized_rows(accounted: dict[str, Any]) -> Rows:
    """Columns and rows of a table of the FP32 tensors, by reason; numbers in names become ``*``."""
    reasons: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for name, size, reason in accounted["unquantized"]:
        reasons[reason][re.sub(r"\d+", "*", name)].append(size)
    rows = []
    for reason, kinds in reasons.items():
        every = [size for sizes in kinds.values() for size in sizes]
        for label, sizes in [(reason, every), *(("  " + name, s) for name, s in kinds.items())]:
            rows.append((label, str(len(sizes)), f"{sum(sizes):,}"))
    return ("why, and which tensors", "count", "bytes"), rows


def _initializers(
    graph: onnx.GraphProto, report: CompileReport, parts: Counter[str]
) -> list[tuple[str, int, str]]:
    roles: dict[str, str] = {}
    for node in graph.node:
        if node.domain == DOMAIN:
            roles |= {name: _ROLES[key] for name, key in zip(node.input[1:], INPUTS, strict=True)}
    reasons = {skip.name: skip.reason for skip in report.skipped}
    unquantized = []
    for tensor in graph.initializer:
        size = len(tensor.raw_data)
        plain = _PLAIN if tensor.data_type == onnx.TensorProto.FLOAT else _OTHER
        role = roles.get(tensor.name, plain)
        parts[role] += size
        parts[_HEADERS] += _field(tensor) - size
        if role == _PLAIN:
            reason = reasons.get(tensor.name, "an operand of arithmetic, not a weight")
            unquantized.append((tensor.name, size, reason))
    return unquantized


def _rest(model: onnx.ModelProto) -> int:
    """Bytes of all other fields, with those that frame the graph itself."""
    graph = _field(model.graph)
    listed = sum(_field(item) for item in (*model.graph.node, *model.graph.initializer))
    model.ClearField("functions")
    model.ClearField("graph")
    return int(model.ByteSize() + graph - listed)


def _field(message: Any) -> int:
    """Bytes of a message as a field of another: tag (numbers below 16), length and content.

    ModelProto's ``functions`` is field 25, whose tag takes two bytes.
    """
    size = message.ByteSize()
    tag = 2 if isinstance(message, onnx.FunctionProto) else 1
    return int(tag + max(1, -(-size.bit_length() // 7)) + size)
