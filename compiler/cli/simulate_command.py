"""sardonyx simulate: what a compiled model costs on models of chips."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import Annotated

import typer

from sardonyx.compiler.chip_trace import write_trace
from sardonyx.compiler.cli.screen import errors_as_sentences, out
from sardonyx.compiler.cli.simulate_table import points_table, print_simulations
from sardonyx.compiler.simulate import Workload
from sardonyx.compiler.simulate_page import page
from sardonyx.compiler.simulate_report import report_of
from sardonyx.compiler.sweep import parse_axis, plot, sweep, write_csv
from sardonyx.compiler.write import check_output, replacing
from sardonyx.runtime_ops.accelerator.chip_file import chip_files, load_chip
from sardonyx.runtime_ops.errors import InputError

_PLOTS = ("png", "svg", "pdf")


def simulate_model(
    model: Annotated[
        Path,
        typer.Argument(help="The .onnx file to simulate.", show_default=False, readable=False),
    ],
    chip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="gobo (if not given), tensorcore-like, tpu-like, tpu-like-int8, eyeriss-like, or "
            "a .toml file of your own; with +gobo-memory behind it, GOBO in DRAM only. Several "
            "are shown side by side.",
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="How many sequences the model is given.")
    ] = None,
    sequence: Annotated[int | None, typer.Option(min=1, help="How many tokens each has.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write all numbers as JSON.")] = None,
    trace: Annotated[
        Path | None,
        typer.Option(help="Write when each unit is busy, as JSON for Chrome and Perfetto."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Write drawings and numbers as a page that needs nothing beside it."),
    ] = None,
    sweep_: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="FIELD=a,b,c",
            help="Try these values of batch, sequence, or a field of the chips, as "
            "dram.bandwidth; several are combined.",
        ),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a line for each point swept.")] = None,
    plot_: Annotated[
        Path | None,
        typer.Option("--plot", help="Draw time and energy of what is swept (.png, .svg, .pdf)."),
    ] = None,
) -> None:
    """Show what MODEL costs on a chip: cycles, energy and DRAM traffic of each layer."""
    with errors_as_sentences("interrupted: nothing was written"):
        if bool(sweep_) < bool(csv or plot_):
            raise InputError("--csv and --plot show what --sweep varies: give that too")
        if sweep_ and (report or trace or html):
            raise InputError("--sweep writes --csv and --plot, not --report, --trace or --html")
        form = plot_.suffix.removeprefix(".") if plot_ else ""
        if plot_ and form not in _PLOTS:
            raise InputError(f"plot '{plot_}' must end in .png, .svg or .pdf")
        named = chip or ["gobo"]
        given = {"report": report, "trace": trace, "html": html, "csv": csv, "plot": plot_}
        outputs = {f"--{name}": path for name, path in given.items() if path is not None}
        chips = [load_chip(name) for name in named]
        _check(outputs, [model, *(file for name in named for file in chip_files(name))])
        axes = [parse_axis(text) for text in sweep_ or ()]
        workload = Workload(model)
        _check(outputs, workload.sources)
        if axes:
            points = list(sweep(workload, chips, axes, batch, sequence))
            _write(
                (csv, lambda path: write_csv(path, points)),
                (plot_, lambda path: plot(path, points, form)),
            )
            out.print(points_table(points))
        else:
            simulations = [workload.on(each, batch, sequence) for each in chips]
            _write(
                (report, lambda path: path.write_text(report_of(simulations).to_json())),
                (trace, lambda path: write_trace(path, simulations)),
                (html, lambda path: path.write_text(page(simulations), encoding="utf-8")),
            )
            print_simulations(simulations, out)
        for output in outputs.values():
            out.print(f"Wrote {output}", markup=False, soft_wrap=True)


def _check(outputs: Mapping[str, Path], sources: Iterable[Path]) -> None:
    """Refuse outputs, by option, that cannot be written, or would take the place of another file
    of this command."""
    for option, path in outputs.items():
        try:
            check_output(path, *sources)
        except InputError as error:
            raise InputError(f"{option}: {error}") from error
    for (one, path), (other, second) in combinations(outputs.items(), 2):
        if path.resolve() == second.resolve():
            raise InputError(f"{one} and {other} cannot both be written to '{second}'")


def _write(*outputs: tuple[Path | None, Callable[[Path], object]]) -> None:
    """Write all files, or none: each takes its place once all of them are written."""
    with ExitStack() as stack:
        for output, write in outputs:
            if output is not None:
                write(stack.enter_context(replacing(output)))
