"""Nodes, bytes and outputs of what each makes of a file; which ops only one side removes."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cleanup_models import SIZES, Feed, feed, files
from cleanup_peers import MAKERS, ORIGINAL, OURS
from common import Target, show, workspace
from int8_variants import Failures, apart, build, reason

from sardonyx.compiler.messages import graphs
from sardonyx.compiler.quiet_session import quiet_session
from sardonyx.compiler.verify import relative_difference


@dataclass(frozen=True)
class Made:
    """A file. ``ops``: how many nodes of each, Constant aside, in all graphs. ``difference``: of
    its outputs, nodes run as they are written, from the original's, relative to the largest."""

    nodes: int
    bytes: int
    ops: dict[str, int]
    difference: float


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all files, and the targets."""
    rows: dict[str, dict[str, Made]] = {}
    failed: dict[str, Failures] = {}
    with files(options) as found:
        for name, path in found.items():
            with workspace() as folder:
                rows[name], failed[name] = measure_file(path, folder)
            show_file(name, rows[name], failed[name])
    show_ops("What only Sardonyx removes", rows, removed_alone)
    show_ops("What others remove and Sardonyx leaves", rows, left_alone)
    results = {
        name: {"files": {by: asdict(made) for by, made in row.items()}, "failures": failed[name]}
        for name, row in rows.items()
    }
    return results, [target for name, row in rows.items() for target in targets_of(name, row)]


def measure_file(path: Path, folder: Path) -> tuple[dict[str, Made], Failures]:
    """What can be made of a file, and why the rest cannot."""
    made, failures = build(MAKERS, path, folder)
    rows = {}
    for by, file in ({ORIGINAL: path} | made).items():
        try:
            rows[by] = apart(describe, path, file)
        except Exception as error:  # outputs that onnxruntime does not compute any more
            failures[by] = reason(error)
    return rows, failures


def describe(path: Path, file: Path) -> Made:
    """The figures of a file that was made of another."""
    ops = ops_of(file)
    size = file.stat().st_size + _outside(file)
    return Made(sum(ops.values()), size, dict(ops), furthest(path, file))


def ops_of(path: Path) -> Counter[str]:
    """Nodes by op."""
    model = onnx.load(path, load_external_data=False)
    ops = Counter(node.op_type for graph in graphs(model.graph) for node in graph.node)
    del ops["Constant"]
    return ops


def _outside(path: Path) -> int:
    """Bytes of the data that a file keeps in others."""
    model = onnx.load(path, load_external_data=False)
    held = [t.external_data for g in graphs(model.graph) for t in g.initializer]
    return sum(int(entry.value) for data in held for entry in data if entry.key == "length")


def furthest(path: Path, file: Path) -> float:
    """The largest relative difference of any output, over two sets of sizes."""
    session = quiet_session(path, optimize=False)
    feeds = [feed(session, sizes) for sizes in SIZES]
    names = [value.name for value in session.get_outputs()]
    return max(
        relative_difference(want, have)
        for want, have in zip(
            _outputs(path, feeds, names), _outputs(file, feeds, names), strict=True
        )
    )


def _outputs(path: Path, feeds: list[Feed], names: list[str]) -> list[np.ndarray[Any, Any]]:
    session = quiet_session(path, optimize=False)
    wanted = [value.name for value in session.get_inputs()]
    given = [{name: feed[name] for name in wanted} for feed in feeds]
    return [array for feed in given for array in session.run(names, feed)]


def show_file(name: str, row: dict[str, Made], failures: Failures) -> None:
    """A row for each file."""
    rows = [
        (by, f"{made.nodes:,}", f"{made.bytes:,}", f"{made.difference:.2g}")
        for by, made in row.items()
    ]
    rows += [(by, "", "", why) for by, why in failures.items()]
    show(name, ("by", "nodes", "bytes", "difference"), rows)


def others(row: dict[str, Made]) -> list[Made]:
    """The files that peers made."""
    return [made for by, made in row.items() if by not in (ORIGINAL, OURS)]


def removed_alone(row: dict[str, Made]) -> Counter[str]:
    """By op, how many nodes fewer ours has than any other."""
    least = {op: min(m.ops.get(op, 0) for m in others(row)) for op in row[ORIGINAL].ops}
    return Counter({op: count - row[OURS].ops.get(op, 0) for op, count in least.items()})


def left_alone(row: dict[str, Made]) -> Counter[str]:
    """By op, how many nodes fewer the best of the others has than ours."""
    least = {op: min(m.ops.get(op, 0) for m in others(row)) for op in row[OURS].ops}
    return Counter({op: row[OURS].ops[op] - count for op, count in least.items()})


def show_ops(title: str, rows: dict[str, dict[str, Made]], count: Any) -> None:
    """Counts by op and file."""
    counted = {n: +count(row) for n, row in rows.items() if OURS in row and others(row)}
    table = [
        (name, ", ".join(f"{op} {n}" for op, n in ops.most_common()))
        for name, ops in counted.items()
    ]
    show(title, ("file", "nodes by op"), table)


def targets_of(name: str, row: dict[str, Made]) -> list[Target]:
    """Equal outputs, no more nodes than the best of the others, a file that did not grow."""
    mine = row.get(OURS, Made(1 << 30, 1 << 60, {}, math.nan))
    fewest = min((made.nodes for made in others(row) if made.difference <= 1e-4), default=0)
    return [
        Target(f"{name}: difference", mine.difference, "<=", 1e-6),
        Target(f"{name}: nodes", mine.nodes, "<=", fewest or row[ORIGINAL].nodes),
        Target(f"{name}: bytes", mine.bytes, "<=", row[ORIGINAL].bytes),
    ]
