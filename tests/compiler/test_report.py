"""The report: it validates, adds up, and its schema does not change unnoticed."""

import json
import math
from itertools import pairwise

import numpy as np
import onnx
import pytest
from pydantic import ValidationError

from sardonyx.compiler import compile, load_recipe
from sardonyx.compiler.report import CompileReport, Totals

ARRAYS = ("indices", "centroids", "positions", "values")
DOCUMENTED = {
    "": "schema model recipe target totals tensors activations skipped kept_ops fused "
    "not_fused decided passes verification calibration seconds peak_rss_bytes",
    "totals": "bytes_before bytes_after ratio weights weights_quantized bits_per_weight "
    "outlier_share activations activations_xhy",
    "tensors": "name node op format bits groups outliers outlier_share sqnr_db bytes_before "
    "bytes_after role layer compute slice_of",
    "skipped": "name node reason eligible",
    "passes": "name rewrites nodes_before nodes_after seconds",
}


@pytest.fixture(scope="module")
def compiled(bert, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "bert.onnx"
    onnx.save(bert, path)
    return compile(path, "gobo"), path


def test_json_reads_back(compiled):
    report = compiled[0].report
    assert CompileReport.model_validate_json(report.to_json()) == report
    assert json.loads(report.to_json())["schema"] == 1


def test_the_documented_keys(compiled):
    written = json.loads(compiled[0].report.to_json())
    for place, keys in DOCUMENTED.items():
        part = written[place] if place else written
        part = part[0] if isinstance(part, list) else part
        assert list(part) == keys.split(), place


def test_another_key_or_version_is_refused(compiled):
    written = json.loads(compiled[0].report.to_json())
    for change in ({"extra": 1}, {"schema": 2}, {"totals": {}}):
        with pytest.raises(ValidationError):
            CompileReport.model_validate(written | change)


def test_activations_take_the_key_class(compiled):
    entry = {"name": "a", "node": "n", "format": "uniform8/tensor", "bits": 8, "range": [-1, 1]}
    entry |= {"method": "kl", "class": "gaussian", "sqnr_db": None}
    written = json.loads(compiled[0].report.to_json()) | {"activations": [entry]}
    report = CompileReport.model_validate(written)
    assert report.activations[0].class_ == "gaussian"
    later = {"class_reason": "", "product_sqnr_db": None, "curve": [], "why_wide": ""}
    later |= {"role": "", "kind": "", "layer": None, "group": None}
    assert json.loads(report.to_json())["activations"] == [entry | later]


def test_a_report_cannot_be_changed(compiled):
    with pytest.raises(ValidationError, match="frozen"):
        compiled[0].report.recipe = "other"


def test_schema(golden):
    schema = CompileReport.model_json_schema(mode="serialization", by_alias=True)
    golden(json.dumps(schema, indent=1) + "\n")


def test_every_field_says_what_it_means():
    schema = CompileReport.model_json_schema(mode="serialization")
    for definition in (schema, *schema["$defs"].values()):
        assert definition["description"]
    for name in Totals.model_fields:
        assert "description" in schema["$defs"]["Totals"]["properties"][name]


def test_totals(compiled, bert):
    done, path = compiled
    totals, tensors = done.report.totals, done.report.tensors
    matrices = [t for t in bert.graph.initializer if len(t.dims) == 2 and t.data_type == 1]
    assert totals.bytes_before == path.stat().st_size
    assert totals.bytes_after == len(done.model.SerializeToString())
    assert totals.ratio == totals.bytes_before / totals.bytes_after
    assert totals.weights == sum(math.prod(t.dims) for t in matrices)
    left = {skip.name for skip in done.report.skipped}
    kept = [t for t in matrices if t.name in left]
    assert totals.weights - totals.weights_quantized == sum(math.prod(t.dims) for t in kept)
    bits = 8 * sum(t.bytes_after for t in tensors)
    assert totals.bits_per_weight == pytest.approx(bits / totals.weights_quantized, rel=1e-12)
    share = sum(t.outliers for t in tensors) / totals.weights_quantized
    assert totals.outlier_share == pytest.approx(share, rel=1e-12)


def test_every_float_matrix_and_vector_is_listed_once(compiled, bert):
    report = compiled[0].report
    names = [entry.name for entry in (*report.tensors, *report.skipped)]
    assert len(names) == len(set(names))
    floats = [
        t.name for t in bert.graph.initializer if t.data_type == 1 and max(t.dims, default=1) > 1
    ]
    assert set(names) == set(floats)


def test_each_tensor(compiled):
    done = compiled[0]
    stored = {t.name: t for t in done.model.graph.initializer}
    for entry in done.report.tensors:
        parts = [stored[f"{entry.name}.{part}"] for part in ARRAYS]
        assert entry.bytes_after == sum(len(part.raw_data) for part in parts)
        assert entry.outliers == parts[3].dims[0]
        assert entry.bits == parts[0].dims[2]
        assert entry.format == f"codebook{entry.bits}/tensor"
        assert entry.bits == (4 if entry.op == "Gather" else 3)
        assert 10 < entry.sqnr_db < 25
        assert entry.node.endswith(entry.op)


def test_passes(compiled, bert):
    runs = compiled[0].report.passes
    assert list(dict.fromkeys(run.name for run in runs)) == [
        "lift-constants",
        "unfuse-attention",
        "unfuse-embed-layer-norm",
        "unfuse-multi-head-attention",
        "unfuse-matmul",
        "unfuse-skip-layer-norm",
        "unfuse-gelu",
        "gobo",
        *(a_pass.name for a_pass in load_recipe("cleanup").passes),
    ]
    assert runs[0].nodes_before == len(bert.graph.node)
    assert runs[-1].nodes_after == len(compiled[0].model.graph.node)
    assert all(one.nodes_after == two.nodes_before for one, two in pairwise(runs))
    assert sum(run.seconds for run in runs) <= compiled[0].report.seconds


def test_nothing_lost_is_null(text_model):
    values = np.tile(np.array([-2, -1, 0, 1, 2, 3, 4, 5], np.float32), (64, 12))
    model = text_model("g (float[N,64] X) => (float[N,96] Y) { Y = MatMul (X, W) }", W=values)
    report = compile(model, load_recipe("gobo", ["gobo.outliers=share", "gobo.threshold=0"])).report
    assert report.tensors[0].sqnr_db is None
    assert json.loads(report.to_json())["tensors"][0]["sqnr_db"] is None
    assert report.model == "g"


def test_external_data_counts(bert, tmp_path):
    path = tmp_path / "m.onnx"
    copy = onnx.ModelProto.FromString(bert.SerializeToString())
    onnx.save(copy, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    totals = compile(path, "gobo", verify="off").report.totals
    data = sum(len(t.raw_data) for t in bert.graph.initializer)
    assert totals.bytes_before == path.stat().st_size + data
    assert totals.bytes_before <= path.stat().st_size + (tmp_path / "w.bin").stat().st_size


def test_tied_weights_count_twice_before_and_once_after(text_model, normal):
    model = text_model(
        """g (float[N,64] X, int64[L] I) => (float[N,100] Y, float[L,64] Z) {
             Z = Gather (W, I)
             Y = MatMul (X, V)
           }""",
        W=normal(100, 64),
        V=np.ascontiguousarray(normal(100, 64).T),
    )
    report = compile(model, "gobo").report
    (entry,) = report.tensors
    assert entry.bytes_before == 2 * 100 * 64 * 4
    assert (report.totals.weights, report.totals.weights_quantized) == (12800, 12800)
    assert report.totals.bits_per_weight == 8 * entry.bytes_after / 6400  # stored once
    assert report.totals.outlier_share == entry.outlier_share == entry.outliers / 6400
