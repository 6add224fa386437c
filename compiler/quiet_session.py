"""onnxruntime on the CPU, silent: what goes wrong is said in one sentence by who asked."""

from pathlib import Path

import onnx
import onnxruntime as ort


def quiet_session(
    model: onnx.ModelProto | Path, *, optimize: bool = True, alone: bool = False
) -> ort.InferenceSession:
    """A session of a model or its file; with ``optimize`` False, of its nodes as they are written.

    ``alone``: each run is on the thread that asks for it, and no plan is kept for the shapes that
    it met. Memory is freed when its tensor was last read, and goes to others by the allocator: the
    plan that hands it from node to node takes time by the square of their number, minutes for the
    thousands of nodes of networks in many groups. Raises what onnxruntime raises.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.enable_mem_reuse = False
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if alone:
        options.intra_op_num_threads = 1
        options.enable_mem_pattern = False
    stored = model if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(stored, options, providers=["CPUExecutionProvider"])
