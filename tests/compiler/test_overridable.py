"""Weights that are inputs too: no constants, but weights that a user would miss."""

import pytest

from sardonyx.compiler import compile
from sardonyx.runtime_ops.errors import InputError

REASON = "also an input of the model, so that callers may override it: export it as a constant"


@pytest.fixture
def free(text_model, normal):
    """A model of two products whose weights of these names may be overridden."""

    def make(*names):
        inputs = "".join(f", float[64,64] {name}" for name in names)
        return text_model(
            f"g (float[N,64] X{inputs}) => (float[N,64] Y) {{ Z = MatMul (X, W)\n"
            "Y = Gemm (Z, V, b) }",
            W=normal(64, 64),
            V=normal(64, 64, seed=1),
            b=normal(64),
        )

    return make


def test_they_are_listed_and_counted(free):
    report = compile(free("W"), "gobo").report
    assert (report.totals.weights, report.totals.weights_quantized) == (8192, 4096)
    (skip,) = [skip for skip in report.skipped if skip.eligible]
    assert (skip.name, skip.reason) == ("W", REASON)


def test_a_model_of_no_others_is_refused_for_that_reason(free):
    with pytest.raises(InputError, match=r"can quantize \(also an input of the model"):
        compile(free("W", "V"), "gobo")


def test_vectors_are_no_weights(text_model, normal):
    model = text_model(
        "g (float[N,64] X, float[64] b) => (float[N,64] Y) { Z = MatMul (X, W) Y = Add (Z, b) }",
        W=normal(64, 64),
        b=normal(64),
    )
    assert not any(skip.eligible for skip in compile(model, "gobo").report.skipped)
