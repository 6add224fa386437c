"""sardonyx export: a Hugging Face model directory as ONNX."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from sardonyx.compiler.cli.screen import errors_as_sentences, out, spinner
from sardonyx.compiler.write import check_output
from sardonyx.models.export.directory import TASK_NAMES, ExportError
from sardonyx.models.export.export_model import export_model
from sardonyx.models.export.settings import ExportSettings
from sardonyx.runtime_ops.errors import InputError


class Route(StrEnum):
    """Which exporter."""

    auto = "auto"
    optimum = "optimum"
    torch = "torch"


class Attention(StrEnum):
    """How the model computes attention."""

    eager = "eager"
    sdpa = "sdpa"


class Optimize(StrEnum):
    """Levels of onnxruntime's transformer optimizer."""

    O1 = "O1"
    O2 = "O2"
    O3 = "O3"


def export(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="HF_DIR",
            help="A local Hugging Face model directory: config.json and weights.",
            show_default=False,
            readable=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="Where to write. Of an encoder-decoder, t5.onnx stands for t5.encoder.onnx, "
            "t5.decoder.onnx and t5.decoder_with_past.onnx.",
        ),
    ],
    route: Annotated[
        Route, typer.Option(help="The exporter; auto is optimum where it is installed.")
    ] = Route.auto,
    task: Annotated[
        str, typer.Option(help=f"auto (what config.json names), {', '.join(TASK_NAMES)}.")
    ] = "auto",
    opset: Annotated[
        int | None, typer.Option(help="ONNX opset; the exporter's choice if not given.")
    ] = None,
    attention: Annotated[
        Attention | None,
        typer.Option(help="How to compute attention; transformers' choice if not given."),
    ] = None,
    dynamo: Annotated[
        bool,
        typer.Option(
            "--dynamo/--no-dynamo", help="Torch route: torch.export rather than TorchScript."
        ),
    ] = False,
    optimize: Annotated[
        Optimize | None,
        typer.Option(
            help="Optimum route: fuse by onnxruntime's transformer optimizer. From O2 on, "
            "encoders take sentences padded on the right only."
        ),
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Optimum route: both decoders in one file.")
    ] = False,
) -> None:
    """Export a Hugging Face model directory to ONNX, without the network."""
    with errors_as_sentences("interrupted: nothing was written"):
        if output.suffix != ".onnx":
            raise InputError(f"output '{output}' must end in .onnx")
        check_output(output, *(directory.iterdir() if directory.is_dir() else ()))
        settings = ExportSettings(
            route=route.value,
            task=task,
            opset=opset,
            attention=attention.value if attention else None,
            dynamo=dynamo,
            optimize=optimize.value if optimize else None,
            merge=merge,
        )
        try:
            with spinner("exporting"):
                written = export_model(directory, output, settings)
        except (ExportError, ImportError) as error:
            raise InputError(str(error)) from error
        for path in written:
            out.print(f"Wrote {path}", markup=False, soft_wrap=True)
