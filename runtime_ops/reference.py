"""The reference executor: onnx's own evaluator with our ops. It defines what a graph computes."""

from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from sardonyx.runtime_ops.ops import DOMAIN, OPS, CustomOp


def _op_run(op: CustomOp) -> type[OpRun]:
    """The evaluator's class for one of our ops: its `meaning`, with the attributes it has."""

    def _run(self: OpRun, *inputs: np.ndarray, **attributes: Any) -> tuple[np.ndarray]:
        return (op.meaning(*inputs, **attributes),)

    return type(op.name, (OpRun,), {"op_domain": DOMAIN, "_run": _run})


def reference_session(model: onnx.ModelProto | str) -> ReferenceEvaluator:
    """An evaluator whose ``run(output_names, feeds)`` follows the numpy definitions.

    ``model``: a model or the path of one. Local functions of other domains run by their bodies.
    """
    return ReferenceEvaluator(model, new_ops=[_op_run(op) for op in OPS.values()])
