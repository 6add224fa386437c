"""The other ways to make the same weights small, as FP32 file -> model file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from sardonyx.models.quiet import quiet

NBITS_BLOCK = 32

Feed = Mapping[str, NDArray[Any]]


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


def matmul_nbits(path: Path, output: Path, accuracy_level: int | None = None) -> None:
    """onnxruntime's 4-bit weight-only MatMulNBits: asymmetric, blocks of 32; embeddings in FP32.

    ``accuracy_level`` 4 lets it round activations to 8 bits.
    """
    from onnxruntime.quantization.matmul_nbits_quantizer import (  # noqa: PLC0415
        MatMulNBitsQuantizer,
    )

    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)
    quantizer = MatMulNBitsQuantizer(
        onnx.load(path), bits=4, block_size=NBITS_BLOCK, accuracy_level=accuracy_level
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(output))


def dynamic_int8(path: Path, output: Path, narrow: bool) -> None:
    """onnxruntime's dynamic quantization: its default, 8 bits a tensor, or, ``narrow``, 7 bits a
    channel, which do not saturate on processors without VNNI."""
    with quiet():
        from onnxruntime.quantization import quantize_dynamic  # noqa: PLC0415

        # Types behind an op of onnxruntime's own are not inferred.
        known = {"DefaultTensorType": onnx.TensorProto.FLOAT}
        quantize_dynamic(path, output, per_channel=narrow, reduce_range=narrow, extra_options=known)


class Reader:
    """Calibration data as onnxruntime asks for it."""

    def __init__(self, batches: Sequence[Feed]) -> None:
        self.batches = batches
        self.left = iter(batches)

    def get_next(self) -> Feed | None:
        """The next batch; None after the last."""
        return next(self.left, None)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Go on with these batches."""
        self.left = iter(self.batches[start_index:end_index])

    def __len__(self) -> int:
        return len(self.batches)


def static_int8(
    path: Path,
    output: Path,
    batches: Sequence[Feed],
    method: str = "MinMax",
    every_op: bool = False,
) -> None:
    """onnxruntime's static quantization (QDQ) of products by weights, weights a channel; with
    ``every_op`` of all that it takes by default, by its defaults. (There it also takes the sum of
    scores and mask, whose range the mask's lowest number fills.)

    ``batches``: what it measures the ranges on. ``method``: MinMax, Entropy or Percentile; their
    histograms are filled batch by batch: from all at once onnxruntime holds all values, and fails
    unless all batches have one shape.
    """
    with quiet(), TemporaryDirectory(dir=output.parent) as folder:
        from onnxruntime.quantization import (  # noqa: PLC0415
            CalibrationMethod,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        products: dict[str, Any] = {
            "op_types_to_quantize": ["MatMul", "Gemm"],
            "per_channel": True,
            "activation_type": QuantType.QUInt8,
        }
        quantize_static(
            prepared,
            output,
            Reader(batches),
            calibrate_method=CalibrationMethod[method],
            extra_options={"MatMulConstBOnly": not every_op, "CalibStridedMinMax": 1},
            **({} if every_op else products),
        )


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
