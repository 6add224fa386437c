"""insert-qdq: tables as rows of codes; one that is an output projection too is stored once."""

import numpy as np
import pytest

from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.quantize.insert_qdq import InsertQdq
from sardonyx.runtime_ops.uniform import encode

PASS = InsertQdq()
GATHER = "g (int64[M] I) => (float[M,64] Y) { [lookup] Y = Gather (W, I) }"
IDS = {"I": np.array([0, 99, 7, -1, -100])}

TIED = """g (int64[M] I, float[M,64] X) => (float[M,64] Z, float[M,100] Y) {
  [lookup] Z = Gather (W, I)
  V = Transpose <perm = [1, 0]> (W)
  [product] Y = MatMul (X, V)
}"""


def stored(table, bits, per):
    """Rows of the table, decoded."""
    tensor, _ = encode(table.T, bits, per)
    return tensor, tensor.decode().T


def test_rows_share_a_scale_where_the_mean_row_bears_it(done, text_model, normal):
    alike, apart = normal(100, 64), normal(100, 64)
    apart[7] *= 100  # hardly a part of its energy is lost, but all of the others
    for table, format in ((alike, "uniform8/tensor"), (apart, "uniform8/channel")):
        after = done(InsertQdq(), text_model(GATHER, W=table))
        assert str(after.encoded["W"].format) == format


def test_a_scale_for_each_row(done, text_model, run_ort, normal):
    table = normal(100, 64)
    after = done(InsertQdq(embedding_per="channel"), text_model(GATHER, W=table))
    assert after.wiring == [
        "lookup/Codes:0 = Gather (W.codes, I)",
        "lookup/Steps:0 = Cast (lookup/Codes:0)",
        "lookup/Scales:0 = Gather (W.scale, I)",
        "lookup/Column:0 = Unsqueeze (lookup/Scales:0, lookup/Axis)",
        "Y = Mul (lookup/Steps:0, lookup/Column:0)",
    ]
    tensor, rows = stored(table, 8, "channel")
    assert np.array_equal(after.constants["W.codes"], tensor.codes.T)
    assert np.array_equal(after.constants["W.scale"], tensor.scale)
    assert np.array_equal(run_ort(after.model, IDS)[0], rows[IDS["I"]])
    entry = after.encoded["W"]
    assert (str(entry.format), entry.compute, entry.op) == ("uniform8/channel", "fp32", "Gather")
    assert after.journal.activations == []


def test_one_scale(done, text_model, run_ort, normal):
    table = normal(100, 64)
    after = done(InsertQdq(embedding_per="tensor"), text_model(GATHER, W=table))
    assert after.wiring == [
        "lookup/Codes:0 = Gather (W.codes, I)",
        "Y = DequantizeLinear (lookup/Codes:0, W.scale)",
    ]
    _, rows = stored(table, 8, "tensor")
    assert np.array_equal(run_ort(after.model, IDS)[0], rows[IDS["I"]])


@pytest.mark.parametrize("per", ["tensor", "channel"])
@pytest.mark.parametrize("shape", ["", "A,B,C"])
def test_ids_of_any_rank(done, text_model, run_ort, normal, per, shape):
    ids = f"[{shape}]" if shape else ""
    text = GATHER.replace("[M] I", f"{ids} I").replace("M,64", f"{shape},64".lstrip(","))
    ids = {"I": np.arange(8).reshape(2, 2, 2) if shape else np.array(3)}
    table = normal(100, 64)
    after = done(InsertQdq(embedding_per=per), text_model(text, W=table))
    _, rows = stored(table, 8, per)
    assert np.array_equal(run_ort(after.model, ids)[0], rows[ids["I"]])


@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_lookups_of_one_table_share_its_constants(done, text_model, run_ort, normal, per):
    before = text_model(
        """g (int64[M] I) => (float[M,64] Y, float[M,64] Z) {
             Y = Gather (W, I)
             J = Abs (I)
             Z = Gather (W, J)
           }""",
        W=normal(101, 64),
    )
    after = done(InsertQdq(embedding_per=per), before)
    held = {name for name in after.constants if "Axis" not in name}
    assert (after.rewrites, held) == (2, {"W.codes", "W.scale"})
    first, second = run_ort(after.model, {"I": np.array([3, -3])})
    assert np.array_equal(second[0], second[1])
    assert np.array_equal(first[0], second[0])


@pytest.mark.parametrize("activations", ["static", "dynamic"])
@pytest.mark.parametrize("per", ["tensor", "channel"])
def test_tied_to_the_output_projection(
    done, apply, sqnr, text_model, run_ort, normal, x, activations, per
):
    table = normal(100, 64)
    feeds = {"I": np.arange(7), "X": x}
    before = text_model(TIED, W=table)
    a_pass = InsertQdq(activations=activations, embedding_per=per)
    after = done(a_pass, before, *[feeds] * (activations == "static"))
    assert after.rewrites == 2
    left = apply(RemoveUnused(), after.model).model.graph.initializer
    assert [(t.name, t.dims) for t in left if np.prod(t.dims) > 100] == [("W.codes", [100, 64])]
    assert np.abs(after.constants["W.codes"]).max() == 63  # multiplied: 7 bits
    turn = "product/Codes:0 = Transpose (W.codes)"
    assert turn in after.wiring
    _, rows = stored(table, 7, per)
    assert np.array_equal(run_ort(after.model, feeds)[0], rows[:7])
    assert sqnr(before, after.model, feeds) > 25
    (entry,) = after.journal.encoded
    assert (entry.op, entry.nodes, entry.compute) == ("Gather", ("lookup", "product"), "int8")


def test_tied_by_contents(done, sqnr, text_model, normal, x):
    table = normal(100, 64)
    before = text_model(
        """g (int64[M] I, float[M,64] X) => (float[M,64] Z, float[M,100] Y) {
             Z = Gather (W, I)
             Y = MatMul (X, V)
           }""",
        W=table,
        V=np.ascontiguousarray(table.T),
    )
    feeds = {"I": np.arange(7), "X": x}
    after = done(PASS, before, feeds)
    assert [name for name, array in after.constants.items() if array.size > 100] == ["W.codes"]
    assert sqnr(before, after.model, feeds) > 25


def test_scales_are_no_table_to_the_next(done, text_model, normal):
    after = done(InsertQdq(min_weights=1), text_model(GATHER, W=normal(100, 64)))
    for again in (InsertQdq(min_weights=1), InsertQdq(min_weights=1, embedding_per="tensor")):
        assert done(again, after.model).reasons == {
            "W.codes": "already quantized: int8 read by Gather"
        }


def test_near_miss_no_embeddings(done, text_model, normal):
    after = done(InsertQdq(embeddings=False), text_model(GATHER, W=normal(100, 64)))
    assert after.reasons == {"W": "an embedding table, with embeddings = false"}
    assert after.rewrites == 0


def test_near_miss_1_columns(done, text_model, normal):
    text = "g (int64[M] I) => (float[100,M] Y) { Y = Gather <axis = 1> (W, I) }"
    after = done(PASS, text_model(text, W=normal(100, 64)))
    assert after.reasons == {"W": "Gather along axis 1: only rows (axis 0) are encoded"}
