"""Draw the terminal picture of the README: `python tools/picture.py` writes tools/compile.svg."""

import re
from pathlib import Path

from rich.console import Console

from sardonyx.compiler import compile
from sardonyx.compiler.cli.table import print_report
from sardonyx.models import minilm_l3_onnx


def main() -> None:
    """Compile the demo's model and record what the command prints."""
    console = Console(record=True, width=100)
    console.print("[bold]$ compile minilm-l3.onnx --recipe gobo[/]")
    print_report(compile(minilm_l3_onnx(), "gobo").report, console)
    console.print("Wrote minilm-l3.gobo.onnx")
    svg = console.export_svg(title="sardonyx")
    svg = re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    Path(__file__).with_name("compile.svg").write_text(svg)


if __name__ == "__main__":
    main()
