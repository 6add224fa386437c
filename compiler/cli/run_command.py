"""sardonyx run: run a model on arrays from a file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from sardonyx.compiler.cli.screen import errors_as_sentences, out
from sardonyx.compiler.execute import execute, read_arrays
from sardonyx.compiler.write import check_output, replacing


class Backend(StrEnum):
    """What runs the model."""

    onnxruntime = "onnxruntime"
    reference = "reference"
    accelerator = "accelerator"


def run_model(
    model: Annotated[
        Path,
        typer.Argument(help="The .onnx file to run.", show_default=False, readable=False),
    ],
    input_: Annotated[
        Path, typer.Option("--input", help="An .npz file with an array for each graph input.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where to write the outputs (.npz).")
    ] = None,
    backend: Annotated[
        Backend,
        typer.Option(
            help="onnxruntime, the numpy definitions (slow), or GOBO's chip (for gobo recipes)."
        ),
    ] = Backend.onnxruntime,
) -> None:
    """Run MODEL; print its outputs' shapes and ranges, and write them where -o says."""
    with errors_as_sentences("interrupted: nothing was written"):
        if output is not None:
            check_output(output, model, input_)
        with _no_log():  # a fallback is said below the table
            ran = execute(model, read_arrays(input_), backend.value)
        by = backend.value
        if ran.native and ran.native.active:
            by += f", native ops: {ran.native.detail}"
        table = Table(title=f"Outputs of {escape(model.name)} ({by})", title_justify="left")
        for column in ("output", "type", "shape", "least", "mean", "greatest"):
            table.add_column(column, overflow="fold")
        for name, array in ran.outputs.items():
            row = (name, str(array.dtype), str(list(array.shape)), *_range(array))
            table.add_row(*map(escape, row))
        out.print(table)
        if ran.native and not ran.native.active:
            note = f"The native GOBO ops, of float32 models, were not used: {ran.native.detail}."
            out.print(note, markup=False, soft_wrap=True)
        if output is not None:
            with replacing(output) as temporary, temporary.open("wb") as file:
                np.savez(file, **ran.outputs)  # type: ignore[arg-type]
            out.print(f"Wrote {output}", markup=False, soft_wrap=True)


@contextmanager
def _no_log() -> Iterator[None]:
    log = logging.getLogger("sardonyx")
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


def _range(array: NDArray[np.generic]) -> tuple[str, str, str]:
    if array.size == 0 or array.dtype.kind not in "fiub":
        return "", "", ""
    values = array.astype(np.float64)
    return f"{values.min():.6g}", f"{values.mean():.6g}", f"{values.max():.6g}"
