"""Where the weights of a graph are: constants that MatMul, Gemm and Gather read as matrices,
also inside fused ops and the bodies of If, Loop and Scan."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike, NDArray

from sardonyx.passes.fused import FUSED, MICROSOFT, is_standard, obstacle
from sardonyx.passes.scopes import all_constants, all_nodes
from sardonyx.runtime_ops.coded import CodedTensor
from sardonyx.runtime_ops.ops import DOMAIN, INPUTS

SLOTS = {"MatMul": (0, 1), "Gemm": (0, 1), "Gather": (0,)}
"""Inputs that may be weights, by op."""

ALREADY = "already quantized"
"""How the reason begins for a constant that another quantizer was at."""

VECTOR = "a vector (bias or normalisation parameter), not a weight matrix"
"""The reason for one."""

_CODES = ("int8", "uint8", "int4", "uint4", "int2", "uint2", "float8", "float4")
"""How the names of the types begin that hold quantized weights."""


CARRIERS = ("Identity", "Cast", "Transpose")
"""Ops through which a constant is still seen as a weight."""


def values_of(constant: gs.Constant) -> NDArray[np.generic]:
    """The values of a constant, read anew where they lie in a file, so that none stay in memory."""
    stored = constant._values
    array: NDArray[np.generic] = stored if isinstance(stored, np.ndarray) else stored.load()
    return array


@dataclass(frozen=True)
class WeightView:
    """A constant seen as the matrix W [K, N] that an op multiplies by or looks rows up in.

    ``turned``: W is the transpose of the constant. ``dtype``: that of W (a Cast may lie between).
    """

    constant: gs.Constant
    turned: bool
    dtype: np.dtype[np.generic]

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N)."""
        first, second = self.constant.shape
        return (second, first) if self.turned else (first, second)

    def matrix(self) -> NDArray[np.floating]:
        """W [K, N], read from where the constant lies."""
        values = values_of(self.constant).astype(self.dtype, copy=False)
        return values.T if self.turned else values

    def sample(self, places: NDArray[np.int64]) -> NDArray[np.generic]:
        """The weights at flat places ``k N + n`` of W."""
        k, n = np.divmod(places, self.shape[1])
        rows, columns = (n, k) if self.turned else (k, n)
        flat = rows * self.constant.shape[1] + columns
        stored = self.constant._values
        if hasattr(stored, "sample"):
            values = stored.sample(flat)
        else:
            values = values_of(self.constant).reshape(-1)[flat]
        sampled: NDArray[np.generic] = values.astype(self.dtype)
        return sampled

    def decoded(self, tensor: CodedTensor) -> gs.Constant:
        """A stand-in for the constant, with the values that ``tensor`` decodes to.

        In the dtype of W, which a Cast between the two leaves as it is.
        """
        matrix = tensor.decode()
        values = np.ascontiguousarray(matrix.T if self.turned else matrix)
        return gs.Constant(self.constant.name, values)


@dataclass(frozen=True)
class WeightUse:
    """One reader of a weight: input ``slot`` of ``node``, which sees W through ``view``.

    ``misfit``: why the reader's form cannot be rewritten; empty where it can.
    """

    node: gs.Node
    slot: int
    view: WeightView
    misfit: str = ""


def weight_uses(graph: gs.Graph) -> list[WeightUse]:
    """Every float constant of rank 2 or more that MatMul, Gemm, Gather or a fused op made of these
    reads, use by use."""
    return [use for node in all_nodes(graph) for use in _uses_of(node)]


def other_constants(graph: gs.Graph, uses: list[WeightUse]) -> Iterator[tuple[str, str, str]]:
    """Of constants that hold numbers a model learned but are no weight of ``uses``: name, first
    reader, and why they stay."""
    seen = {id(use.view.constant) for use in uses}
    for constant in all_constants(graph):
        reader = _first_reader(constant)
        if id(constant) in seen or reader is None:
            continue
        reason = _why_none(constant, reader)
        if reason:
            yield constant.name, reader.name, reason


def _why_none(constant: gs.Constant, reader: gs.Node) -> str:
    dtype, size = np.dtype(constant.dtype), int(np.prod(constant.shape))
    if len(constant.shape) >= 2 and dtype.name.startswith(_CODES):
        return f"{ALREADY}: {dtype.name} read by {reader.op}"
    if size < 2 or not is_float(dtype):
        return ""
    if not _is_bias(constant, reader) and any(map(_holds_codes, reader.inputs)):
        return f"{ALREADY}: belongs to the codes that {reader.op} reads"
    if len(constant.shape) < 2:
        return VECTOR
    return f"read by {reader.op}: only weights of MatMul, Gemm and Gather are encoded"


def _holds_codes(tensor: gs.Tensor) -> bool:
    constant = isinstance(tensor, gs.Constant) and len(tensor.shape) >= 2
    return constant and np.dtype(tensor.dtype).name.startswith(_CODES)


def _is_bias(constant: gs.Constant, reader: gs.Node) -> bool:
    """Whether one of our ops reads a constant beside the arrays of its weight."""
    beside = reader.inputs[1 + len(INPUTS) :] if reader.domain == DOMAIN else []
    return any(tensor is constant for tensor in beside)


def _first_reader(constant: gs.Constant) -> gs.Node | None:
    """The first node that computes with a constant, seen through carriers."""
    reader = constant.outputs[0] if constant.outputs else None
    while reader is not None and reader.op in CARRIERS:
        readers = reader.outputs[0].outputs
        reader = readers[0] if readers else None
    return reader


def weight_count(uses: list[WeightUse]) -> int:
    """Elements of all distinct constants among ``uses``."""
    sizes = {id(use.view.constant): int(np.prod(use.view.constant.shape)) for use in uses}
    return sum(sizes.values())


def _uses_of(node: gs.Node) -> Iterator[WeightUse]:
    standard = is_standard(node)
    slots = SLOTS if standard else FUSED if node.domain == MICROSOFT else {}
    for slot in slots.get(node.op, ()):
        source = _source(node.inputs[slot]) if slot < len(node.inputs) else None
        if source is None:
            continue
        constant, turned, casts = source
        turned ^= node.op == "Gather" or bool(node.op == "Gemm" and node.attrs.get("transB", 0))
        view = WeightView(constant, turned, np.dtype([*casts, constant.dtype][0]))
        misfit = _misfit(node, slot, constant, len(casts)) if standard else _fused(node)
        yield WeightUse(node, slot, view, misfit)


def _fused(node: gs.Node) -> str:
    return f"inside {node.op}, which stays fused: {obstacle(node) or 'no pass took it apart'}"


def _misfit(node: gs.Node, slot: int, constant: gs.Constant, casts: int) -> str:
    axis = node.attrs.get("axis", 0)
    reasons = {
        f"rank {len(constant.shape)}: only matrices are encoded": len(constant.shape) != 2,
        "empty: it holds no weight": 0 in constant.shape,
        f"reached through {casts} Casts: only one is followed": casts > 1,
        f"left operand of {node.op}: only right operands are encoded": (
            node.op != "Gather" and slot == 0
        ),
        f"Gather along axis {axis}: only rows (axis 0) are encoded": (
            node.op == "Gather" and axis != 0
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _source(tensor: gs.Tensor) -> tuple[gs.Constant, bool, list[np.dtype[np.generic]]] | None:
    """The float constant behind Identity, Cast and Transpose; is it turned; dtypes of the Casts,
    the one nearest to the reader first."""
    turned, casts = False, list[np.dtype[np.generic]]()
    while isinstance(tensor, gs.Variable):
        step = tensor.inputs[0] if len(tensor.inputs) == 1 else None
        if step is None or step.op not in CARRIERS:
            return None
        if step.op == "Cast":
            if step.attrs["to"] not in onnx.helper.get_all_tensor_dtypes():
                return None
            casts.append(onnx.helper.tensor_dtype_to_np_dtype(step.attrs["to"]))
        if step.op == "Transpose":
            order = list(step.attrs.get("perm", (1, 0)))
            if order not in ([0, 1], [1, 0]):
                return None
            turned ^= order == [1, 0]
        tensor = step.inputs[0]
    if not isinstance(tensor, gs.Constant) or len(tensor.shape) < 2 or not is_float(tensor.dtype):
        return None
    return (tensor, turned, casts) if all(map(is_float, casts)) else None


def is_float(dtype: DTypeLike) -> bool:
    """Whether the codec takes this dtype: float16, float32, float64 or bfloat16."""
    return np.dtype(dtype).name in ("float16", "float32", "float64", "bfloat16")
