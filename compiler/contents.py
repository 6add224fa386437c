"""contents: the nodes and constants of a model, by names that are unique in it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import onnx

from sardonyx.compiler.external_data import data_bytes
from sardonyx.compiler.stored import span_of
from sardonyx.runtime_ops.ops import DOMAIN

Where = Literal["graph", "body", "function"]
"""The main graph; the bodies of its If, Loop and Scan nodes; the model's functions."""


@dataclass(frozen=True)
class Stored:
    """A constant tensor: an initializer or the value of a Constant node.

    ``tensor``: as it is written, with its data or where that lies.
    """

    name: str
    tensor: onnx.TensorProto

    @property
    def dtype(self) -> str:
        """Name of the element type, as float32."""
        if self.tensor.data_type == onnx.TensorProto.STRING:
            return "string"
        return onnx.helper.tensor_dtype_to_np_dtype(self.tensor.data_type).name

    @property
    def shape(self) -> list[int]:
        """Its dimensions."""
        return list(self.tensor.dims)

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        if self.tensor.data_type == onnx.TensorProto.STRING:
            return sum(map(len, self.tensor.string_data))
        return data_bytes(self.tensor)

    @cached_property
    def digest(self) -> str:
        """A hash of the data, equal however they are stored."""
        hashed = hashlib.blake2b(digest_size=16)
        for part in self._data():
            hashed.update(part)
        return hashed.hexdigest()

    def _data(self) -> Iterable[bytes]:
        span = span_of(self.tensor)
        if span:
            return span.blocks()
        if self.tensor.data_type == onnx.TensorProto.STRING:
            return [repr(list(self.tensor.string_data)).encode()]
        if self.tensor.HasField("raw_data"):
            return [self.tensor.raw_data]
        return [onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(self.tensor)).raw_data]


@dataclass(frozen=True)
class PlacedNode:
    """A node and where it is.

    ``path``: what it lies inside, empty in the main graph. ``inputs``, ``outputs``: its tensors, by
    names that are unique in the model: those of inner graphs have the path in front.
    """

    node: onnx.NodeProto
    where: Where
    path: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def op(self) -> str:
        """Its op, with the domain unless that is the standard one or ours."""
        domain = self.node.domain
        return (
            self.node.op_type
            if domain in ("", "ai.onnx", DOMAIN)
            else f"{domain}.{self.node.op_type}"
        )

    @property
    def name(self) -> str:
        """Its name, or that of its first output."""
        return (
            join(self.path, self.node.name)
            if self.node.name
            else next(filter(None, self.outputs), "?")
        )


@dataclass
class Contents:
    """A model's nodes (also those inside others and in functions) and constants."""

    nodes: list[PlacedNode] = field(default_factory=list)
    tensors: dict[str, Stored] = field(default_factory=dict)

    @cached_property
    def readers(self) -> dict[str, list[PlacedNode]]:
        """The nodes that read each tensor."""
        found: dict[str, list[PlacedNode]] = {}
        for placed in self.nodes:
            for name in dict.fromkeys(placed.inputs):
                found.setdefault(name, []).append(placed)
        return found

    @cached_property
    def makers(self) -> dict[str, PlacedNode]:
        """The node that makes each tensor."""
        return {name: placed for placed in self.nodes for name in placed.outputs if name}


def join(path: str, name: str) -> str:
    """The unique name of what lies inside something; in the main graph it is its own."""
    return f"{path}/{name}" if path else name
