"""The optimum route: optimum's ONNX exporter, and onnxruntime's transformer optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sardonyx.models.optional import optional

PARTS = {
    "model": "",
    "encoder_model": "encoder",
    "decoder_model": "decoder",
    "decoder_with_past_model": "decoder_with_past",
    "decoder_model_merged": "decoder_merged",
}
"""Stems of the files optimum writes, and the names of those parts here."""


def write_parts(
    model: Any, task: str, folder: Path, opset: int | None, optimize: str | None, merge: bool
) -> dict[str, Path]:
    """Write the model's parts to `folder`; their files by part name."""
    optional("optimum.exporters.onnx", "export-optimum").onnx_export_from_model(
        model=model,
        output=folder,
        task=task,
        opset=opset,
        optimize=optimize,
        no_post_process=not merge,
        do_validation=False,
        **_shapes(model.config),
    )
    found = {PARTS[path.stem]: path for path in folder.glob("*.onnx")}
    if "decoder_merged" in found:
        found = {name: path for name, path in found.items() if name in ("encoder", "decoder_merged")}
    return found


def _shapes(config: Any) -> dict[str, int]:
    """Sizes of speech that the model fixes and optimum would take for Whisper's usual ones."""
    if not hasattr(config, "max_source_positions"):
        return {}
    return {"nb_max_frames": 2 * config.max_source_positions, "feature_size": config.num_mel_bins}
