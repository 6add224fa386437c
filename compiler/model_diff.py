"""model_diff: how two models differ, as data. ``diff --json`` prints it; this is its schema."""

from pydantic import Field

from sardonyx.compiler.contents import Where
from sardonyx.compiler.document import Document, Part


class Side(Part):
    """One of the two files."""

    path: str
    bytes: int = Field(description="of the file, external data included")
    ir_version: int
    opsets: dict[str, int] = Field(description="version by domain; ai.onnx is the standard one")
    nodes: int = Field(description="in the main graph")
    body_nodes: int = Field(description="in the bodies of If, Loop and Scan")
    functions: dict[str, int] = Field(description="nodes of each function of the model")


class HeaderChange(Part):
    """Something of the model as a whole that differs; empty on the side that lacks it."""

    what: str = Field(description="as IR version, input NAME, metadata KEY")
    a: str
    b: str


class OpCount(Part):
    """Nodes of one op, and the bytes of the constants whose first reader is of that op."""

    op: str = Field(description="with its domain in front unless that is ai.onnx or sardonyx")
    where: Where
    a: int
    b: int
    bytes_a: int
    bytes_b: int


class FormatCount(Part):
    """Constants of one number format; a quantized weight counts as one."""

    format: str = Field(description="as float32 or codebook3/tensor")
    a: int
    b: int
    bytes_a: int
    bytes_b: int


class Tensor(Part):
    """A constant, or a quantized weight under the name it had before."""

    name: str
    format: str
    shape: list[int]
    bytes: int
    read_by: str = Field(description="op of its first reader, before quantization; may be empty")
    sqnr_db: float | None = Field(
        default=None,
        description="quantized weight: signal to noise of what it was; null: nothing was lost",
    )


class TensorChange(Part):
    """A constant that both models hold, differently."""

    a: Tensor
    b: Tensor
    what: list[str] = Field(description="of format, shape, values")


class Node(Part):
    """A node of the graph or of a body."""

    name: str
    op: str


class NodeChange(Part):
    """A node that makes the same tensor in both models, differently."""

    a: Node
    b: Node
    what: list[str] = Field(description="of op, inputs, outputs, attributes")


class ModelDiff(Document):
    """The differences of two models, schema version 1. The order of nodes and constants, names of
    nodes and doc strings are no difference."""

    same: bool = Field(description="no difference at all")
    a: Side
    b: Side
    header: list[HeaderChange]
    ops: list[OpCount] = Field(description="all ops, also those that are equal")
    formats: list[FormatCount] = Field(description="all formats, also those that are equal")
    tensors_same: int
    tensors_only_a: list[Tensor]
    tensors_only_b: list[Tensor]
    tensors_changed: list[TensorChange]
    nodes_same: int
    nodes_only_a: list[Node]
    nodes_only_b: list[Node]
    nodes_changed: list[NodeChange]
    functions_changed: list[str] = Field(
        description="names of functions that both hold, differently"
    )
