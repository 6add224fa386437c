"""Where the weights of a graph are: constants that MatMul, Gemm and Gather read as matrices."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import DTypeLike, NDArray

from sardonyx.runtime_ops.gobo import GoboTensor

SLOTS = {"MatMul": (0, 1), "Gemm": (0, 1), "Gather": (0,)}
"""Inputs that may be weights, by op."""


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

    def decoded(self, tensor: GoboTensor) -> gs.Constant:
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
    """Every float constant of rank 2 or more that MatMul, Gemm or Gather reads, use by use."""
    return [use for node in graph.nodes for use in _uses_of(node)]


def float_vectors(graph: gs.Graph) -> Iterator[tuple[str, str]]:
    """Names of the float constants of rank 1 (more than one element), and of their first reader."""
    for constant in graph.tensors().values():
        if not isinstance(constant, gs.Constant) or not constant.outputs:
            continue
        if len(constant.shape) == 1 and constant.shape[0] > 1 and is_float(constant.dtype):
            yield constant.name, constant.outputs[0].name


def weight_count(uses: list[WeightUse]) -> int:
    """Elements of all distinct constants among ``uses``."""
    sizes = {id(use.view.constant): int(np.prod(use.view.constant.shape)) for use in uses}
    return sum(sizes.values())


def _uses_of(node: gs.Node) -> Iterator[WeightUse]:
    if node.domain not in (None, "", "ai.onnx"):
        return
    for slot in SLOTS.get(node.op, ()):
        source = _source(node.inputs[slot])
        if source is None:
            continue
        constant, turned, casts = source
        turned ^= node.op == "Gather" or bool(node.op == "Gemm" and node.attrs.get("transB", 0))
        view = WeightView(constant, turned, np.dtype([*casts, constant.dtype][0]))
        yield WeightUse(node, slot, view, _misfit(node, slot, constant, len(casts)))


def _misfit(node: gs.Node, slot: int, constant: gs.Constant, casts: int) -> str:
    if len(constant.shape) != 2:
        return f"rank {len(constant.shape)}: only matrices are encoded"
    if casts > 1:
        return f"reached through {casts} Casts: only one is followed"
    if node.op != "Gather" and slot == 0:
        return f"left operand of {node.op}: only right operands are encoded"
    if node.op == "Gather" and node.attrs.get("axis", 0) != 0:
        return f"Gather along axis {node.attrs['axis']}: only rows (axis 0) are encoded"
    return ""


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
