"""sardonyx compile: rewrite a model by a recipe."""

from contextlib import nullcontext
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import Annotated

import typer

from sardonyx.compiler.cli.screen import (
    errors_as_sentences,
    out,
    progress_bar,
    stopped_as_interrupted,
)
from sardonyx.compiler.cli.table import print_report
from sardonyx.compiler.dump import Dump
from sardonyx.compiler.pipeline import compile
from sardonyx.compiler.recipe import load_recipe
from sardonyx.compiler.write import check_output, replacing
from sardonyx.runtime_ops.errors import InputError, VerificationError


class Target(StrEnum):
    """Where the compiled model is to run."""

    portable = "portable"
    cpu = "cpu"
    cpu_avx2 = "cpu-avx2"
    cpu_vnni = "cpu-vnni"


class Verify(StrEnum):
    """How much is checked."""

    off = "off"
    default = "default"
    full = "full"


def compile_model(
    model: Annotated[
        Path,
        typer.Argument(help="The .onnx file to compile.", show_default=False, readable=False),
    ],
    recipe: Annotated[
        str,
        typer.Option(help="A preset (see 'sardonyx recipes'), or a path to a .toml or .py file."),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where to write; MODEL.RECIPE.onnx if not given."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="What to measure activations on: an .npz file with an array for each input, a "
            "folder of them, or a .txt or .jsonl of sentences.",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="The tokenizer.json for calibration sentences.")
    ] = None,
    random_calibration: Annotated[
        int, typer.Option(metavar="N", min=0, help="Measure on N made-up samples instead.")
    ] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PASS.ARG=VALUE", help="Change an argument of a pass."),
    ] = None,
    target: Annotated[
        Target, typer.Option(help="Where the result is to run: any ONNX runtime, or a CPU.")
    ] = Target.portable,
    report: Annotated[
        Path | None, typer.Option(help="Write what was done, and why, as JSON.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Do all but write.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 3 if an eligible weight was left alone.")
    ] = False,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="Stop rewriting after this pass.")
    ] = None,
    dump: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the graph after each stage there.")
    ] = None,
    verify: Annotated[
        Verify,
        typer.Option(help="Check what changed (default), the whole model too (full), or nothing."),
    ] = Verify.default,
) -> None:
    """Rewrite MODEL by a recipe; print what was done."""
    with errors_as_sentences("interrupted: nothing was written"), stopped_as_interrupted():
        if model.is_dir():
            raise InputError(f"model '{model}' is a folder: give an .onnx file")
        chosen = load_recipe(recipe)
        written = output or model.with_name(f"{model.stem}.{chosen.name}.onnx")
        checkpoint = written.with_name(f"{written.name}.calibration")
        for path in filter(None, (written, report, checkpoint)):
            check_output(path, model, Path(recipe), *filter(None, [calibration, tokenizer]))
        if report and report.absolute() == written.absolute():
            raise InputError(f"model and report cannot both be written to '{report}'")
        observe = Dump(dump) if dump else None
        with progress_bar() as progress:
            compiled = compile(
                model,
                chosen,
                calibration,
                target.value,
                tokenizer=tokenizer,
                random_calibration=random_calibration,
                checkpoint=checkpoint,
                overrides=set_ or (),
                verify=verify.value,
                until=until,
                progress=progress,
                observe=observe,
            )
        for path, source in product(filter(None, (written, report)), compiled.sources):
            check_output(path, source)
        left = [skip for skip in compiled.report.skipped if skip.eligible]
        with replacing(report) if report else nullcontext() as temporary:
            if temporary:
                temporary.write_text(compiled.report.to_json())
            if not dry_run and not (strict and left):
                compiled.save(written)
        print_report(compiled.report, out)
        if strict and left:
            raise VerificationError(
                f"--strict: {len(left)} eligible weights were left alone, "
                f"the first '{left[0].name}': {left[0].reason}"
            )
        text = "Nothing written (--dry-run)." if dry_run else f"Wrote {written}"
        out.print(text, markup=False, soft_wrap=True)
