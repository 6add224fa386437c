"""unfuse-embed-layer-norm: the same outputs from tables that Gathers read; what stays fused."""

import itertools

import numpy as np
import pytest

from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.roles import Place
from sardonyx.passes.unfuse.embed_layer_norm import UnfuseEmbedLayerNorm

OPTIONS = ("segments", "mask", "places", "sum", "index")
COMBINATIONS = [o for count in range(6) for o in itertools.combinations(OPTIONS, count)]

IDS = {
    "ids": np.array([[5, 0, 29], [7, 7, 1]], np.int32),
    "segments": np.array([[0, 0, 1], [1, 0, 1]], np.int32),
    "mask": np.array([[1, 1, 0], [2, 1, -1]], np.int32),  # onnxruntime counts what equals 1
    "places": np.array([[2, 0, 1], [9, 9, 0]], np.int32),
}


@pytest.fixture(scope="module")
def tables(normal):
    """The word, position and segment tables, scale and shift of 16 columns."""
    words, positions, kinds = (normal(rows, 16, seed=rows) for rows in (30, 10, 2))
    named = {"words": words, "positions": positions, "kinds": kinds}
    return named | {"scale": 1 + normal(16), "shift": normal(16, seed=1)}


def text_of(options):
    """One EmbedLayerNormalization with some of its optional inputs and outputs."""
    given = [name for name in IDS if name in ("ids", *options)]
    segments, kinds = ("segments", "kinds") if "segments" in options else ("", "")
    operands = ["ids", segments, "words", "positions", kinds, "scale", "shift"]
    operands += [name if name in options else "" for name in ("mask", "places")]
    results = ["Y", *(name if name in options else "" for name in ("index", "sum"))]
    if not any(results[1:]):
        results[1] = "unread"  # onnxruntime wants a second output
    types = {"Y": "float[B,S,16] Y", "index": "int32[B] index", "sum": "float[B,S,16] sum"}
    outputs = ", ".join(types[name] for name in results if name in types)
    return (
        f"g ({', '.join(f'int32[B,S] {name}' for name in given)}) => ({outputs}) {{"
        f"{', '.join(results).rstrip(', ')} = com.microsoft.EmbedLayerNormalization"
        f" <epsilon = 0.001> ({', '.join(operands).rstrip(', ')}) }}"
    )


@pytest.mark.parametrize("options", COMBINATIONS, ids="-".join)
def test_every_form(unfuse, contrib, tables, options):
    used = {name: table for name, table in tables.items() if name != "kinds"}
    model = contrib(text_of(options), **(tables if "segments" in options else used))
    feeds = {name: ids for name, ids in IDS.items() if name in ("ids", *options)}
    after = unfuse(UnfuseEmbedLayerNorm(), model, feeds)
    normalize = next(n for n in after.graph.node if n.op_type == "SkipLayerNormalization")
    assert len(normalize.input) == 4
    read = [node.input[0] for node in after.graph.node if node.op_type == "Gather"]
    assert {"words", "positions"} <= set(read)
    assert ("kinds" in read) == ("segments" in options)


def test_the_mask_index_counts_ones(unfuse, contrib, tables, run_ort):
    model = contrib(text_of(OPTIONS), **tables)
    after = unfuse(UnfuseEmbedLayerNorm(), model, IDS)
    assert run_ort(after, IDS)[1].tolist() == [2, 1]
    without = contrib(text_of(("index", "segments")), **tables)
    feeds = {name: IDS[name] for name in ("ids", "segments")}
    assert run_ort(unfuse(UnfuseEmbedLayerNorm(), without, feeds), feeds)[1].tolist() == [0, 0]


def test_names_and_notes(unfuse, contrib, tables):
    model = contrib(text_of(OPTIONS), **tables)
    model.graph.node[0].name = "embed"
    model.graph.node[0].doc_string = "a line"
    after = unfuse(UnfuseEmbedLayerNorm(), model, IDS)
    assert all(node.name.startswith("embed/") for node in after.graph.node)
    (noted,) = (node for node in after.graph.node if node.doc_string)
    assert (noted.op_type, noted.doc_string) == ("SkipLayerNormalization", "a line")
    assert {tensor.name for tensor in after.graph.initializer} > set(tables)


def test_the_tables_are_encoded(apply, contrib, tables):
    parts = apply(UnfuseEmbedLayerNorm(), contrib(text_of(OPTIONS), **tables)).model
    done = apply(Gobo(min_weights=1, embedding_bits=2), parts)
    assert {e.name: e.place for e in done.journal.encoded} == dict.fromkeys(
        ("words", "positions"), Place("embedding")
    )
    assert done.reasons["kinds"].startswith("encoded it takes")


def test_near_miss_1_a_table_that_is_computed(apply, contrib, tables):
    words = tables["words"]
    text = text_of(OPTIONS).replace("ids,", "ids, float[30,16] V,", 1)
    text = text.replace("{Y", "{words = Neg (V)\n Y")
    others = {name: table for name, table in tables.items() if name != "words"}
    after = apply(UnfuseEmbedLayerNorm(), contrib(text, **others))
    assert after.rewrites == 0
    reasons = apply(Gobo(min_weights=1), contrib(text, **others)).reasons
    stays = "inside EmbedLayerNormalization, which stays fused: its tables are no constant matrices"
    assert {reasons["positions"], reasons["kinds"]} == {stays}
    assert apply(UnfuseEmbedLayerNorm(), contrib(text_of(OPTIONS), words=words, **others)).rewrites
