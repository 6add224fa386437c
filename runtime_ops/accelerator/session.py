"""The accelerator as a backend: a session of a compiled model on GOBO's chip.

GOBO's ops run by the chip's dataflow (`functional`). Every other op runs as the reference executor
defines it: its vector unit and host compute in float32 like any other, only slower or faster.
"""

from typing import Any

import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from sardonyx.runtime_ops.accelerator.functional import Weight, lookup, product, read, transcode
from sardonyx.runtime_ops.gobo import GoboTensor
from sardonyx.runtime_ops.ops import INPUTS, OPS, CustomOp
from sardonyx.runtime_ops.reference import Meaning, reference_session


class _Memory:
    """The weights in the chip's DRAM, each transcoded when it is first read."""

    def __init__(self) -> None:
        self._weights: dict[tuple[int, ...], tuple[GoboTensor, Weight]] = {}

    def weight(self, tensor: GoboTensor) -> Weight:
        """A weight as the chip reads it."""
        arrays = tensor.indices, tensor.centroids, tensor.positions, tensor.values
        key = tuple(map(id, arrays))
        if key not in self._weights:
            # the tensor is kept so that no other array takes an id of its own
            self._weights[key] = tensor, read(transcode(tensor), tensor)
        return self._weights[key][1]


def accelerator_session(model: onnx.ModelProto) -> ReferenceEvaluator:
    """An evaluator whose ``run(output_names, feeds)`` computes as GOBO's chip does.

    ``compute = "int8"`` of an op is no more than a wish, and the chip computes in float32. Running
    raises InputError where a weight is float64.
    """
    memory = _Memory()
    return reference_session(model, {name: _meaning(op, memory) for name, op in OPS.items()})


def _meaning(op: CustomOp, memory: _Memory) -> Meaning:
    """What an op computes on the chip; as `CustomOp.meaning`."""

    def run(
        x: NDArray[Any], *arrays: NDArray[Any], shape: tuple[int, int], compute: str = "fp32"
    ) -> NDArray[Any]:
        stored, bias = arrays[: len(INPUTS)], arrays[len(INPUTS) :]
        weight = memory.weight(GoboTensor(op.bits, shape[0], shape[1], *stored))
        if op.inputs[0] == "ids":
            return lookup(x, weight).astype(stored[1].dtype)
        result: NDArray[Any] = product(x, weight)
        return result + bias[0] if bias else result

    return run
