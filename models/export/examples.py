"""Inputs of a model's parts and what PyTorch makes of them: the oracle of every export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sardonyx.models.export.directory import find_task, load_model
from sardonyx.models.export.parts import Part, parts_of
from sardonyx.models.optional import optional
from sardonyx.models.quiet import quiet

Arrays = dict[str, NDArray[Any]]
Sizes = Mapping[str, int]

SIZES: tuple[Sizes, ...] = (
    {
        "batch_size": 3,
        "sequence_length": 6,
        "encoder_sequence_length": 9,
        "past_sequence_length": 4,
        "past_sequence_length + sequence_length": 10,
    },
    {
        "batch_size": 1,
        "sequence_length": 8,
        "encoder_sequence_length": 4,
        "past_sequence_length": 0,
        "past_sequence_length + sequence_length": 8,
    },
)
"""Sizes of the axes that may vary: of a batch, of a prompt. None as the exporters have them."""


@dataclass(frozen=True)
class Example:
    """Inputs and outputs of a part, by name."""

    inputs: Arrays
    outputs: Arrays


def torch_examples(directory: Path) -> dict[str, list[Example]]:
    """Examples of each part of the model in a directory, by the part's name."""
    with quiet(), optional("torch").no_grad():
        task = find_task(directory)
        model = load_model(directory, task, "eager")
        parts = parts_of(model, task)
        found = {part.name: [_example(model, part, sizes) for sizes in SIZES] for part in parts}
    if "decoder_with_past" in found:
        found["decoder_merged"] = _merged(found["decoder"][0], found["decoder_with_past"][0])
    return found


def _example(model: Any, part: Part, sizes: Sizes) -> Example:
    inputs = {name: _array(part, name, sizes, model.config.vocab_size) for name in part.inputs}
    tensors = {name: optional("torch").from_numpy(array) for name, array in inputs.items()}
    outputs = {name: tensor.numpy() for name, tensor in part.run(tensors).items()}
    return Example(inputs, outputs)


def _array(part: Part, name: str, sizes: Sizes, vocabulary: int) -> NDArray[Any]:
    """Random tokens, features and states; a mask that pads all sentences but the first.

    Prompts are padded on the left, everything else on the right, where onnxruntime's fused
    attention wants it.
    """
    shape = list(part.inputs[name].shape)
    for axis, size in part.axes_of(name).items():
        shape[axis] = sizes[size]
    generator = np.random.default_rng(0)
    if part.inputs[name].is_floating_point():
        return generator.standard_normal(shape, np.float32)
    if name == "position_ids":
        return np.broadcast_to(np.arange(shape[1]) + sizes["past_sequence_length"], shape).copy()
    if name.endswith("mask"):
        mask = np.ones(shape, np.int64)
        mask[1:, slice(2) if "position_ids" in part.inputs else slice(-2, None)] = 0
        return mask
    return generator.integers(0, 2 if name == "token_type_ids" else vocabulary - 2, shape)


def _merged(first: Example, later: Example) -> list[Example]:
    """Of a merged decoder: each variant, with what it does not read filled in."""
    every = later.inputs | first.inputs
    return [
        Example(every | first.inputs | {"use_cache_branch": np.array([False])}, first.outputs),
        Example(every | later.inputs | {"use_cache_branch": np.array([True])}, later.outputs),
    ]
