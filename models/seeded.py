"""Random encoders with weights spread like trained ones: a bell and a few far outliers."""

from __future__ import annotations

import zlib

import numpy as np
import onnx
from numpy.typing import NDArray

from sardonyx.models.config import EncoderConfig, parameter_shapes
from sardonyx.models.transformer import Weights, build_encoder

BODY_STD = 0.04
BODY_LIMIT = 3.2
OUTLIER_RANGE = (4.5, 12.0)
"""Standard deviations of the body: no body weight beyond the limit, every outlier in the range."""


def seeded_bert(
    config: EncoderConfig,
    seed: int,
    outlier_share: float = 0.001,
    *,
    pooler: bool = False,
    opset: int = 17,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """An encoder with seeded random weights; the same arguments give the same bytes."""
    weights = seeded_weights(config, seed, outlier_share)
    return build_encoder(config, weights, pooler=pooler, opset=opset, ir_version=ir_version)


def seeded_weights(config: EncoderConfig, seed: int, outlier_share: float = 0.001) -> Weights:
    """Weight source of heavy-tailed random float32 arrays; each depends on seed and name only.

    Of each matrix, `round(outlier_share * size)` weights lie 4.5 to 12 sigma out, with either sign;
    the others are N(0, 0.04²) kept within 3.2 sigma. GOBO's rule, log-density below -4 under the
    mean and standard deviation of the tensor, cuts at 3.7 sigma for a share of 0.001 and so finds
    exactly the outliers, up to a share of 0.008. LayerNorm scales are near 1, biases near 0.
    """
    shapes = parameter_shapes(config, pooler=True)

    return lambda name: seeded_values(name, shapes[name], seed, outlier_share)


def seeded_values(
    name: str, shape: tuple[int, ...], seed: int, outlier_share: float = 0.001
) -> NDArray[np.float32]:
    """A parameter by its PyTorch name: matrices as trained ones are spread; scales near 1; biases
    near 0, but not 0. The same seed and name give the same values."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if len(shape) > 1:
        return _heavy_tailed(generator, shape, outlier_share)
    centre = np.float32(name.endswith("weight"))
    return centre + np.float32(0.02) * generator.standard_normal(shape, np.float32)


def _heavy_tailed(
    generator: np.random.Generator, shape: tuple[int, ...], outlier_share: float
) -> NDArray[np.float32]:
    values = generator.standard_normal(shape, np.float32)
    flat = values.reshape(-1)
    flat[np.abs(flat) > BODY_LIMIT] *= np.float32(0.5)
    count = round(outlier_share * flat.size)
    places = generator.choice(flat.size, count, replace=False, shuffle=False)
    signs = generator.choice(np.array([-1, 1], np.float32), count)
    flat[places] = signs * generator.uniform(*OUTLIER_RANGE, count).astype(np.float32)
    values *= np.float32(BODY_STD)
    return values
