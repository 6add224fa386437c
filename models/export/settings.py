"""What an export may be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Route = Literal["auto", "optimum", "torch"]
Attention = Literal["eager", "sdpa"]
Optimize = Literal["O1", "O2", "O3"]


@dataclass(frozen=True)
class ExportSettings:
    """How to export a model.

    ``route``: the exporter; auto is optimum where it is installed. ``task``: what the model is for;
    auto is what `config.json` names. ``opset``: None is the exporter's choice. ``attention``: how
    the model computes it; None is transformers' choice. Of the torch route: ``dynamo``, the newer
    exporter. Of the optimum route: ``optimize``, a level of onnxruntime's transformer optimizer;
    ``merge``, both decoders in one file.
    """

    route: Route = "auto"
    task: str = "auto"
    opset: int | None = None
    attention: Attention | None = None
    dynamo: bool = False
    optimize: Optimize | None = None
    merge: bool = False
