"""The reference executor: onnx's own evaluator with our ops. It defines what a graph computes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from sardonyx.runtime_ops.contrib import MEANINGS, simplified_layer_norm
from sardonyx.runtime_ops.contrib_integer import dequantize_linear, dynamic_quantize_linear
from sardonyx.runtime_ops.ops import DOMAIN, OPS

Meaning = Callable[..., Any]

_DEQUANTIZE = 19
"""The first operator set whose DequantizeLinear onnx's evaluator has."""


def _op_run(domain: str, name: str, meaning: Meaning) -> type[OpRun]:
    """The evaluator's class for an op that numpy defines."""

    def _run(self: OpRun, *inputs: np.ndarray | None, **attributes: Any) -> tuple[Any, ...]:
        results = meaning(*inputs, **attributes)
        outputs = results if isinstance(results, tuple) else (results,)
        return outputs[: len(self.onnx_node.output)]

    return type(name, (OpRun,), {"op_domain": domain, "_run": _run})


def reference_session(
    model: onnx.ModelProto | str, meanings: Mapping[str, Meaning] | None = None
) -> ReferenceEvaluator:
    """An evaluator whose ``run(output_names, feeds)`` follows the numpy definitions.

    ``model``: a model or the path of one. Contrib ops of onnxruntime run by `contrib.MEANINGS`;
    local functions of other domains by their bodies. ``meanings``: of all our ops, by name, where
    these are not to run by their own.
    """
    meanings = meanings or {name: op.meaning for name, op in OPS.items()}
    ops = [_op_run(DOMAIN, name, meaning) for name, meaning in meanings.items()]
    ops += [_op_run("com.microsoft", name, meaning) for name, meaning in MEANINGS.items()]
    # onnxruntime writes this one into the standard domain
    ops.append(_op_run("", "SimplifiedLayerNormalization", simplified_layer_norm))
    ops.append(_op_run("", "DynamicQuantizeLinear", dynamic_quantize_linear))
    model = onnx.load(model) if isinstance(model, str) else model
    if any(not opset.domain and opset.version < _DEQUANTIZE for opset in model.opset_import):
        ops.append(_op_run("", "DequantizeLinear", dequantize_linear))
    return ReferenceEvaluator(model, new_ops=ops)
