"""Who simplifies graphs, as file -> file.

A package is imported when it is asked for: one that is missing is an ImportError.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from int8_variants import Make

from sardonyx.compiler import compile
from sardonyx.models.quiet import quiet

ORIGINAL = "original"
OURS = "ours"


def ours(path: Path, output: Path) -> None:
    """The recipe, with its checks."""
    compile(path, "cleanup").save(output)


def onnxsim(path: Path, output: Path) -> None:
    """onnxsim as it is by default: it checks no outputs of inputs whose sizes vary."""
    with quiet():
        import onnxsim  # noqa: PLC0415

        onnx.save(onnxsim.simplify(onnx.load(path))[0], output)


def onnxslim(path: Path, output: Path) -> None:
    """onnxslim as it is by default."""
    with quiet():
        import onnxslim  # noqa: PLC0415

        onnxslim.slim(str(path), str(output))


def onnxoptimizer(path: Path, output: Path) -> None:
    """All fusions and eliminations of onnxoptimizer, over and over until they change nothing."""
    with quiet():
        import onnxoptimizer  # noqa: PLC0415

        onnx.save(onnxoptimizer.optimize(onnx.load(path), fixed_point=True), output)


MAKERS: dict[str, Make] = {
    OURS: ours,
    "onnxsim": onnxsim,
    "onnxslim": onnxslim,
    "onnxoptimizer": onnxoptimizer,
}
