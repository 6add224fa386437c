"""Matrix: every architecture in every dialect, exported, compiled and run.

For each pair a tiny model with seeded random weights is exported and each of its files is

- held against PyTorch: the outputs of the export in onnxruntime, relative to the largest;
- compiled by the recipe with the full check: the compiled file against the export with decoded
  weights in place, both run in onnxruntime;
- run: the compiled file in stock onnxruntime must give finite outputs of the export's shapes.

A cell is the share of the weights that the recipe quantized, the least of a model's files; or what
failed. Weights are here all float constants of rank 2, whatever reads them and wherever they stand,
so that tables which nothing multiplies or looks up (sinusoids, small biases) count as left alone.

The dialects are those of the installed route: the torch route needs `.[export]`, the optimum route
`.[export-optimum]` in an environment of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from common import Target, arguments, finish, show, workspace

from sardonyx.compiler import SardonyxError, VerificationError, compile
from sardonyx.models.export.dialects import DIALECTS, pairs
from sardonyx.models.export.directory import ExportError
from sardonyx.models.export.examples import Arrays, Example, torch_examples
from sardonyx.models.export.export_model import choose_route, export_model
from sardonyx.models.export.settings import ExportSettings
from sardonyx.models.tiny import ARCHITECTURES, tiny_directory

RECIPE = "gobo"
COVERAGE = 0.9
"""Least share of the weights: a tenth of the tiny Whisper are sinusoids that an Add reads."""

BOUND = 1e-5
"""Relative: float32 sums of two or three layers in another order."""

ROUTE = choose_route(ExportSettings())
INSTALLED = [name for name, settings in DIALECTS.items() if settings.route == ROUTE]


@dataclass(frozen=True)
class Cell:
    """What became of a pair.

    ``coverage``: share of the weights quantized, least over the files. ``difference``: of the
    export from PyTorch, greatest over the files. ``failure``: empty if all went well.
    """

    coverage: float = 0.0
    difference: float = 0.0
    failure: str = ""

    def __str__(self) -> str:
        return self.failure or f"{self.coverage:.1%}"


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, tuple(ARCHITECTURES))
    parser.add_argument("--dialects", nargs="+", choices=DIALECTS, default=INSTALLED)
    options = parser.parse_args()
    cells: dict[str, dict[str, Cell]] = {}
    with workspace() as folder:
        for architecture in options.models:
            directory = tiny_directory(architecture, folder / architecture)
            examples = torch_examples(directory)
            cells[architecture] = {
                dialect: measure(directory, examples, dialect, folder / f"{dialect}.onnx")
                for dialect in options.dialects
                if (architecture, dialect) in pairs()
            }
    rows = [[name, *(row.get(d, "") for d in options.dialects)] for name, row in cells.items()]
    show(f"Weights quantized by {RECIPE}", ("architecture", *options.dialects), rows)
    every = [cell for row in cells.values() for cell in row.values()]
    targets = [
        Target("cells that failed", sum(bool(c.failure) for c in every), "<=", 0),
        Target("largest difference from PyTorch", max(c.difference for c in every), "<=", BOUND),
        Target("least coverage", min(c.coverage for c in every), ">=", COVERAGE),
    ]
    results = {name: {d: asdict(c) for d, c in row.items()} for name, row in cells.items()}
    finish("matrix", results, targets, options.json)


def measure(
    directory: Path, examples: dict[str, list[Example]], dialect: str, output: Path
) -> Cell:
    """Export, compile and run a model in a dialect."""
    try:
        files = export_model(directory, output, DIALECTS[dialect])
        measured = [measure_file(file, examples[part_of(file, output)]) for file in files]
    except (SardonyxError, ExportError) as error:
        return Cell(failure=str(error))
    coverage, difference = zip(*measured, strict=True)
    return Cell(min(coverage), max(difference))


def part_of(file: Path, output: Path) -> str:
    """The part of the model that a file holds."""
    return file.stem.removeprefix(output.stem).removeprefix(".")


def measure_file(path: Path, examples: list[Example]) -> tuple[float, float]:
    """Share of the weights quantized, and the export's difference from PyTorch."""
    session = ort.InferenceSession(path)
    wanted = {value.name for value in session.get_inputs()}
    feeds = [{n: a for n, a in example.inputs.items() if n in wanted} for example in examples]
    exported = [outputs(session, feed) for feed in feeds]
    samples, output = path.with_suffix(".npz"), path.with_suffix(".compiled.onnx")
    np.savez(samples, **feeds[0])
    compiled = compile(path, RECIPE, samples, verify="full")
    compiled.save(output)
    session = ort.InferenceSession(output)
    for feed, before in zip(feeds, exported, strict=True):
        check_run(outputs(session, feed), before)
    differences = [difference(a, e.outputs) for a, e in zip(exported, examples, strict=True)]
    left = sum(floats(compiled.model.graph)) / sum(floats(onnx.load(path).graph))
    return 1 - left, max(differences)


def floats(graph: onnx.GraphProto) -> Iterator[int]:
    """Sizes of the float matrices among a graph's constants, and among those of its subgraphs."""
    tensors = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            for inner in (attribute.g, *attribute.graphs):
                yield from floats(inner)
    for tensor in tensors:
        if len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT:
            yield int(np.prod(tensor.dims))


def outputs(session: ort.InferenceSession, feed: Arrays) -> Arrays:
    """Outputs by name."""
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def check_run(after: Arrays, before: Arrays) -> None:
    """Refuse outputs that are not finite or of other shapes than the export's."""
    for name, array in after.items():
        if array.shape != before[name].shape or not np.isfinite(array).all():
            raise VerificationError(f"output '{name}' has another shape or is not finite")


def difference(outputs: Arrays, expected: Arrays) -> float:
    """The largest, relative to the largest value."""
    return max(
        float(np.abs(outputs[name] - array).max() / np.abs(array).max())
        for name, array in expected.items()
    )


if __name__ == "__main__":
    main()
