"""The dialects of ONNX that exporters speak: one Transformer, ten graphs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sardonyx.models.export.settings import ExportSettings

DIALECTS: Mapping[str, ExportSettings] = MappingProxyType(
    {
        "torchscript-eager": ExportSettings(route="torch", attention="eager", opset=17),
        "torchscript-sdpa": ExportSettings(route="torch", attention="sdpa", opset=17),
        "dynamo-eager": ExportSettings(route="torch", attention="eager", dynamo=True, opset=18),
        "dynamo-sdpa": ExportSettings(route="torch", attention="sdpa", dynamo=True, opset=18),
        "dynamo-attention": ExportSettings(route="torch", attention="sdpa", dynamo=True, opset=23),
        "optimum": ExportSettings(route="optimum"),
        "optimum-o2": ExportSettings(route="optimum", optimize="O2"),
        "optimum-merged": ExportSettings(route="optimum", merge=True),
    }
)
"""By name; `dynamo-attention` holds the Attention op of opset 23, `optimum-o2` fused contrib ops,
`optimum-merged` one decoder with both its variants in an If."""
