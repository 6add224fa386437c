"""Every architecture in every dialect: exported, held against PyTorch, compiled, run."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sardonyx.compiler import compile
from sardonyx.models.export.dialects import DIALECTS, pairs
from sardonyx.models.export.export_model import choose_route, export_model
from sardonyx.models.export.settings import ExportSettings
from sardonyx.models.tiny import ARCHITECTURES

pytestmark = pytest.mark.heavy

TORCH = 1e-5
"""Relative to the largest output: float32 sums of two or three layers in another order."""

SHARE = 0.98
"""Weights that MatMul, Gemm and Gather read, and are not too small to encode."""

MARKS = {
    "dynamo-attention": {"Attention"},
    "optimum-o2": {"SkipLayerNormalization", "SimplifiedLayerNormalization"},
    "optimum-merged": {"If"},
}
"""Ops of which a dialect has at least one in one of its files, else it is another dialect."""


def outputs(session, feed):
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def feeds_of(session, examples):
    wanted = {value.name for value in session.get_inputs()}
    return [{n: a for n, a in example.inputs.items() if n in wanted} for example in examples]


def check_torch(got, expected):
    for name, array in expected.items():
        assert got[name].shape == array.shape
        assert np.abs(got[name] - array).max() <= TORCH * np.abs(array).max(), name


def check_compiled(path, feeds, exported):
    samples = path.with_suffix(".npz")
    np.savez(samples, **feeds[0])
    compiled = compile(path, "gobo", samples, verify="full")
    totals = compiled.report.totals
    assert totals.weights_quantized >= SHARE * totals.weights
    session = ort.InferenceSession(compiled.model.SerializeToString())
    for feed, before in zip(feeds, exported, strict=True):
        for name, array in outputs(session, feed).items():
            assert array.shape == before[name].shape
            assert np.isfinite(array).all()


@pytest.mark.parametrize(("architecture", "dialect"), pairs())
def test_pair(architecture, dialect, tiny, examples, tmp_path):
    settings = DIALECTS[dialect]
    if choose_route(ExportSettings()) != settings.route:
        pytest.skip(f"the {settings.route} route has an environment of its own")
    output = tmp_path / "model.onnx"
    ops = set()
    for path in export_model(tiny(architecture), output, settings):
        part = path.stem.removeprefix("model").removeprefix(".")
        session = ort.InferenceSession(path)
        feeds = feeds_of(session, examples(architecture)[part])
        exported = [outputs(session, feed) for feed in feeds]
        for got, example in zip(exported, examples(architecture)[part], strict=True):
            check_torch(got, example.outputs)
        check_compiled(path, feeds, exported)
        ops |= {node.op_type for node in onnx.load(path).graph.node}
    assert not MARKS.get(dialect) or ops & MARKS[dialect]


def test_every_architecture_has_pairs():
    counts = {name: sum(pair[0] == name for pair in pairs()) for name in ARCHITECTURES}
    assert min(counts.values()) >= 4
