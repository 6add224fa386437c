"""The files that the INT8 benchmark makes of a model, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import int8_peers
import onnxruntime as ort
from common import console, show
from int8_data import Sentences
from peers import dynamic_int8, static_int8

from sardonyx.compiler import compile

DYNAMIC_RECIPE = "int8-dynamic"
KL_ONLY = Path(__file__).with_name("kl_only.toml")
"""The paper's thresholds, and nothing that departs from them."""

STATIC_TARGETS = ("portable", "cpu", "cpu-vnni")

Make = Callable[[Path, Path], None]
Failures = dict[str, str]
T = TypeVar("T")


def machine_target() -> str:
    """The target that this machine is."""
    flags = Path("/proc/cpuinfo").read_text().split()
    return "cpu-vnni" if {"avx512_vnni", "avx_vnni"} & set(flags) else "cpu"


def ours(
    path: Path,
    output: Path,
    sentences: Sentences,
    recipe: str | Path,
    target: str,
    overrides: Sequence[str] = (),
) -> None:
    """A compile, on sentences as text."""
    with TemporaryDirectory(dir=output.parent) as folder:
        text, tokenizer = sentences.written(Path(folder))
        compile(
            path,
            recipe,
            text,
            target,
            tokenizer=tokenizer,
            overrides=overrides,
            verify="off",
        ).save(output)


def static_names(recipe: str) -> list[str]:
    """What `static_ours` calls its files."""
    return [f"{recipe}, {target}" for target in STATIC_TARGETS]


def static_ours(sentences: Sentences, recipe: str) -> dict[str, Make]:
    """The static recipe for all targets."""
    makers = (
        partial(ours, sentences=sentences, recipe=recipe, target=target)
        for target in STATIC_TARGETS
    )
    return dict(zip(static_names(recipe), makers, strict=True))


def kl_only(sentences: Sentences) -> dict[str, Make]:
    """The static recipe as the paper has it."""
    return {"KL alone": partial(ours, sentences=sentences, recipe=KL_ONLY, target="portable")}


def dynamic_ours(sentences: Sentences, target: str) -> dict[str, Make]:
    """The recipe without calibration."""
    make = partial(ours, sentences=sentences, recipe=DYNAMIC_RECIPE, target=target)
    return {f"{DYNAMIC_RECIPE}, {target}": make}


ANY_LENGTH: dict[str, Callable[..., None]] = {
    "ORT static, min-max": static_int8,
    "ORT static, min-max, all ops": partial(static_int8, every_op=True),
    "ORT static, entropy": partial(static_int8, method="Entropy"),
    "ORT static, percentile": partial(static_int8, method="Percentile"),
    "onnxsim, ORT static": int8_peers.onnxsim_static,
    "NNCF, SmoothQuant": int8_peers.nncf,
    "NNCF without it": partial(int8_peers.nncf, smooth=False),
    "Quark, SmoothQuant": int8_peers.quark,
}
"""Static peers that take sentences as they are, one by one, without padding."""

ONE_LENGTH: dict[str, Callable[..., None]] = {
    "ORT static, entropy, padded": partial(static_int8, method="Entropy"),
    "ORT static, percentile, padded": partial(static_int8, method="Percentile"),
    "ModelOpt, max": partial(int8_peers.modelopt, method="max"),
    "ModelOpt, entropy": partial(int8_peers.modelopt, method="entropy"),
}
"""Static peers that take batches of one shape only, so padded ones; onnxruntime's histograms do
unless they are filled batch by batch."""


def static_peers(sentences: Sentences) -> dict[str, Make]:
    """Others' static files."""
    single, padded = sentences.batches(1), sentences.padded()
    return {name: partial(make, batches=single) for name, make in ANY_LENGTH.items()} | {
        name: partial(make, batches=padded) for name, make in ONE_LENGTH.items()
    }


DYNAMIC_PEERS: dict[str, Make] = {
    "ORT dynamic": partial(dynamic_int8, narrow=False),
    "ORT dynamic, 7 bits": partial(dynamic_int8, narrow=True),
}
"""8 bits a tensor; 7 bits a channel."""


def apart(function: Callable[..., T], *args: Any) -> T:
    """Call in a process of its own, whose memory goes with it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, *args).result()


def reason(error: Exception) -> str:
    """What went wrong, in a line."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[0].strip()}"


def attempt(make: Make, path: Path, output: Path) -> str:
    """Make a file that onnxruntime loads; why that fails, or nothing."""
    try:
        apart(_loadable, make, path, output)
    except Exception as error:  # whatever a package raises, and a process that died
        return reason(error)
    return ""


def _loadable(make: Make, path: Path, output: Path) -> None:
    make(path, output)
    ort.InferenceSession(output, providers=["CPUExecutionProvider"])


def build(makers: Mapping[str, Make], path: Path, folder: Path) -> tuple[dict[str, Path], Failures]:
    """The file of every variant that can be made, and why others cannot."""
    files = {name: folder / f"{number}.int8.onnx" for number, name in enumerate(makers)}
    failures: Failures = {}
    for name, make in makers.items():
        if why := attempt(make, path, files[name]):
            failures[name] = why
            del files[name]
        console.log(f"{name}: {why or 'made'}")
    return files, failures


def show_failures(title: str, failures: Failures) -> None:
    """Why there is no figure of some variants."""
    if failures:
        show(f"{title}: without figures", ("variant", "because"), list(failures.items()))
