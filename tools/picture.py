"""Draw the README's pictures of the terminal: `python tools/picture.py` writes tools/*.svg."""

import contextlib
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from sardonyx.compiler import compile
from sardonyx.compiler.cli.diff_table import print_diff
from sardonyx.compiler.cli.table import print_report
from sardonyx.compiler.diff import diff
from sardonyx.models import minilm_l3_onnx

BEFORE, AFTER = "minilm-l3.onnx", "minilm-l3.gobo.onnx"


def main() -> None:
    """Compile the demo's model, compare the two files, and record what the commands print."""
    with TemporaryDirectory() as folder, contextlib.chdir(folder):
        shutil.copy(minilm_l3_onnx(), BEFORE)
        compiled = compile(BEFORE, "gobo")
        compiled.save(AFTER)
        found = diff(BEFORE, AFTER)
    screen = terminal(100, f"compile {BEFORE} --recipe gobo")
    print_report(compiled.report, screen)
    screen.print(f"Wrote {AFTER}")
    draw(screen, "compile.svg")
    screen = terminal(80, f"sardonyx diff {BEFORE} {AFTER}")
    print_diff(found, screen)
    draw(screen, "diff.svg")


def terminal(width: int, command: str) -> Console:
    """A recorded terminal in which a command has been given."""
    console = Console(record=True, width=width, highlight=False)
    console.print(f"[bold]$ {command}[/]")
    return console


def draw(console: Console, name: str) -> None:
    """Write what a terminal shows."""
    svg = console.export_svg(title="sardonyx")
    svg = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    Path(__file__).with_name(name).write_text(svg)


if __name__ == "__main__":
    main()
