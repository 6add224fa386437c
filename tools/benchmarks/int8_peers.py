"""What other packages make 8-bit integers of, as FP32 file -> model file.

A package is imported when it is asked for: one that is missing is an ImportError.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from peers import Feed, Reader, static_int8

from sardonyx.models.quiet import quiet


def onnxsim_static(path: Path, output: Path, batches: Sequence[Feed]) -> None:
    """onnxruntime's static quantization of what onnxsim makes of the file."""
    with quiet(), TemporaryDirectory(dir=output.parent) as folder:
        import onnxsim  # noqa: PLC0415

        model, same = onnxsim.simplify(onnx.load(path))
        if not same:
            raise RuntimeError("what onnxsim makes of the file computes something else")
        simple = Path(folder) / "simple.onnx"
        onnx.save(model, simple)
        static_int8(simple, output, batches)


def nncf(path: Path, output: Path, batches: Sequence[Feed], smooth: bool = True) -> None:
    """NNCF for Transformers: SmoothQuant and bias correction; embeddings are 8 bits, too."""
    with quiet():
        import nncf  # noqa: PLC0415
        from nncf.quantization.advanced_parameters import (  # noqa: PLC0415
            AdvancedQuantizationParameters,
            AdvancedSmoothQuantParameters,
        )

        off = AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
        kept = AdvancedQuantizationParameters(smooth_quant_alphas=off)
        made = nncf.quantize(
            onnx.load(path),
            nncf.Dataset(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(batches),
            advanced_parameters=None if smooth else kept,
        )
        onnx.save(made, output)


def quark(path: Path, output: Path, batches: Sequence[Feed]) -> None:
    """AMD Quark's preset for Transformers in INT8, with SmoothQuant. It writes tables of its own
    into the working directory; the paths are absolute."""
    with quiet(), TemporaryDirectory() as folder, chdir(folder):
        from quark.onnx import ModelQuantizer  # noqa: PLC0415
        from quark.onnx.quantization.config.config import Config  # noqa: PLC0415
        from quark.onnx.quantization.config.custom_config import (  # noqa: PLC0415
            get_default_config,
        )

        config = get_default_config("INT8_TRANSFORMER_DEFAULT")
        config.include_sq = True
        quantizer = ModelQuantizer(Config(global_quant_config=config))
        quantizer.quantize_model(str(path), str(output), Reader(batches))


def modelopt(path: Path, output: Path, batches: Sequence[Feed], method: str) -> None:
    """NVIDIA ModelOpt's INT8 of products. ``method``: max or entropy. ``batches``: of one shape."""
    with quiet():
        from modelopt.onnx.quantization import quantize  # noqa: PLC0415

        quantize(
            str(path),
            quantize_mode="int8",
            calibration_data={
                name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]
            },
            calibration_method=method,
            calibration_eps=["cpu"],
            op_types_to_quantize=["MatMul", "Gemm"],
            high_precision_dtype="fp32",
            output_path=str(output),
        )
