"""The other ways to make the same weights small, as FP32 file -> model file."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from sardonyx.models.quiet import quiet

NBITS_BLOCK = 32


def linear(path: Path, bits: Mapping[str, int], output: Path) -> None:
    """Fake quantization: round the initializers named in ``bits`` to a linear grid, per tensor.

    Symmetric min-max: step = max|w| / (2^(bits - 1) - 1), so that 3 bits have the 7 values
    -3 to 3 steps. The file keeps FP32 and its size.
    """
    model = onnx.load(path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for name, width in bits.items():
        weights = numpy_helper.to_array(tensors[name])
        tensors[name].CopyFrom(numpy_helper.from_array(rounded(weights, width), name))
    onnx.save(model, output)


def rounded(weights: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Weights on the symmetric grid of ``bits`` bits over their own range."""
    most = (1 << (bits - 1)) - 1
    step = np.float32(np.abs(weights).max() / most)
    return np.asarray(np.rint(weights / step) * step, np.float32)


def matmul_nbits(path: Path, output: Path) -> None:
    """onnxruntime's 4-bit weight-only MatMulNBits: asymmetric, blocks of 32; embeddings in FP32."""
    from onnxruntime.quantization.matmul_nbits_quantizer import (  # noqa: PLC0415
        MatMulNBitsQuantizer,
    )

    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(onnx.load(path), bits=4, block_size=NBITS_BLOCK)
    quantizer.process()
    quantizer.model.save_model_to_file(str(output))


def optimizer(
    path: Path, output: Path, kind: str, heads: int, hidden: int, level: int | None = 0
) -> None:
    """onnxruntime.transformers.optimizer: its fusions in Python, onnxruntime's own at load.

    ``kind``: of its kinds of model. ``level``: 1, 2 and 99 run onnxruntime's own fusions first,
    which takes PyTorch, and None is its choice for the kind; all four levels make the same ops of
    the real models.
    """
    with quiet():
        from onnxruntime.transformers.optimizer import optimize_model  # noqa: PLC0415

        made = optimize_model(str(path), kind, heads, hidden, opt_level=level)
        made.save_model_to_file(str(output))
