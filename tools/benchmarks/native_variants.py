"""The files that the native benchmark makes of a model, and the sessions that run them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime as ort
from common import SUBJECTS, console
from fusion_variants import SHAPES, padded
from peers import dynamic_int8, matmul_nbits, optimizer, static_int8
from pool import pooled

from sardonyx import models, runtime_ops
from sardonyx.compiler import compile, load_recipe

FP32 = ("FP32", "FP32, optimizer")
DYNAMIC = (
    "dynamic INT8",
    "dynamic INT8, 7 bits",
    "dynamic INT8, optimizer",
    "dynamic INT8, optimizer, 7 bits",
)
PORTABLE = "Sardonyx, portable"
NATIVE_FP32 = "Sardonyx, native fp32"
NATIVE_INT8 = "Sardonyx, native int8"
NATIVE = (NATIVE_FP32, NATIVE_INT8)

CALIBRATION = (4, 4, 32)
"""Batches, sentences of a batch, tokens of a sentence."""


@dataclass(frozen=True)
class Variant:
    """A model file; ``native``: for a session with the native library."""

    path: Path
    native: bool = False

    def session(self, options: ort.SessionOptions | None = None) -> Any:
        """A session on the CPU."""
        if not self.native:
            return ort.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        made = runtime_ops.session(self.path, options)
        if not made.native.active:
            raise RuntimeError(f"{self.path.name}: not native: {made.native.detail}")
        return made

    def pooled_session(self) -> Any:
        """A session on the pool that all share."""
        return self.session(pooled())


def ours(path: Path, folder: Path, native: bool) -> tuple[int, dict[str, Variant]]:
    """Recipe gobo for target cpu: bytes of the encoded weights; the variants, the file for fp32 in
    stock onnxruntime, too."""
    made = compile(path, "gobo", target="cpu", verify="off")
    variants = {PORTABLE: Variant(folder / "gobo.onnx")}
    made.save(variants[PORTABLE].path)
    if native:
        recipe = load_recipe("gobo", ["gobo.compute=int8"])
        variants[NATIVE_FP32] = Variant(folder / "gobo.onnx", native=True)
        variants[NATIVE_INT8] = Variant(folder / "gobo-int8.onnx", native=True)
        whole = compile(path, recipe, target="cpu", verify="off")
        whole.save(variants[NATIVE_INT8].path)
    return sum(tensor.bytes_after for tensor in made.report.tensors), variants


def build(name: str, folder: Path, native: bool) -> dict[str, Variant]:
    """Every variant of a real model."""
    plain, fused = SUBJECTS[name].write(folder), folder / "optimizer.onnx"
    optimizer(plain, fused, "bert", *SHAPES[name])
    makers = {
        DYNAMIC[0]: partial(dynamic_int8, plain, narrow=False),
        DYNAMIC[1]: partial(dynamic_int8, plain, narrow=True),
        DYNAMIC[2]: partial(dynamic_int8, fused, narrow=False),
        DYNAMIC[3]: partial(dynamic_int8, fused, narrow=True),
        "static INT8": partial(static_int8, plain, batches=calibration(name, plain)),
        "MatMulNBits 4-bit": partial(matmul_nbits, plain, accuracy_level=4),
    }
    variants = dict(zip(FP32, map(Variant, (plain, fused)), strict=True))
    for number, (variant, make) in enumerate(makers.items()):
        variants[variant] = Variant(folder / f"{number}.onnx")
        make(output=variants[variant].path)
    variants |= ours(plain, folder, native)[1]
    console.log(f"{SUBJECTS[name].title}: files made")
    return variants


def calibration(name: str, path: Path) -> list[dict[str, Any]]:
    """Movie reviews in batches, as inputs of a model."""
    count, size, length = CALIBRATION
    sentences = models.movie_review_sentences()[0][: count * size]
    wanted = [info.name for info in Variant(path).session().get_inputs()]
    feeds = (padded(name, sentences[at * size :][:size], size, length) for at in range(count))
    return [{key: feed[key] for key in wanted} for feed in feeds]
