"""Inputs of a model's parts and what PyTorch makes of them: the oracle of every export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sardonyx.models.export.directory import find_task, load_model
from sardonyx.models.export.parts import Part, parts_of
from sardonyx.models.optional import optional
from sardonyx.models.quiet import quiet

Arrays = dict[str, NDArray[Any]]

SIZES: Mapping[str, int] = MappingProxyType(
    {
        "batch_size": 3,
        "sequence_length": 6,
        "encoder_sequence_length": 9,
        "past_sequence_length": 4,
        "past_sequence_length + sequence_length": 10,
    }
)
"""Sizes of the axes that may vary: none as in the exporters' own examples."""


@dataclass(frozen=True)
class Example:
    """Inputs and outputs of a part, by name."""

    inputs: Arrays
    outputs: Arrays


def torch_examples(directory: Path) -> dict[str, Example]:
    """An example of each part of the model in a directory, by the part's name."""
    torch = optional("torch")
    with quiet(), torch.no_grad():
        task = find_task(directory)
        model = load_model(directory, task, "eager")
        found = {}
        for part in parts_of(model, task):
            inputs = {name: _array(part, name, model.config.vocab_size) for name in part.inputs}
            outputs = part.run({name: torch.from_numpy(array) for name, array in inputs.items()})
            arrays = {name: tensor.numpy() for name, tensor in outputs.items()}
            found[part.name] = Example(inputs, arrays)
    return found


def _array(part: Part, name: str, vocabulary: int) -> NDArray[Any]:
    """Random tokens, features and states; a mask that pads one sentence.

    A prompt is padded on the left, everything else on the right, where onnxruntime's fused
    attention wants it.
    """
    shape = list(part.inputs[name].shape)
    for axis, size in part.axes_of(name).items():
        shape[axis] = SIZES[size]
    generator = np.random.default_rng(0)
    if part.inputs[name].is_floating_point():
        return generator.standard_normal(shape, np.float32)
    if name == "position_ids":
        return np.broadcast_to(np.arange(shape[1]) + SIZES["past_sequence_length"], shape).copy()
    if name.endswith("mask"):
        mask = np.ones(shape, np.int64)
        mask[1, slice(2) if "position_ids" in part.inputs else slice(-2, None)] = 0
        return mask
    return generator.integers(0, 2 if name == "token_type_ids" else vocabulary - 2, shape)
