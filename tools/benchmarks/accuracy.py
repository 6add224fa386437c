"""Accuracy: what compiling costs a real task, beside other ways to make the same weights small.

Each model embeds sentences in stock onnxruntime. A logistic head (scikit-learn, L2 with C = 1, on
embeddings of length 1) is fitted once, on FP32 embeddings of the 8,530 movie-review sentences, and
kept. Every variant then embeds the 2,128 VADER snippets that are not among those, and the kept head
classifies them:

- *accuracy* in points; *against FP32*: the difference and the standard error of the paired
  difference (per snippet, right or wrong); *agreement*: share of equal predictions;
- *cosine*: mean cosine of a snippet's embedding to its FP32 embedding; *shift*: length of the mean
  difference of the two, the part of the error that all snippets share (and that moves the border
  between the head's classes); *file* in MB.

Variants: gobo (3-bit weights, 4-bit embeddings), gobo-roberta (value and FFN-in weights of the
first half of the layers 4 bits), gobo4 (4, 4), gobo and gobo4 with solver=optimal, gobo with bits=2
(embeddings 4); *linear 3-bit*: the weights that gobo encodes, rounded per tensor (embeddings to 4
bits), size not comparable; *MatMulNBits 4-bit*: onnxruntime's, blocks of 32, embeddings FP32.

All sentences by default: about 3 minutes a MiniLM, 15 to 25 for all-mpnet-base-v2 on two cores.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from common import REAL, SUBJECTS, Target, arguments, console, finish, show, workspace
from numpy.typing import NDArray
from peers import linear, matmul_nbits
from sklearn.linear_model import LogisticRegression

from sardonyx import models
from sardonyx.compiler import compile, load_recipe

C = 1.0
COSINES = {("minilm-l6", "gobo"): 0.87, ("minilm-l6", "gobo4"): 0.96}

Data = tuple[list[str], NDArray[np.int64]]
Make = Callable[[Path, Path], None]


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, REAL)
    text = "use N training and N test sentences at most, of both labels as many as in all"
    parser.add_argument("--sentences", type=int, metavar="N", help=text)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    train = sampled(models.movie_review_sentences(), options.sentences)
    test = sampled(models.held_out_snippets(), options.sentences)
    console.print(f"{len(train[0]):,} training sentences, {len(test[0]):,} held-out snippets")
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for name in options.models:
        with workspace() as folder:
            results[name] = measure(name, folder, options.variants, train, test)
        print_figures(SUBJECTS[name].title, results[name])
        targets += targets_of(name, results[name])
    sentences = {"train": len(train[0]), "test": len(test[0]), "C": C}
    finish("accuracy", {"sentences": sentences} | results, targets, options.json)


def sampled(data: Data, count: int | None) -> Data:
    """At most ``count`` sentences, stratified by label; always the same ones."""
    sentences, labels = data
    if count is None or count >= len(sentences):
        return data
    order = np.random.default_rng(0).permutation(len(sentences))
    kept: list[int] = []
    for label in (0, 1):
        of_label = order[labels[order] == label]
        kept += of_label[: round(count * of_label.size / len(sentences))].tolist()
    return [sentences[i] for i in kept], labels[kept]


def gobo(recipe: str, *overrides: str) -> Make:
    """A compile by a recipe with arguments."""

    def make(path: Path, output: Path) -> None:
        compile(path, load_recipe(recipe, overrides)).save(output)

    return make


def linear_like_gobo(path: Path, output: Path) -> None:
    """Linear 3-bit rounding of just the tensors that gobo encodes, with gobo's bits."""
    report = compile(path, "gobo", verify="off").report
    linear(path, {tensor.name: tensor.bits for tensor in report.tensors}, output)


VARIANTS: dict[str, Make] = {
    "gobo": gobo("gobo"),
    "gobo optimal": gobo("gobo", "gobo.solver=optimal"),
    "gobo-roberta": gobo("gobo-roberta"),
    "gobo4": gobo("gobo4"),
    "gobo4 optimal": gobo("gobo4", "gobo.solver=optimal"),
    "gobo 2-bit": gobo("gobo", "gobo.bits=2"),
    "linear 3-bit": linear_like_gobo,
    "MatMulNBits 4-bit": matmul_nbits,
}


@dataclass(frozen=True)
class Task:
    """The kept head of a model, and what it is to classify. ``plain``: FP32 embeddings."""

    tokenizer: Any
    head: LogisticRegression
    plain: NDArray[np.float32]
    test: Data

    @classmethod
    def of(cls, name: str, path: Path, train: Data, test: Data) -> Task:
        """Fit the head of a subject, whose FP32 file is ``path``."""
        make = SUBJECTS[name].tokenizer
        assert make is not None
        tokenizer = make()
        head = LogisticRegression(C=C, max_iter=1000)
        head.fit(embeddings(path, tokenizer, train[0]), train[1])
        return cls(tokenizer, head, embeddings(path, tokenizer, test[0]), test)

    def figures(self, path: Path) -> dict[str, float]:
        """Scores of a file, and its bytes."""
        got = embeddings(path, self.tokenizer, self.test[0])
        return scores(self.head, self.plain, got, self.test[1]) | {"bytes": path.stat().st_size}


def measure(
    name: str, folder: Path, variants: list[str], train: Data, test: Data
) -> dict[str, dict[str, float]]:
    """Figures of FP32 and of some variants of a model."""
    path = SUBJECTS[name].write(folder)
    task = Task.of(name, path, train, test)
    results = {"FP32": task.figures(path)}
    for variant in variants:
        start, output = time.perf_counter(), folder / "variant.onnx"
        VARIANTS[variant](path, output)
        results[variant] = task.figures(output)
        console.log(f"{SUBJECTS[name].title}, {variant}: {time.perf_counter() - start:.0f} s")
        output.unlink()
    return results


def embeddings(path: Path, tokenizer: Any, sentences: list[str]) -> NDArray[np.float32]:
    """Embeddings of length 1 from a file in stock onnxruntime."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs = [info.name for info in session.get_inputs()]
    return models.embed(partial(session.run, None), tokenizer, sentences, inputs=inputs)


def scores(
    head: LogisticRegression,
    plain: NDArray[np.float32],
    got: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> dict[str, float]:
    """What the kept head makes of embeddings, beside FP32 ones (both of length 1)."""
    wanted, predicted = head.predict(plain), head.predict(got)
    gain = (predicted == labels).astype(float) - (wanted == labels)
    return {
        "accuracy": 100 * float(np.mean(predicted == labels)),
        "difference": 100 * float(gain.mean()),
        "standard_error": 100 * float(gain.std(ddof=1)) / math.sqrt(len(labels)),
        "agreement": 100 * float(np.mean(predicted == wanted)),
        "cosine": float(np.mean(np.sum(plain.astype(float) * got, axis=1))),
        "shift": float(np.linalg.norm(np.mean(got.astype(float) - plain, axis=0))),
    }


def print_figures(title: str, results: dict[str, dict[str, float]]) -> None:
    """A row for each variant."""
    rows = []
    for variant, figures in results.items():
        against = f"{figures['difference']:+.2f} ± {figures['standard_error']:.2f}"
        size = "(FP32)" if variant == "linear 3-bit" else f"{figures['bytes'] / 1e6:.2f}"
        rows.append(
            (variant, f"{figures['accuracy']:.2f}", against if variant != "FP32" else "")
            + (f"{figures['agreement']:.1f} %", f"{figures['cosine']:.4f}")
            + (f"{figures['shift']:.3f}", size)
        )
    columns = ("variant", "accuracy", "against FP32", "agreement", "cosine", "shift", "file, MB")
    show(title, columns, rows)


def targets_of(name: str, results: dict[str, dict[str, float]]) -> list[Target]:
    """Cosines of MiniLM-L6; the optimal solver no worse than the paper's."""
    title, cosine = SUBJECTS[name].title, {v: row["cosine"] for v, row in results.items()}
    targets = [
        Target(f"{title}, {variant}: cosine", cosine[variant], ">=", bound)
        for (model, variant), bound in COSINES.items()
        if model == name and variant in cosine
    ]
    for recipe in (v for v in cosine if f"{v} optimal" in cosine):
        better = cosine[f"{recipe} optimal"] - cosine[recipe]
        targets.append(Target(f"{title}, {recipe}: optimal - paper cosine", better, ">=", 0.0))
    return targets


if __name__ == "__main__":
    main()
