"""gobo: centroids for groups of columns of products, and apart from them of embeddings."""

import numpy as np
import pytest

from sardonyx.passes.gobo.encode import Gobo

TEXT = """g (float[M,64] X, int64[L] I) => (float[M,96] Y, float[L,64] Z, float[M,100] T) {
  Y = MatMul (X, W)
  Z = Gather (E, I)
  V = Transpose (U)
  T = MatMul (X, V)
}"""


@pytest.fixture(scope="module")
def model(text_model, normal):
    return text_model(TEXT, W=normal(64, 96), E=normal(100, 64), U=normal(100, 64, seed=1))


@pytest.fixture(scope="module")
def feeds(normal):
    return {"X": normal(5, 64, seed=2), "I": np.array([0, 99, -100, 7])}


def tables(model):
    """How many rows of centroids each weight has."""
    return {
        tensor.name.removesuffix(".centroids"): tensor.dims[0]
        for tensor in model.graph.initializer
        if tensor.name.endswith(".centroids")
    }


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"W": 1, "E": 1, "U": 1}),
        ({"groups": 6}, {"W": 6, "E": 1, "U": 6}),
        ({"embedding_groups": 4}, {"W": 1, "E": 4, "U": 1}),
        ({"bits": 5, "groups": 1000, "embedding_groups": 3}, {"W": 96, "E": 3, "U": 100}),
        ({"groups": 40}, {"W": 32, "E": 1, "U": 34}),  # of 3 columns each, the last perhaps fewer
    ],
)
def test_groups(check_gobo, model, feeds, settings, expected):
    settings = {"bits": 6, "embedding_bits": 6} | settings
    after = check_gobo(model, feeds, a_pass=Gobo(min_weights=1, **settings))
    assert tables(after.model) == expected
    formats = {entry.name: str(entry.format).partition("/")[2] for entry in after.journal.encoded}
    for name, groups in expected.items():
        assert formats[name] == ("tensor" if groups == 1 else f"{groups} groups")


def test_a_weight_that_is_both_takes_those_of_embeddings(check_gobo, text_model, normal, feeds):
    tied = text_model(
        """g (float[M,64] X, int64[L] I) => (float[L,64] Z, float[M,100] T) {
             Z = Gather (E, I)
             V = Transpose (E)
             T = MatMul (X, V)
           }""",
        E=normal(100, 64),
    )
    a_pass = Gobo(bits=3, embedding_bits=6, groups=8, embedding_groups=5)
    assert tables(check_gobo(tied, feeds, a_pass=a_pass).model) == {"E": 5}


def test_bodies_know_groups_only_where_there_are_some(apply, model):
    """Without, they are as they were, and their memory while a session is created."""
    for groups in (1, 4):
        after = apply(Gobo(min_weights=1, groups=groups), model).model
        nodes = {f.name: {node.name for node in f.node} for f in after.functions}
        assert ("groups" in nodes["GoboMatMul3"]) == (groups > 1)
        assert "groups" not in nodes["GoboGather4"]
