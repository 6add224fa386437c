"""How many attentions of a model are one op in the graph that onnxruntime runs.

Counted in that graph (onnxruntime's optimized one, default options), whoever fused them: of the
export as it is, of what the transformer optimizer makes of it and of what we make of it. How many
there are comes from the model's configuration: one a layer of an encoder, two of a decoder that
reads one, and as many again in a merged decoder, which holds two decoders. The outputs of both
rewritten files are held against the export's, on the inputs that PyTorch is asked about.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from common import Target, show, workspace
from matrix import INSTALLED, difference, outputs, part_of
from peers import optimizer

from sardonyx.compiler import compile
from sardonyx.compiler.messages import graphs
from sardonyx.models.export.dialects import DIALECTS, pairs
from sardonyx.models.export.examples import Arrays, Example, torch_examples
from sardonyx.models.export.export_model import export_model
from sardonyx.models.optional import optional
from sardonyx.models.tiny import ARCHITECTURES, tiny_directory

NAMED = ("bert", "roberta", "distilbert", "electra", "mpnet", "t5", "marian")
"""Architectures whose every attention is to be fused."""

ATTENTIONS = (
    "Attention",
    "DecoderMaskedMultiHeadAttention",
    "GroupQueryAttention",
    "MultiHeadAttention",
)
BOUND = 1e-5
"""Relative: float32 sums in another order."""

WRONG = 1e-3
"""Relative: a file whose outputs differ by more computes something else."""

KINDS = {"gpt2": "gpt2", "t5": "t5", "marian": "bart", "whisper": "bart"}
"""What the transformer optimizer takes an architecture for, if not for BERT."""

BY = ("onnxruntime", "optimizer", "ours")


@dataclass(frozen=True)
class Cell:
    """A file: attentions in ``all``, and how many of them are fused by each of `BY`.

    ``differences``: of a file's outputs from the export's. ``failures``: what stopped one.
    ``reasons``: of ours, why attentions were left as they are.
    """

    all: int
    fused: dict[str, int]
    differences: dict[str, float]
    failures: dict[str, str]
    reasons: list[str]

    def text(self, by: str) -> str:
        """Fused out of all."""
        return "fails" if by in self.failures else f"{self.fused[by]}/{self.all}"


def measure(options: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """Figures of every file of every architecture and dialect, and the targets."""
    dialects = options.dialects or INSTALLED
    rows: dict[str, dict[str, Cell]] = {}
    with workspace() as folder:
        for architecture in (name for name in options.models if name in ARCHITECTURES):
            directory = tiny_directory(architecture, folder / architecture)
            examples = torch_examples(directory)
            for dialect in (d for d in dialects if (architecture, d) in pairs()):
                output = folder / f"{dialect}.onnx"
                cells = measure_model(directory, examples, dialect, output)
                for part, cell in cells.items():
                    rows.setdefault(f"{architecture} {part}".strip(), {})[dialect] = cell
    print_figures(rows, dialects)
    results = {name: {d: asdict(cell) for d, cell in row.items()} for name, row in rows.items()}
    return results, targets_of(rows)


def measure_model(
    directory: Path, examples: dict[str, list[Example]], dialect: str, output: Path
) -> dict[str, Cell]:
    """Export a model in a dialect and measure each of its files, by the part it holds."""
    config = optional("transformers").AutoConfig.from_pretrained(directory)
    files = {
        part_of(file, output): file for file in export_model(directory, output, DIALECTS[dialect])
    }
    return {
        part: measure_file(file, config, attentions(config, part), examples[part])
        for part, file in files.items()
    }


def attentions(config: Any, part: str) -> int:
    """How many attentions the configuration of a model asks for in one of its parts."""
    if not part.startswith("decoder"):
        return int(config.num_hidden_layers)
    layers = getattr(config, "num_decoder_layers", None) or config.decoder_layers
    return int(layers) * (4 if part == "decoder_merged" else 2)


def measure_file(path: Path, config: Any, count: int, examples: list[Example]) -> Cell:
    """What each makes of a file."""
    cell = Cell(count, {"onnxruntime": fused(path)}, {}, {}, [])
    session = ort.InferenceSession(path)
    wanted = {value.name for value in session.get_inputs()}
    feeds = [{n: a for n, a in example.inputs.items() if n in wanted} for example in examples]
    made = [outputs(session, feed) for feed in feeds]
    exported = [{n: m[n] for n in e.outputs} for m, e in zip(made, examples, strict=True)]
    for by, make in (("optimizer", optimize), ("ours", compile_for_cpu)):
        output = path.with_suffix(f".{by}.onnx")
        try:
            cell.reasons.extend(make(path, output, config))
            cell.fused[by] = fused(output)
            cell.differences[by] = furthest(output, feeds, exported)
            if cell.differences[by] > WRONG:
                raise ValueError(f"outputs are off by {cell.differences[by]:.2g} of the largest")
        except Exception as error:  # the optimizer has no error of its own
            cell.failures[by] = f"{type(error).__name__}: {error}".splitlines()[0]
    return cell


def optimize(path: Path, output: Path, config: Any) -> list[str]:
    """The transformer optimizer, told all that it asks for."""
    kind = KINDS.get(config.model_type, "bert")
    optimizer(path, output, kind, config.num_attention_heads, config.hidden_size, None)
    return []


def compile_for_cpu(path: Path, output: Path, _: Any) -> list[str]:
    """Ours; returns why attentions were left as they are."""
    compiled = compile(path, "float", target="cpu")
    compiled.save(output)
    missed = [miss for miss in compiled.report.not_fused if miss.by == "fuse-attention"]
    return [f"{miss.node}: {miss.reason}" for miss in missed]


def fused(path: Path) -> int:
    """Attention ops in the graph that onnxruntime makes of a file, subgraphs included."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path.with_suffix(".session.onnx"))
    options.log_severity_level = 3
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model = onnx.load(options.optimized_model_filepath)
    ops = [node.op_type for graph in graphs(model.graph) for node in graph.node]
    return sum(op in ATTENTIONS for op in ops)


def furthest(path: Path, feeds: list[Arrays], exported: list[Arrays]) -> float:
    """The largest difference of a file's outputs from those of the export."""
    session = ort.InferenceSession(path)
    wanted = [value.name for value in session.get_inputs()]
    return max(
        difference(outputs(session, {name: feed[name] for name in wanted}), before)
        for feed, before in zip(feeds, exported, strict=True)
    )


def print_figures(rows: dict[str, dict[str, Cell]], dialects: list[str]) -> None:
    """A table for each of `BY`, then why ours left anything."""
    for by in BY[::-1]:
        cells = [[row[d].text(by) if d in row else "" for d in dialects] for row in rows.values()]
        table = [[name, *texts] for name, texts in zip(rows, cells, strict=True)]
        show(f"Attentions fused by {by}", ("architecture", *dialects), table)
    print_once("Left as they are", rows, lambda cell: cell.reasons)
    print_once("Fails", rows, lambda cell: [f"{by}: {e}" for by, e in cell.failures.items()])


def print_once(
    title: str, rows: dict[str, dict[str, Cell]], texts: Callable[[Cell], list[str]]
) -> None:
    """What is to be said of cells, once an architecture."""
    said: dict[tuple[str, str], list[str]] = {}
    for name, row in rows.items():
        for dialect, cell in row.items():
            for text in texts(cell):
                said.setdefault((name, text), []).append(dialect)
    if said:
        table = [(name, text, ", ".join(where)) for (name, text), where in said.items()]
        show(title, ("architecture", "what", "dialects"), table)


def targets_of(rows: dict[str, dict[str, Cell]]) -> list[Target]:
    """All attentions of the named architectures are fused, and all outputs stay."""
    cells = [cell for row in rows.values() for cell in row.values()]
    named = [c for name, row in rows.items() if name.split()[0] in NAMED for c in row.values()]
    shares = [cell.fused.get("ours", 0) / cell.all for cell in named]
    furthest = [cell.differences["ours"] for cell in cells if "ours" in cell.differences]
    failed = sum("ours" in cell.failures for cell in cells)
    return [
        Target("least share of attentions fused", min(shares, default=1.0), ">=", 1.0),
        Target("files that failed", failed, "<=", 0),
        Target("largest difference from the export", max(furthest, default=0.0), "<=", BOUND),
    ]
