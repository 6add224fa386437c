"""sardonyx view: a model's graph in the browser, drawn by Netron."""

import errno
import logging
import webbrowser
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from sardonyx.compiler.check_model import check_graph
from sardonyx.compiler.cli.screen import errors_as_sentences, out
from sardonyx.compiler.model_file import read_model
from sardonyx.runtime_ops.errors import InputError


def view_model(
    model: Annotated[
        Path, typer.Argument(help="The .onnx file to show.", show_default=False, readable=False)
    ],
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Where to serve; a free port if not given.")
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only serve: open the address yourself.")
    ] = False,
) -> None:
    """Show MODEL's graph in the browser, until Ctrl-C."""
    with errors_as_sentences("interrupted"):
        check_graph(read_model(model)[0], f"'{model}'")
        netron = _netron()
        address = _serve(netron, model, port)
    try:
        out.print(f"{model} is at {address} (Ctrl-C to stop)", markup=False, soft_wrap=True)
        if not no_browser and not webbrowser.open(address):
            out.print("No browser could be opened: open the address yourself.")
        netron.wait()
    except KeyboardInterrupt:
        netron.stop()


def _netron() -> ModuleType:
    try:
        import netron  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise InputError(
            "Netron, which draws the graph, is missing: pip install 'sardonyx[view]'"
        ) from error
    logging.getLogger("netron").setLevel(logging.WARNING)
    module: ModuleType = netron
    return module


def _serve(netron: ModuleType, model: Path, port: int | None) -> str:
    """The address at which Netron now serves the model, to this machine alone."""
    try:
        host, port = netron.start(str(model), address=("localhost", port), browse=False)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise InputError(f"port {port} is taken: give another, or none") from error
    return f"http://{host}:{port}"
