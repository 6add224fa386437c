"""The dialects of ONNX that exporters speak: one Transformer, eight graphs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sardonyx.models.export.settings import ExportSettings
from sardonyx.models.tiny import ARCHITECTURES

DIALECTS: Mapping[str, ExportSettings] = MappingProxyType(
    {
        "torchscript-eager": ExportSettings("torch", opset=17, attention="eager"),
        "torchscript-sdpa": ExportSettings("torch", opset=17, attention="sdpa"),
        "dynamo-eager": ExportSettings("torch", opset=18, attention="eager", dynamo=True),
        "dynamo-sdpa": ExportSettings("torch", opset=18, attention="sdpa", dynamo=True),
        "dynamo-attention": ExportSettings("torch", opset=23, attention="sdpa", dynamo=True),
        "optimum": ExportSettings("optimum"),
        "optimum-o2": ExportSettings("optimum", optimize="O2"),
        "optimum-merged": ExportSettings("optimum", merge=True),
    }
)
"""By name: `dynamo-attention` holds the Attention op of opset 23, `optimum-o2` contrib ops that
onnxruntime's optimizer fused, `optimum-merged` both variants of a decoder in one If."""

NO_SDPA = ("mpnet", "deberta-v2")
"""Architectures of which transformers has no SDPA attention."""

ENCODER_DECODERS = ("t5", "marian", "whisper")
"""The only architectures with decoders to merge."""


def pairs() -> list[tuple[str, str]]:
    """Every architecture with every dialect that there is of it."""
    return [
        (architecture, dialect)
        for architecture in ARCHITECTURES
        for dialect, settings in DIALECTS.items()
        if not (settings.attention == "sdpa" and architecture in NO_SDPA)
        and not (settings.merge and architecture not in ENCODER_DECODERS)
    ]
