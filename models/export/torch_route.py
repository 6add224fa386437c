"""The torch route: PyTorch's own exporters, TorchScript or dynamo, on each part of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sardonyx.models.export.directory import ExportError, load_model
from sardonyx.models.export.parts import Part, Tensors, parts_of
from sardonyx.models.export.settings import ExportSettings
from sardonyx.models.optional import optional

OPSETS = {False: 17, True: 18}
"""Default opset of TorchScript (False) and of dynamo (True)."""

_WRITTEN = {False: range(13, 24), True: range(18, 25)}
"""Opsets that TorchScript and dynamo write."""


def write_parts(
    directory: Path, task: str, folder: Path, settings: ExportSettings
) -> dict[str, Path]:
    """Write the parts of the model in `directory` to `folder`; their files by part name."""
    _check_version()
    model = load_model(directory, task, settings.attention)
    if settings.dynamo:
        optional("onnxscript")
    opset = settings.opset or OPSETS[settings.dynamo]
    if opset not in _WRITTEN[settings.dynamo]:
        known, name = _WRITTEN[settings.dynamo], "dynamo" if settings.dynamo else "TorchScript"
        raise ExportError(f"opset {opset}: {name} writes opsets {known[0]} to {known[-1]}")
    written = {}
    with optional("torch").no_grad():
        for part in parts_of(model, task):
            path = written[part.name] = folder / f"{part.name or 'model'}.onnx"
            _write(model, part, path, opset, settings.dynamo)
    return written


def _check_version() -> None:
    """Older models keep the example's sizes where their axes should vary."""
    version = optional("transformers").__version__
    if int(version.split(".")[0]) < 5:
        raise ExportError(
            f"the torch route needs transformers 5 or newer, not {version}: take the optimum "
            "route, or run `pip install 'sardonyx[export]'` in another environment"
        )


def _write(model: Any, part: Part, path: Path, opset: int, dynamo: bool) -> None:
    inputs, outputs = list(part.inputs), list(part.run(part.inputs))
    if dynamo:
        axes: dict[str, Any] = {"dynamic_shapes": {"values": tuple(map(part.axes_of, inputs))}}
    else:
        axes = {"dynamic_axes": {name: part.axes_of(name) for name in inputs + outputs}}
    optional("torch").onnx.export(
        _module(model, part),
        tuple(part.inputs.values()),
        path,
        input_names=inputs,
        output_names=outputs,
        opset_version=opset,
        dynamo=dynamo,
        **axes,
    )


def _module(model: Any, part: Part) -> Any:
    """A part as a module: tensors in and out by position, the names of weights as in the model."""

    class _Module(optional("torch").nn.Module):  # type: ignore[misc]
        def forward(self, *values: Any) -> tuple[Any, ...]:
            tensors: Tensors = dict(zip(part.inputs, values, strict=True))
            return tuple(part.run(tensors).values())

    module = _Module()
    for name, child in model.named_children():
        module.add_module(name, child)
    return module.eval()
