"""sardonyx explain: what a compile did to a model, or to one tensor or node of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from sardonyx.compiler.answer import Answer
from sardonyx.compiler.cli.outliers_table import print_outliers
from sardonyx.compiler.cli.screen import errors_as_sentences, out, progress_bar
from sardonyx.compiler.cli.table import (
    activation_table,
    megabytes,
    passes_table,
    print_decided,
    print_fused,
    print_kept,
    print_left_alone,
    tensor_table,
)
from sardonyx.compiler.explain import Explainer, explainer
from sardonyx.compiler.outlier_pictures import Pictures
from sardonyx.compiler.outliers import find_outliers
from sardonyx.compiler.report import CompileReport
from sardonyx.runtime_ops.errors import InputError


def explain_model(
    model: Annotated[
        Path,
        typer.Argument(
            help="A compiled .onnx file; a plain one with --outliers.",
            show_default=False,
            readable=False,
        ),
    ],
    name: Annotated[
        str | None,
        typer.Argument(help="A tensor or node, also one that is gone; without it, a summary."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="What 'compile --report' wrote; says more of the passes.")
    ] = None,
    outliers: Annotated[
        bool,
        typer.Option(
            "--outliers", help="Say instead which channels hold values far from all others."
        ),
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="DATA", help="What to measure outliers on, as 'compile' takes it."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="The tokenizer.json for calibration sentences.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Draw the range of each channel: a picture each of x, g, h, y, with all layers.",
        ),
    ] = None,
) -> None:
    """Say what was done to MODEL, or to the tensor or node NAME, and why."""
    with errors_as_sentences("interrupted"):
        if outliers:
            _refuse({"NAME": name, "--report": report}, "does not go with --outliers")
            _explain_outliers(model, calibration, tokenizer, plot)
            return
        measuring = {"--calibration": calibration, "--tokenizer": tokenizer, "--plot": plot}
        _refuse(measuring, "is for --outliers, which is missing")
        read = _read_report(report) if report else None
        answers = explainer(model, read)
        if name is None:
            _print_summary(answers, read)
        else:
            _print_answer(name, answers.about(name))


def _refuse(options: Mapping[str, object], reason: str) -> None:
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} {reason}")


def _explain_outliers(
    model: Path, calibration: Path | None, tokenizer: Path | None, plot: Path | None
) -> None:
    pictures = Pictures(plot) if plot else None
    with progress_bar() as progress:
        found = find_outliers(model, calibration, tokenizer=tokenizer, progress=progress)
    print_outliers(model, found, out)
    for path in pictures.draw(found) if pictures else ():
        out.print(f"Wrote [bold]{escape(str(path))}[/]", soft_wrap=True)


def _read_report(path: Path) -> CompileReport:
    try:
        return CompileReport.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"'{path}' is not a report that 'compile --report' wrote") from error


def _print_answer(name: str, answer: Answer) -> None:
    out.print(f"[bold]{escape(name)}[/]: {escape(answer.verdict)}", soft_wrap=True)
    for label, value in answer.facts:
        first, *more = escape(value).split("\n")
        out.print(f"  [dim]{label:<10}[/]{first}", soft_wrap=True)
        for line in more:
            out.print(f"{line:>{12 + len(line)}}", soft_wrap=True)


def _print_summary(answers: Explainer, report: CompileReport | None) -> None:
    held = answers.held
    file = f"[bold]{escape(str(held.path))}[/] ({megabytes(held.nbytes)})"
    if not answers.recipe:
        stored = megabytes(sum(tensor.nbytes for tensor in held.tensors.values()))
        out.print(
            f"{file} was not compiled by Sardonyx: "
            f"it holds {len(held.nodes)} nodes and {len(held.tensors)} constants ({stored}).",
            soft_wrap=True,
        )
        return
    out.print(f"{file} was compiled with recipe [bold]{escape(answers.recipe)}[/].")
    if report:
        out.print(passes_table(run for run in report.passes if run.rewrites))
    if answers.quantized:
        out.print(tensor_table(answers.quantized, out.width))
    if answers.activations:
        out.print(activation_table(answers.activations, answers.quantized, out.width))
    print_decided(answers.decided, out)
    print_left_alone(answers.left_alone, out)
    if report:
        print_fused(report, out)
        print_kept(report, out)
    size = megabytes(sum(tensor.nbytes for tensor in answers.others))
    out.print(f"Not touched: {len(answers.others)} other constants ({size}).")
    if answers.made:
        size = megabytes(sum(tensor.nbytes for tensor in answers.made))
        out.print(f"Of new nodes: {len(answers.made)} constants ({size}).")
    out.print("Give the name of a tensor or node after the file to learn about that.")
