"""What every command shares: the console, errors as one sentence, progress."""

import contextlib
import signal
import sys
from collections.abc import Iterator

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from sardonyx.passes.journal import Progress as Report
from sardonyx.runtime_ops.errors import InputError, VerificationError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


@contextlib.contextmanager
def errors_as_sentences(interrupted: str) -> Iterator[None]:
    """Turn what goes wrong into one sentence on stderr and the documented exit code."""
    try:
        yield
    except InputError as error:
        _fail(str(error), 1)
    except VerificationError as error:
        _fail(str(error), 3)
    except KeyboardInterrupt as error:
        _fail(str(error) or interrupted, 1)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}", 1)
    except MemoryError:
        _fail("not enough memory for this model", 1)


@contextlib.contextmanager
def stopped_as_interrupted() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C, so that work which can be gone on with is kept."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(text: str, code: int) -> None:
    err.print("[bold red]Error:[/]", end=" ")
    err.print(text, markup=False, soft_wrap=True)
    raise typer.Exit(code)


@contextlib.contextmanager
def progress_bar() -> Iterator[Report]:
    """A function to report progress to; draws a bar on a terminal, nothing in a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=err, transient=True, disable=not err.is_terminal
    ) as bar:
        tasks = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield report


@contextlib.contextmanager
def spinner(what: str) -> Iterator[None]:
    """Show on a terminal that long work goes on, also while sys.stderr is redirected."""
    console = Console(file=sys.stderr)
    with console.status(what) if console.is_terminal else contextlib.nullcontext():
        yield
