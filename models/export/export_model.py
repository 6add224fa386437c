"""export_model: the routes behind one function, and the files they leave."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from sardonyx.models.export import optimum_route, torch_route
from sardonyx.models.export.directory import (
    TASK_NAMES,
    ExportError,
    find_task,
    first_sentence,
    read_config,
)
from sardonyx.models.export.settings import ExportSettings
from sardonyx.models.optional import optional
from sardonyx.models.quiet import quiet

LARGEST_INLINE = 1_900_000_000
"""Bytes; a protobuf message cannot exceed 2 GiB. Above it, weights go to ``NAME.data``."""

WriteParts = Callable[[Path, str, Path, ExportSettings], dict[str, Path]]
"""Directory, task, folder and settings to the files of the model's parts by their names."""

ROUTES: dict[str, WriteParts] = {
    "optimum": optimum_route.write_parts,
    "torch": torch_route.write_parts,
}

_NEEDS = {"optimum": ("optimum",), "torch": ("torch", "transformers")}
"""Libraries without which a route cannot begin."""

_OWN = {"optimize": "optimum", "merge": "optimum", "dynamo": "torch"}
"""ExportSettings that one route alone has."""


_DEFAULT = ExportSettings()


def export_model(directory: Path, output: Path, settings: ExportSettings = _DEFAULT) -> list[Path]:
    """Export a local Hugging Face model directory; returns the files written.

    A model of one part is written to ``output``. Of an encoder-decoder, ``t5.onnx`` stands for
    ``t5.encoder.onnx``, ``t5.decoder.onnx`` (the first tokens) and, for tasks with past,
    ``t5.decoder_with_past.onnx``; or, merged, ``t5.encoder.onnx`` and ``t5.decoder_merged.onnx``.

    Raises:
        ExportError: the directory, the model or a setting is wrong; nothing was written.
        ImportError: the route is not installed; the message says what to run.
    """
    route = choose_route(settings)
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        raw, packed = Path(folder, "raw"), Path(folder, "packed")
        raw.mkdir()
        packed.mkdir()
        with quiet():
            parts = _write_parts(route, directory, raw, settings)
        for name, path in parts.items():
            part = output.with_name(f"{output.stem}.{name}{output.suffix}") if name else output
            _pack(path, packed / part.name, settings.opset)
        return _publish(packed, output.parent)


def choose_route(settings: ExportSettings) -> str:
    """The route by name; raises ExportError on a setting that the other one has."""
    asked = {route: name for name, route in _OWN.items() if getattr(settings, name)}
    route: str = settings.route
    if route == "auto":
        route = next(iter(asked), "optimum" if _optimum_is_installed() else "torch")
    for other, name in asked.items():
        if other != route:
            raise ExportError(f"{name} is a setting of the {other} route, not of the {route} route")
    return route


def _optimum_is_installed() -> bool:
    try:
        return bool(distribution("optimum-onnx"))
    except PackageNotFoundError:
        return False


def _write_parts(
    route: str, directory: Path, folder: Path, settings: ExportSettings
) -> dict[str, Path]:
    read_config(directory)
    for library in _NEEDS[route]:
        optional(library)
    task = find_task(directory) if settings.task == "auto" else settings.task
    if task not in TASK_NAMES:
        raise ExportError(f"there is no task '{task}': there is {', '.join(TASK_NAMES)}")
    try:
        return ROUTES[route](directory, task, folder, settings)
    except (ExportError, ImportError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ExportError(
            f"the {route} route cannot export '{directory}' for {task}: {first_sentence(error)}"
        ) from error


def _pack(raw: Path, packed: Path, opset: int | None) -> None:
    """Write a part under its final name, with the weights that lay beside it inside if they fit."""
    model = onnx.load(raw)
    written = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset not in (None, written):
        raise ExportError(f"the exporter wrote opset {written} where {opset} was asked for")
    large = sum(len(tensor.raw_data) for tensor in model.graph.initializer) > LARGEST_INLINE
    onnx.save(model, packed, save_as_external_data=large, location=f"{packed.name}.data")


def _publish(folder: Path, target: Path) -> list[Path]:
    """Move all files to where they belong."""
    files = {path: target / path.name for path in sorted(folder.iterdir())}
    for file in files.values():
        if file.is_dir():
            raise ExportError(f"'{file}' is a folder: give another output")
    return [path.replace(file) for path, file in files.items()]
