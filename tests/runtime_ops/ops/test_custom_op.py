"""What a person sees who opens the body of an op."""

import pytest

from sardonyx.runtime_ops.ops import OPS


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("opset", [13, 26])
def test_a_body_says_what_it_is(name, opset):
    op = OPS[name]
    function = op.function(opset, True)
    lines = function.doc_string.splitlines()
    assert lines[0].startswith("Y = ")
    assert max(map(len, lines)) <= 64  # Netron does not wrap them
    text = " ".join(lines)
    assert f"packed {op.bits}-bit `indices`" in text
    assert all(f"`{given}`" in text for given in op.inputs[1:])
    assert [node.name for node in function.node] == [node.output[0] for node in function.node]
