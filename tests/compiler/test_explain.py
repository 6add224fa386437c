"""The answers on a tensor or node, from the compiled file alone and with the report."""

import numpy as np
import onnx
import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.explain import explainer
from sardonyx.runtime_ops.errors import InputError

TIED = """
g (int64[N] I, float[N,64] X, float[M,64] Z) => (float[N,64] E, float[N,96] Y, float[M,96] U) {
  E = Gather (W, I)
  Y = Gemm <transB = 1> (X, V, B)
  U0 = MatMul (Z, S)
  U = Add (U0, S2)
}
"""


@pytest.fixture
def explained(tmp_path):
    """An Explainer of a model that was compiled and written."""

    def make(model, with_report=False, **arguments):
        compiled = compile(model, "gobo", **arguments)
        compiled.save(tmp_path / "m.onnx")
        return explainer(tmp_path / "m.onnx", compiled.report if with_report else None)

    return make


@pytest.fixture
def tied(explained, text_model, normal):
    table = normal(96, 64)
    return explained(
        text_model(TIED, W=table, V=table, B=normal(96), S=normal(64, 96)[:, :1], S2=normal(1, 96))
    )


def test_a_weight_tells_all_that_became_of_it(explained, bert):
    answers = explained(bert)
    name = "encoder.layer.0.attention.self.query.weight"
    answer = answers.about(name)
    entry = next(entry for entry in answers.quantized if entry.name == name)
    facts = dict(answer.facts)
    assert answer.verdict == "quantized by pass gobo of recipe gobo"
    assert facts["was"] == "float32 [64, 64], read by MatMul"
    assert facts["is"] == "codebook3/tensor: 3-bit indices into 8 centroids"
    assert facts["outliers"].startswith(f"{entry.outliers:,} of 4,096 ({entry.outlier_share:.4%})")
    assert facts["SQNR"] == f"{entry.sqnr_db:.2f} dB"
    assert facts["bytes"].startswith(f"16,384 -> {entry.bytes_after:,}, ")
    assert facts["read by"] == "GoboMatMul3 '/encoder/layer.0/attention/self/query/MatMul'"
    assert facts["stored as"].startswith(f"{name}.indices: uint8 [4, 2, 3, 16, 4], 1,536 bytes")


@pytest.mark.parametrize("compute", ["fp32", "int8"])
def test_how_products_are_computed(explained, bert, compute):
    answers = explained(bert, overrides=[f"gobo.compute={compute}"])
    facts = dict(answers.about("encoder.layer.0.attention.self.query.weight").facts)
    assert facts.get("products", "fp32") == compute
    by_role = {entry.role: entry.compute for entry in answers.quantized}
    assert (by_role["query"], by_role["embedding"]) == (compute, "fp32")


def test_tables_of_groups(explained, bert):
    answers = explained(bert, with_report=True, overrides=["gobo.groups=8"])
    name = "encoder.layer.0.attention.self.query.weight"
    entry = next(entry for entry in answers.quantized if entry.name == name)
    assert (entry.format, entry.groups) == ("codebook3/8 groups", 8)
    facts = dict(answers.about(name).facts)
    tables = "8 tables of 8 centroids, one for each group of columns"
    assert facts["is"] == f"codebook3/8 groups: 3-bit indices into {tables}"
    assert f"{name}.centroids: float32 [8, 8], 256 bytes" in facts["stored as"]


def test_all_names_of_a_weight_lead_to_it(tied):
    facts = tied.about("W").facts
    assert ("weight", "W\nV") in facts
    assert ("was", "float32 [96, 64], read by Gather") in facts
    assert tied.about("V") == tied.about("W")
    assert tied.about("W.values").facts == facts
    assert tied.about("W.values").verdict == "the outliers of weight 'W'"


def test_a_weight_that_lost_nothing(explained, text_model):
    model = text_model(
        "g (float[N,64] X) => (float[N,96] Y) { Y = MatMul (X, W) }",
        W=np.random.default_rng(0).integers(0, 5, (64, 96)).astype(np.float32),
    )
    answers = explained(model)
    assert ("SQNR", "exact: nothing was lost") in answers.about("W").facts
    assert answers.quantized[0].sqnr_db is None


def test_a_node_leads_to_its_weight(explained, bert):
    answers = explained(bert)
    node = "/encoder/layer.0/attention/self/query/MatMul"
    answer = answers.about(node)
    assert answer.verdict == "MatMul became GoboMatMul3"
    assert answer.facts == answers.about("encoder.layer.0.attention.self.query.weight").facts


@pytest.mark.parametrize("with_report", [False, True])
def test_what_was_left_alone_and_why(explained, bert, with_report):
    answers = explained(bert, with_report)
    answer = answers.about("embeddings.token_type_embeddings.weight")
    assert answer.verdict == "left alone: small: 128 weights, fewer than 4096"
    assert ("holds", "float32 [2, 64]") in answer.facts
    assert answers.about("embeddings.LayerNorm.bias").verdict.startswith("left alone: a vector")


def test_reasons_survive_in_the_file_alone(explained, bert):
    with_report, without = explained(bert, with_report=True), explained(bert)
    assert with_report.reasons == without.reasons
    assert with_report.recipe == without.recipe == "gobo"


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("I", "an input of the model"),
        ("Y", "a value computed when the model runs"),
        ("U", "Add, not touched: it has no weight that was quantized"),
        ("E", "Gather became GoboGather4"),
        ("Y/MatMul:0", "Gemm became GoboMatMul4"),
    ],
)
def test_values_and_other_nodes(tied, name, verdict):
    assert tied.about(name).verdict == verdict


def test_a_constant_that_no_pass_looks_at(explained, bert):
    answers = explained(bert)
    shape = next(name for name, t in answers.held.tensors.items() if t.dtype == "int64")
    reader = answers.held.readers[shape][0]
    verdict = answers.about(shape).verdict
    assert verdict == f"not touched: it is read by {reader.op} '{reader.name}'"
    assert shape in {tensor.name for tensor in answers.others}


def test_a_model_whose_header_was_lost(explained, bert, tmp_path):
    explained(bert)
    model = onnx.load(tmp_path / "m.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "m.onnx")
    answers = explainer(tmp_path / "m.onnx")
    verdict = answers.about("encoder.layer.0.attention.self.query.weight").verdict
    assert verdict == "quantized by pass gobo of recipe unknown"
    assert len(answers.quantized) == 14


def test_a_model_that_was_never_compiled(bert_file):
    answers = explainer(bert_file)
    assert (answers.recipe, answers.quantized, answers.reasons) == ("", [], {})
    answer = answers.about("encoder.layer.0.attention.self.query.weight")
    assert answer.verdict == "as it came: the model was not compiled by Sardonyx"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("embeddings.LayerNorm.bia", "did you mean 'embeddings.LayerNorm.bias'?"),
        ("EMBEDDINGS.layernorm.BIAS", "did you mean 'embeddings.LayerNorm.bias'?"),
        ("embedings.LayrNorm.bias", "did you mean 'embeddings.LayerNorm.bias'"),
        ("nonsense", "'sardonyx explain' without a name shows what there is"),
        ("query.weight", "query.weight' or "),
        ("", "more)?"),
    ],
)
def test_an_unknown_name_gets_names_like_it(explained, bert, name, says):
    with pytest.raises(InputError, match="has no tensor or node") as caught:
        explained(bert).about(name)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_report_of_another_model(explained, bert, bert_file, tmp_path):
    explained(bert)
    report = compile(bert, "gobo").report
    onnx.save(bert, tmp_path / "plain.onnx")
    with pytest.raises(InputError, match="only one of them has 'embeddings"):
        explainer(tmp_path / "plain.onnx", report)


@pytest.mark.parametrize(("width", "op"), [(64, "GoboMatMul3"), (16, "MatMul")])
def test_a_weight_that_was_taken_apart(explained, text_model, normal, width, op):
    model = text_model(
        f"""g (float[B,S,{width}] X) => (float[B,S,256] Y) {{
          P = com.microsoft.Attention <num_heads = 2> (X, W, bias)
          Y = MatMul (P, V)
        }}""",
        W=normal(width, 3 * width),
        bias=normal(3 * width),
        V=normal(width, 256),
    )
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    answers = explained(model)
    answer = answers.about("W")
    assert answer.verdict == "taken apart: each part is a weight of its own"
    assert answer.facts == [
        ("parts", "W.query\nW.key\nW.value"),
        ("read by", "\n".join(f"{op} 'P/{part}'" for part in ("query", "key", "value"))),
    ]
    with pytest.raises(InputError, match="did you mean 'W'"):
        answers.about("w")
