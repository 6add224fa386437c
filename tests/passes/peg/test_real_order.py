"""Real encoders with all channels in another order: in all layers the same, or in each its own."""

import numpy as np
import pytest

from sardonyx.models import TINY_BERT, TINY_MPNET, minilm_l3_onnx, seeded_bert
from sardonyx.passes.ffn_blocks import ffn_blocks

PLACES = 12


def streams(graph):
    return [tensor for block in ffn_blocks(graph) for tensor in (block.x, block.g)]


def sums(graph):
    return [block.y for block in ffn_blocks(graph)]


@pytest.fixture
def ids():
    random = np.random.default_rng(0)
    mask = np.ones((2, PLACES), np.int64)
    mask[1, 7:] = 0
    return {"input_ids": random.integers(0, 60, (2, PLACES)), "attention_mask": mask}


def test_minilm(shuffled, ids):
    """The last hidden state is an output, and its mean, behind a Concat of it alone."""
    after = shuffled(minilm_l3_onnx(), ids, streams)
    assert len(after.streams) == 1 + 3
    ends = ["/model/model.1/Div_output_0", "onnx::Shape_422"]
    assert sorted(node.output[0] for node in after.gathers) == ends
    apart = shuffled(minilm_l3_onnx(), ids, streams, sums)
    assert len(apart.streams) == 3 + 3
    assert len(apart.gathers) == 3


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("config", [TINY_BERT, TINY_MPNET], ids=["bert", "mpnet"])
def test_encoders(shuffled, ids, config, opset):
    feeds = ids if config is TINY_MPNET else ids | {"token_type_ids": 0 * ids["input_ids"]}
    after = shuffled(seeded_bert(config, 0, opset=opset), feeds, streams)
    assert [list(node.output) for node in after.gathers] == [["last_hidden_state"]]
    apart = shuffled(seeded_bert(config, 0, opset=opset), feeds, streams, sums)
    assert len(apart.gathers) == 2


def test_a_pooler_takes_the_order_up(shuffled, ids):
    """What it reads is in order; the other output is not."""
    feeds = ids | {"token_type_ids": 0 * ids["input_ids"]}
    model = seeded_bert(TINY_BERT, 0, pooler=True)
    after = shuffled(model, feeds, streams)
    assert [list(node.output) for node in after.gathers] == [["last_hidden_state"]]
    del model.graph.output[0]
    assert shuffled(model, feeds, streams).gathers == []
