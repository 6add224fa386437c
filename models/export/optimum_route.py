"""The optimum route: optimum's ONNX exporter, and onnxruntime's transformer optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sardonyx.models.export.directory import load_model
from sardonyx.models.export.settings import ExportSettings
from sardonyx.models.optional import optional

PARTS = {
    "model": "",
    "encoder_model": "encoder",
    "decoder_model": "decoder",
    "decoder_with_past_model": "decoder_with_past",
    "decoder_model_merged": "decoder_merged",
}
"""Stems of the files optimum writes, and the names of those parts here."""

_MERGED = ("encoder", "decoder_merged")


def write_parts(
    directory: Path, task: str, folder: Path, settings: ExportSettings
) -> dict[str, Path]:
    """Write the parts of the model in `directory` to `folder`; their files by part name."""
    model = load_model(directory, task, settings.attention)
    optional("optimum.exporters.onnx").onnx_export_from_model(
        model=model,
        output=folder,
        task=task,
        opset=settings.opset,
        optimize=settings.optimize,
        no_post_process=not settings.merge,
        do_validation=False,
        **_shapes(model.config),
    )
    parts = {PARTS.get(path.stem, path.stem): path for path in sorted(folder.glob("*.onnx"))}
    return {name: parts[name] for name in _MERGED} if "decoder_merged" in parts else parts


def _shapes(config: Any) -> dict[str, int]:
    """Sizes of speech that the model fixes, where optimum would take those of OpenAI's Whisper."""
    if not hasattr(config, "max_source_positions"):
        return {}
    return {"nb_max_frames": 2 * config.max_source_positions, "feature_size": config.num_mel_bins}
