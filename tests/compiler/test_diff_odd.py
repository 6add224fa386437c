"""What `diff` says of nodes without a first output, and of files that are no valid models."""

LSTM = """
g (float[3,1,2] X) => (float[1,1,4] H) { , H = LSTM <hidden_size = 4, direction = "DIR"> (X, W, R) }
"""


def test_nodes_whose_first_output_is_left_out(differ, text_model, normal):
    weights = {"W": normal(1, 16, 2), "R": normal(1, 16, 4)}
    one, two = (text_model(LSTM.replace("DIR", way), **weights) for way in ("forward", "reverse"))
    assert differ(one, one).same
    found = differ(one, two)
    assert [(c.a.name, c.what) for c in found.nodes_changed] == [("H", ["attributes"])]
    assert not found.same


def test_malformed_models_are_like_themselves(differ, text_model):
    model, broken = (text_model("g (float[N] X) => (float[N] Y) { Y = Relu (X) }") for _ in "ab")
    broken.graph.input[0].type.tensor_type.elem_type = 99
    broken.graph.node.add(op_type="Constant")
    broken.graph.node.add(op_type="Constant").attribute.add(name="value_int", type=2)
    broken.graph.node.add(op_type="Mine").attribute.add(name="t", type=4)
    assert differ(broken, broken).same
    header = differ(model, broken).header[0]
    assert (header.a, header.b) == ("float [N]", "type 99 [N]")
