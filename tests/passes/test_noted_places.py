"""Places that notes tell: of networks that a pass took apart, so that structure tells none."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from sardonyx.compiler.load import load
from sardonyx.models import TINY_BERT, seeded_bert
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal
from sardonyx.passes.metadata import annotate
from sardonyx.passes.rewrite import reread
from sardonyx.passes.roles import Place, noted_place, weight_places
from sardonyx.passes.weights import weight_uses


@pytest.fixture
def graph():
    """A BERT of two layers."""
    graph = load(seeded_bert(TINY_BERT, 0))[1]
    LiftConstants().run(graph, Journal())
    return graph


def placed(graph):
    uses = weight_uses(graph)
    found = weight_places(graph, uses)
    return {use.view.constant.name: found[id(use.view.constant)] for use in uses}


def test_a_network_taken_apart_keeps_its_places(graph):
    before = placed(graph)
    first = [name for name, place in before.items() if place in FIRST]
    products = [n for n in graph.nodes if n.op == "MatMul" and n.inputs[1].name in first]
    _put_product_ahead(graph, products[1])
    assert placed(graph)[first[0]].role == "other"
    for node, place in zip(products, FIRST, strict=True):
        annotate(node, role=place.role, layer=place.layer)
    after = placed(graph)
    assert after.pop("between") == Place("other")
    assert after == before


FIRST = (Place("ffn_in", 0), Place("ffn_out", 0))


def _put_product_ahead(graph, node):
    """So that two products no longer follow each other."""
    between = gs.Constant("between", np.eye(node.inputs[1].shape[0], dtype=np.float32))
    out = gs.Variable("through", np.float32)
    graph.nodes.insert(
        graph.nodes.index(node), gs.Node("MatMul", "through", {}, [node.inputs[0], between], [out])
    )
    reread(node, 0, out)


@pytest.mark.parametrize(
    "notes", [{}, {"role": "ffn_in"}, {"role": "ffn_in, layer 0"}, {"role": "none", "layer": 0}]
)
def test_other_notes_tell_no_place(graph, notes):
    annotate(graph.nodes[0], **notes)
    assert noted_place(graph.nodes[0]) is None
