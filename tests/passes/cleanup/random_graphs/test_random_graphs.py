"""Recipe cleanup on random graphs that hold what it removes: equal outputs, nothing grows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from sardonyx.compiler import compile, load_recipe
from sardonyx.compiler.load import load
from sardonyx.compiler.verify import relative_difference


def node_count(model: onnx.ModelProto) -> int:
    graphs = [model.graph, *(a.g for n in model.graph.node for a in n.attribute if a.HasField("g"))]
    return sum(node.op_type != "Constant" for graph in graphs for node in graph.node)


def weight_of(model: onnx.ModelProto) -> int:
    """Bytes without what is only said of nodes and tensors."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.metadata_props[:], bare.graph.value_info[:]
    for node in bare.graph.node:
        del node.metadata_props[:]
    return bare.ByteSize()


NAME_BYTES = 48
"""That the name of a new node and its output may take beyond that of what it replaces."""


def check(model: onnx.ModelProto, feeds: list[Any], run: Callable[..., Any], verify: Any) -> None:
    """The compiled model makes the same of both feeds, is no larger, and stays as it is."""
    try:
        wanted = [run(model, feed) for feed in feeds]
        load(model)
    except Exception:  # of onnxruntime, which has no one kind, or of load: no model to begin with
        reject()
    done = compile(model, "cleanup", verify=verify)
    for feed, want in zip(feeds, wanted, strict=True):
        have = run(done.model, feed)
        assert max(map(relative_difference, want, have)) <= BOUND
    assert node_count(done.model) <= node_count(model)
    assert weight_of(done.model) <= weight_of(model) + NAME_BYTES * node_count(done.model)
    again = compile(done.model, "cleanup", verify="off")
    assert [run.name for run in again.report.passes if run.rewrites] == []
    assert again.model == done.model


BOUND = max(a_pass.bound for a_pass in load_recipe("cleanup").passes)

quick = settings(max_examples=200, suppress_health_check=list(HealthCheck))
long = settings(max_examples=5000, suppress_health_check=list(HealthCheck))


@quick
@given(st.data())
def test_equal_outputs(grown, run_ort, data):
    check(*grown(data.draw), run_ort, "off")


@settings(quick, max_examples=60)
@given(st.data())
def test_equal_outputs_verified(grown, run_ort, data):
    check(*grown(data.draw), run_ort, "default")


@pytest.mark.slow
@long
@given(st.data())
def test_thousands(grown, run_ort, data):
    check(*grown(data.draw), run_ort, data.draw(st.sampled_from(["off", "default"])))
