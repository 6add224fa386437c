"""Roles of whole models, against the names that their exporters gave."""

import re

import pytest

from sardonyx.models import TINY_BERT, TINY_MPNET, minilm_l3_onnx, seeded_bert
from sardonyx.passes.roles import Place

PARTS = {
    "query": r"attention\.(self\.query|attn\.q)",
    "key": r"attention\.(self\.key|attn\.k)",
    "value": r"attention\.(self\.value|attn\.v)",
    "attention_output": r"attention\.(output\.dense|attn\.o)",
    "ffn_in": r"intermediate\.dense",
    "ffn_out": r"layer\.\d+\.output\.dense",
    "embedding": r"embeddings|relative_attention_bias",
    "head": r"pooler\.dense",
}
"""How the modules of a BERT or MPNet are called, by role."""


def truth(name):
    """The place that a module's name tells."""
    (role,) = (role for role, part in PARTS.items() if re.search(rf"({part})\b", name))
    layer = re.search(r"layer\.(\d+)", name)
    return Place(role, int(layer[1]) if layer else None)


@pytest.fixture(scope="module")
def count(places):
    """How many nodes read weights, all with roles as their names tell."""

    def check(model):
        found = places(model, of="node")
        assert found == {name: truth(name.replace("/", ".")) for name in found}
        return len(found)

    return check


def test_a_real_model(count):
    assert count(minilm_l3_onnx()) == 3 + 3 * 6


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("config", [TINY_BERT, TINY_MPNET], ids=["BERT", "MPNet"])
def test_a_built_encoder(count, config, opset):
    model = seeded_bert(config, 0, pooler=True, opset=opset)
    assert count(model) == 3 + config.layers * 6 + 1
