"""How sessions are made: in time by the number of nodes, not by its square."""

import pytest

from sardonyx.compiler.quiet_session import quiet_session


@pytest.mark.parametrize("options", [{}, {"optimize": False}, {"alone": True}])
def test_no_plan_hands_memory_on(text_model, options):
    """onnxruntime's plan compares each tensor with all that are free: of 2,000 slices of other
    widths it takes 1.3 s of processor time where all else takes 0.2."""
    session = quiet_session(
        text_model("g (float[N] X) => (float[N] Y) { Y = Relu (X) }"), **options
    )
    assert not session.get_session_options().enable_mem_reuse
