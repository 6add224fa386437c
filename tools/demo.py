"""What `tools/demo` runs: compile paraphrase-MiniLM-L3 and embed sentences with both files."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from rich.console import Console
from rich.table import Table

from sardonyx.models import embed, minilm_l3_onnx, minilm_tokenizer
from sardonyx.runtime_ops import session

FOLDER = Path("build/demo")

SENTENCES = [
    ("The cat sits on the mat.", "A cat is sitting on a rug."),
    ("How do I reset my password?", "I forgot my login credentials."),
    ("The film was a delight.", "I enjoyed every minute of the movie."),
    ("The film was a delight.", "The committee approved the budget."),
    ("She plays the violin.", "Shares fell sharply on Monday."),
]


def main() -> None:
    """Compile, embed, compare, print."""
    console = Console(highlight=False)
    FOLDER.mkdir(parents=True, exist_ok=True)
    original = FOLDER / "minilm-l3.onnx"
    shutil.copyfile(minilm_l3_onnx(), original)
    compiled = FOLDER / "minilm-l3.gobo.onnx"
    console.print(f"[bold]$ compile {original} --recipe gobo[/]")
    command = Path(sys.executable).with_name("compile")
    subprocess.run([command, original, "--recipe", "gobo", "-o", compiled], check=True)

    native = session(compiled)
    runs = (ort.InferenceSession(original), ort.InferenceSession(compiled), native)
    table = Table("first sentence", "second sentence", "original", "compiled", "native ops")
    table.title = "Cosine similarity of sentence embeddings"
    columns = zip(*map(similarities, runs), strict=True)
    for (first, second), values in zip(SENTENCES, columns, strict=True):
        table.add_row(first, second, *(f"{value:.3f}" for value in values))
    console.print(table)
    if native.native.active:
        console.print(f"Native ops ({native.native.detail}): weights stay packed in memory.")
    else:
        console.print(f"The native ops were not used: {native.native.detail}.")
    for path in (original, compiled):
        console.print(f"{path.stat().st_size / 1e6:7.2f} MB  {path}")
    console.print(
        f"[bold]{original.stat().st_size / compiled.stat().st_size:.2f} times smaller.[/] The file "
        "needs nothing but onnxruntime; open it in Netron to look inside."
    )


def similarities(runner: ort.InferenceSession) -> list[float]:
    """Cosine similarity of each pair of sentences."""
    flat = [sentence for pair in SENTENCES for sentence in pair]
    inputs = [info.name for info in runner.get_inputs()]
    vectors = embed(partial(runner.run, None), minilm_tokenizer(), flat, inputs=inputs)
    return [float(value) for value in np.sum(vectors[::2] * vectors[1::2], axis=1)]


if __name__ == "__main__":
    main()
