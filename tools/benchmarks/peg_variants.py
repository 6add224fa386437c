"""The files that the PEG benchmark makes of a model."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import onnx
from common import SUBJECTS, console, workspace
from int8_data import Sentences
from int8_variants import Failures, Make, attempt, ours

FP32 = "FP32"
PER_TENSOR = "peg.k=1"
"""Nothing is split: a scale a tensor."""

PAPER = ("peg.tensors=x,h,y", "peg.groups=equal", "peg.order=layer")
"""The groups of Bondarenko et al."""

EIGHT_BITS = "insert-qdq.weight_bits=8"

TENSOR, GROUPED, BY_LAYER = "a scale a tensor", "PEG", "PEG, order a layer"

SUFFIXES = {"": "portable", ", cpu": "cpu"}
"""Of the names of files: for which target."""

BESIDE = {f"{v}{suffix}": f"{TENSOR}{suffix}" for suffix in SUFFIXES for v in (GROUPED, BY_LAYER)}
"""The file without groups that rounds the same activations."""


def compiled(
    sentences: Sentences, *overrides: str, recipe: str = "peg", target: str = "portable"
) -> Make:
    """A compile with arguments of passes."""
    return partial(ours, sentences=sentences, recipe=recipe, target=target, overrides=overrides)


def weights_alone(path: Path, output: Path, make: Make) -> None:
    """A file whose activations are not rounded: its weights alone are (and its biases, in units of
    the products that were)."""
    make(path, output)
    model = onnx.load(output)
    codes: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" or (
            node.op_type == "DequantizeLinear" and node.input[0] in codes
        ):
            codes.update(node.output if node.op_type == "QuantizeLinear" else ())
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
        elif codes.intersection(node.input):
            codes.update(node.output)
    save_used(model, output)


def save_used(model: onnx.ModelProto, output: Path) -> None:
    """Write a model without the constants that no node reads any more, and without notes of types
    that are others now."""
    read = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.ClearField("value_info")
    onnx.save(model, output)


def compared(sentences: Sentences) -> dict[str, Make]:
    """Files with and without groups, for two targets, and of recipes beside."""
    settings = {TENSOR: (PER_TENSOR,), GROUPED: (), BY_LAYER: ("peg.order=layer",)}
    return {
        f"{variant}{suffix}": compiled(sentences, *overrides, target=target)
        for suffix, target in SUFFIXES.items()
        for variant, overrides in settings.items()
    } | {
        "mixed-precision": compiled(sentences, recipe="mixed-precision"),
        "int8-kl, cpu": compiled(sentences, recipe="int8-kl", target="cpu"),
    }


@contextmanager
def files(
    name: str, options: argparse.Namespace, *wanted: str
) -> Iterator[tuple[dict[str, Path], Failures]]:
    """FP32 and those of `compared` that are wanted (all, if none is named) and can be made, and why
    others cannot; those that ``options.files`` holds are as they are there."""
    with workspace() as folder:
        kept = folder
        if options.files:
            kept = options.files / f"{name}-{options.sentences or 'all'}"
            kept.mkdir(parents=True, exist_ok=True)
        made, failures = {FP32: kept / "FP32.onnx"}, Failures()
        shutil.copy(SUBJECTS[name].write(folder), made[FP32])
        makers = compared(Sentences.of(name, made[FP32], options.sentences))
        for variant in wanted or makers:
            path = kept / f"{variant.replace(' ', '-').replace(',', '')}.onnx"
            why = "" if path.exists() else attempt(makers[variant], made[FP32], path)
            console.log(f"{SUBJECTS[name].title}, {variant}: {why or 'there'}")
            if why:
                failures[variant] = why
                path.unlink(missing_ok=True)
            else:
                made[variant] = path
        yield made, failures
