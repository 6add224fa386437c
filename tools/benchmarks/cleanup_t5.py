"""From dynamic to static INT8: recipe `static` on a published flan-t5-small, encoder and decoder.

Ranges are measured on what the published files are fed as they read training sentences of the movie
reviews and write. On held-out sentences every variant is held against the published files, and all
against the same weights with activations in floating point, *exact* below. Products that the range
of each run serves better stay dynamic: ``--least-gain-db`` says by how much. *Logits* are those of
the tokens that the published files write.
"""

from __future__ import annotations

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from shutil import copy
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import t5_data
from common import SEED, Target, arguments, finish, show, workspace
from fusion_latency import quartiles, session, time_rounds
from session_graph import optimized
from t5_data import Array, Feeds, Writer, decoder_feeds

from sardonyx.compiler import compile, load_recipe
from sardonyx.compiler.emit import emit
from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.journal import Journal
from sardonyx.passes.quantize.integer_sums import IntegerSums
from sardonyx.passes.rewrite import release, replace_nodes, take_outputs
from sardonyx.passes.within import Within

LEAST_GAIN_DB = [2.0, 1000.0, 0.0, 1.0, 3.0, 4.0]
"""What the range of each run must gain for a product to stay dynamic; 1000: none does."""

PUBLISHED, EXACT = "published, dynamic", "exact"
LENGTHS = {"1x16": 16, "1x64": 64}
"""Tokens that the encoder reads, and the decoder has written, of the timed inputs."""

Files = dict[str, Path]
"""Encoder and decoder."""


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of all variants, and the targets."""
    with workspace() as folder:
        texts = t5_data.sentences(options.calibration, held_out=False)
        data = t5_data.collect(folder / "data", texts)
        files = {PUBLISHED: _copies(folder), EXACT: _exact_files(folder)}
        reports: dict[str, Any] = {}
        for title, (target, overrides) in _variants(options).items():
            files[title], reports[title] = _compiled(folder, title, target, overrides, data)
        held_out = t5_data.sentences(options.sentences, held_out=True)
        outputs = _compare(files, held_out)
        graphs = {title: _graphs(files[title]) for title in files if title != EXACT}
        seconds = _latency({t: f for t, f in files.items() if t != EXACT}, options.rounds)
    results = {"outputs": outputs, "graphs": graphs, "seconds": seconds, "reports": reports}
    _print(results, len(held_out))
    return results, _targets(outputs, next(iter(_variants(options))))


def _copies(folder: Path) -> Files:
    """The published files, where others may be written beside them."""
    names = {part: folder / f"published.{part}.onnx" for part in t5_data.files()}
    return {part: Path(copy(path, names[part])) for part, path in t5_data.files().items()}


def _variants(options: argparse.Namespace) -> dict[str, tuple[str, list[str]]]:
    """Targets and overrides, by title."""
    made = {f"static, {db:g} dB": ("portable", db) for db in options.least_gain_db}
    made |= {f"static, {target}": (target, options.least_gain_db[0]) for target in options.targets}
    return {title: (t, [f"freeze-ranges.least_gain_db={db}"]) for title, (t, db) in made.items()}


def _compiled(
    folder: Path, title: str, target: str, overrides: list[str], data: Files
) -> tuple[Files, dict[str, Any]]:
    """Both files compiled, and what became of their activations."""
    made: Files = {}
    report: dict[str, Any] = {}
    for part, path in t5_data.files().items():
        done = compile(path, load_recipe("static", overrides), data[part], target)
        made[part] = folder / f"{title}.{part}.onnx"
        done.save(made[part])
        ruined = [miss for miss in done.report.not_fused if miss.by == "freeze-ranges"]
        report[part] = {
            "static": len(done.report.activations),
            "dynamic": [f"{miss.node}: {miss.reason}" for miss in ruined],
            "seconds": done.report.seconds,
        }
    return made, report


def _exact_files(folder: Path) -> Files:
    """The published weights, multiplied by activations that are not rounded."""
    made = {}
    for part, path in t5_data.files().items():
        source, graph = load(path)
        LiftConstants().run(graph, Journal())
        within = Within.of(graph)
        products = [node for node in graph.nodes if node.op == "MatMulInteger"]
        replacements = {}
        for sums in (IntegerSums.at(node, within) for node in products):
            replacements |= {id(node): [] for node in sums.nodes}
            replacements[id(sums.nodes[-1])] = [_exact_product(sums)]
        replace_nodes(graph, replacements)
        RemoveUnused().run(graph, Journal())
        made[part] = folder / f"exact.{part}.onnx"
        onnx.save(emit(source, graph), made[part])
    return made


def _exact_product(sums: IntegerSums) -> gs.Node:
    product, cast, total = sums.nodes
    rounding = product.inputs[0].inputs[0]
    codes, zero = (product.inputs[slot].values.astype(np.float32) for slot in (1, 3))
    scale = sums.beside(rounding.outputs[1]).values
    weight = gs.Constant(f"{product.name}/Weight", (codes - zero) * scale)
    release(product)
    release(cast)
    return gs.Node("MatMul", product.name, {}, [rounding.inputs[0], weight], take_outputs(total))


@dataclass(frozen=True)
class Made:
    """What a variant makes of one sentence: hidden states, logits of what the published files
    wrote, what it writes itself."""

    hidden: Array
    logits: Array
    written: list[int]


def _compare(files: dict[str, Files], texts: list[str]) -> dict[str, dict[str, float]]:
    """Of each variant, how far it is from the published files and from the exact ones."""
    encode = t5_data.tokenizer().encode
    read = [encode(text).ids for text in texts]
    published: list[list[int]] = []
    made: dict[str, list[Made]] = {}
    for title, parts in files.items():
        writer = Writer.of(**parts)
        rows = []
        for number, ids in enumerate(read):
            _, hidden = writer.read(ids)
            written = writer.write(hidden)
            if title == PUBLISHED:
                published.append([token for token in written if token != t5_data.END])
            rows.append(
                Made(hidden, writer.logits(decoder_feeds(hidden, published[number])), written)
            )
        made[title] = rows
    return {
        title: _distance(rows, made[PUBLISHED], "published") | _distance(rows, made[EXACT], "exact")
        for title, rows in made.items()
    }


def _distance(rows: list[Made], wanted: list[Made], name: str) -> dict[str, float]:
    """Of all tokens of all sentences."""
    hidden = _side_by_side([row.hidden for row in rows], [row.hidden for row in wanted])
    logits = _side_by_side([row.logits for row in rows], [row.logits for row in wanted])
    same = [a.written == b.written for a, b in zip(rows, wanted, strict=True)]
    return {
        f"hidden, cosine to {name}": _cosine(*hidden),
        f"hidden, largest difference to {name}": float(np.abs(hidden[0] - hidden[1]).max()),
        f"logits, cosine to {name}": _cosine(*logits),
        f"logits, largest difference to {name}": float(np.abs(logits[0] - logits[1]).max()),
        f"next tokens as {name}": float(np.mean(logits[0].argmax(1) == logits[1].argmax(1))),
        f"texts as {name}": float(np.mean(same)),
    }


def _side_by_side(rows: list[Array], wanted: list[Array]) -> tuple[Array, Array]:
    """All tokens' vectors, of both."""
    return tuple(np.concatenate([row[0] for row in side]) for side in (rows, wanted))


def _cosine(a: Array, b: Array) -> float:
    """Mean over vectors."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / lengths))


def _graphs(parts: Files) -> dict[str, Any]:
    """Nodes and bytes of the files, and nodes that onnxruntime runs of them."""
    found = {}
    for part, path in parts.items():
        ops = Counter(node.op_type for node in onnx.load(path).graph.node)
        ops.pop("Constant", None)
        runs = Counter(node.op_type for node in optimized(path).graph.node)
        found[part] = {
            "nodes": ops.total(),
            "bytes": path.stat().st_size,
            "nodes that run": runs.total(),
            "ops": dict(ops.most_common()),
            "ops that run": dict(runs.most_common()),
        }
    return found


def _latency(files: dict[str, Files], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of a run, and quartiles of its ratio to the published file's in one round."""
    found: dict[str, dict[str, list[float]]] = {title: {} for title in files}
    for part in t5_data.files() if rounds else ():
        makers = {title: partial(session, parts[part]) for title, parts in files.items()}
        for name, length in LENGTHS.items():
            feed = _feed(part, length)
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                seconds = process.submit(time_rounds, makers, feed, rounds).result()
            for title, row in seconds.items():
                ratios = quartiles(row / seconds[PUBLISHED])
                found[title][f"{part}, {name}"] = [1e3 * float(np.median(row)), *ratios]
    return found


def _feed(part: str, length: int) -> Feeds:
    """Made-up tokens, and hidden states of the size that the model's have."""
    generator = np.random.default_rng(SEED)
    ids = generator.integers(100, 30_000, length).tolist()
    if part == "decoder":
        hidden = generator.normal(0, 0.2, (1, length, 512)).astype(np.float32)
        return decoder_feeds(hidden, ids)
    return {"input_ids": np.array([ids]), "attention_mask": np.ones((1, length), np.int64)}


def _print(results: dict[str, Any], count: int) -> None:
    outputs, graphs = results["outputs"], results["graphs"]
    columns = [key for key in outputs[EXACT] if "largest" not in key]
    rows = [(title, *(f"{row[key]:.4f}" for key in columns)) for title, row in outputs.items()]
    show(f"{count} held-out sentences", ("variant", *columns), rows)
    rows = [
        (title, part, f"{_frozen(results, title, part)}", *map(str, list(row.values())[:3]))
        for title, parts in graphs.items()
        for part, row in parts.items()
    ]
    columns = ["variant", "file", "ranges: static + dynamic", "nodes", "bytes", "nodes that run"]
    show("Files", columns, rows)
    times = results["seconds"]
    columns = list(times[PUBLISHED])
    cells = {t: [f"{row[c][0]:.2f}; {row[c][2]:.3f}" for c in columns] for t, row in times.items()}
    show("ms; ratio to published", ("variant", *columns), [(t, *row) for t, row in cells.items()])


def _frozen(results: dict[str, Any], title: str, part: str) -> str:
    report = results["reports"].get(title)
    return f"{report[part]['static']} + {len(report[part]['dynamic'])}" if report else ""


def _targets(outputs: dict[str, dict[str, float]], best: str) -> list[Target]:
    """No farther from what the weights mean than the published files are."""
    targets = []
    for what in ("hidden", "logits"):
        key = f"{what}, cosine to exact"
        gap = outputs[best][key] - outputs[PUBLISHED][key]
        targets.append(Target(f"{best}: {key} - the published files'", gap, ">=", 0.0))
    return targets


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__)
    parser.add_argument("--calibration", type=int, default=256, help="sentences to measure on")
    parser.add_argument("--sentences", type=int, default=256, help="held-out sentences")
    parser.add_argument("--rounds", type=int, default=20, help="of timings; 0: none")
    text = "what the range of each run must gain to stay; the first goes for all targets"
    parser.add_argument("--least-gain-db", type=float, nargs="+", default=LEAST_GAIN_DB, help=text)
    parser.add_argument("--targets", nargs="*", default=["cpu", "cpu-vnni"])
    options = parser.parse_args()
    results, targets = measure(options)
    finish("cleanup_t5", results, targets, options.json)


if __name__ == "__main__":
    main()
