"""BERT-base and BERT-large, seeded and compiled, as work for chips."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from common import SEED, console, workspace

from sardonyx import models
from sardonyx.compiler import compile
from sardonyx.compiler.simulate import Workload

CONFIGS = {
    "bert-base": models.BERT_BASE,
    "bert-large": models.EncoderConfig(30522, 1024, 24, 16, 4096, 512),
}


@contextmanager
def workloads(options: argparse.Namespace) -> Iterator[dict[str, Workload]]:
    """The models of ``options.models`` by name."""
    with nullcontext(options.compiled) if options.compiled else workspace() as folder:
        yield {name: Workload(compiled(name, folder)) for name in options.models}


def compiled(name: str, folder: Path) -> Path:
    """A model's file, compiled with recipe gobo unless it is there.

    For the target cpu, whose fused ops spare the chips' vector units as many passes over memory as
    a compiler for them would.
    """
    path = folder / f"{name}.gobo.onnx"
    if not path.exists():
        console.print(f"compiling {name}")
        source = folder / f"{name}.onnx"
        model = models.seeded_bert(CONFIGS[name], seed=SEED)
        source.write_bytes(model.SerializeToString())
        compile(source, "gobo", target="cpu").save(path)
        source.unlink()
    return path
