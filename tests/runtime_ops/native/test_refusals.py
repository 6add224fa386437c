"""What the native ops refuse: an error status with one sentence, never a crash."""

import re

import numpy as np
import pytest

ROWS, COLUMNS = 40, 50
NAN = float("nan")


@pytest.fixture
def arrays(random_matrix):
    return dict(random_matrix(3, ROWS, COLUMNS).arrays)


def message(error):
    """What is said after op and node, which must be named."""
    text = str(error.value)
    assert text.count("\n") == 0
    found = re.search(r"Gobo\w+ 'dense': (.*)$", text)
    assert found, text
    return found[1]


@pytest.fixture
def refusal(op_model, native_session, arrays):
    """The reason for which no session is created, with changed arrays or attributes."""

    def get(kind="GoboMatMul3", changed=(), **attributes):
        given = arrays | dict(changed)
        attributes = {"shape": [ROWS, COLUMNS]} | attributes
        attributes = {key: value for key, value in attributes.items() if value is not None}
        with pytest.raises(Exception, match="Gobo") as error:
            native_session(op_model(kind, given, **attributes))
        return message(error)

    return get


SHAPES = [
    ([ROWS], r"attribute shape is \[40\], must be \[K, N\]"),
    ([ROWS, COLUMNS, 1], r"must be \[K, N\]"),
    ([0, COLUMNS], "sizes must be 1 to"),
    ([ROWS, -1], "sizes must be 1 to"),
    ([ROWS, 2**31], "sizes must be 1 to"),
    ([2**63 - 1, 2**63 - 1], "sizes must be 1 to"),
    ([2**31 - 1, 2**31 - 1], "indices has shape"),
    ([65, COLUMNS], r"indices has shape \[4, 2, 3, 16, 4\], must be \[4, 3, 3, 16, 4\]"),
    ([ROWS, 65], r"must be \[5, 2, 3, 16, 4\]"),
    (None, "attribute shape: No attribute"),
    (40, "attribute shape"),
    ("40", "attribute shape"),
]


@pytest.mark.parametrize(("shape", "reason"), SHAPES)
def test_attribute_shape(refusal, shape, reason):
    assert re.search(reason, refusal(shape=shape))


@pytest.mark.parametrize("compute", ["", "int4", "FP32", "int8 ", b"\xffint8", 1, ["int8"]])
def test_attribute_compute(refusal, compute):
    assert refusal(compute=compute).startswith("attribute compute must be ")


ARRAYS = [
    ("indices", np.zeros((4, 2, 3, 16, 4), np.int8), "indices is ONNX type 3, must be uint8"),
    ("indices", np.zeros((4, 2, 4, 16, 4), np.uint8), "indices has shape"),
    ("indices", np.zeros(1536, np.uint8), "indices has shape"),
    ("indices", np.zeros((0, 2, 3, 16, 4), np.uint8), "indices has shape"),
    ("indices", np.uint8(0), "indices has shape"),
    ("centroids", np.zeros((1, 8), np.float16), "centroids is float16, must be float32"),
    ("centroids", np.zeros((1, 8)), "centroids is float64, must be float32; run this model with"),
    ("centroids", np.zeros(8, np.float32), "centroids has shape [8], must be [groups, 8] with"),
    ("centroids", np.zeros((1, 7), np.float32), "centroids has shape [1, 7]"),
    ("centroids", np.zeros((0, 8), np.float32), "centroids has shape [0, 8]"),
    ("centroids", np.zeros((51, 8), np.float32), "centroids has shape [51, 8]"),
    ("positions", np.zeros(3, np.int64), "positions is int64, must be uint16 or int32"),
    ("positions", np.zeros((3, 1), np.int32), "positions has shape [3, 1], must be [outliers]"),
    ("positions", np.int32(0), "positions has shape [], must be [outliers]"),
    ("values", np.zeros(2, np.float16), "values is float16"),
    ("values", np.zeros(2, np.float32), "values has shape [2], must be ["),
]


@pytest.mark.parametrize(("name", "array", "reason"), ARRAYS)
@pytest.mark.parametrize("kind", ["GoboMatMul3", "GoboLinear3", "GoboGather3"])
def test_constant_arrays(refusal, kind, name, array, reason):
    changed = {name: array}
    if kind == "GoboLinear3":
        changed["bias"] = np.zeros(COLUMNS, np.float32)
    assert refusal(kind, changed).startswith(reason)


PLACES = [
    (np.array([0, 0], np.uint16), "positions holds 0 at 1"),
    (np.array([-1], np.int32), "positions holds -1 at 0"),
    (np.array([5, -2], np.int32), "positions holds -2 at 1"),
    (np.array([50 * 64], np.int32), "positions puts outlier 0 at row 0, column 50, outside"),
    (np.full(9, 65535, np.uint16), "positions puts outlier 0 at row"),
    (np.full(9, 2**31 - 1, np.int32), "positions puts outlier 0 at row"),
    (np.array([0, 62], np.int32), "positions puts outlier 1 at row 47, column 0, outside"),
]


@pytest.mark.parametrize(("positions", "reason"), PLACES)
def test_places_of_outliers(refusal, positions, reason):
    changed = {"positions": positions, "values": np.ones(len(positions), np.float32)}
    assert refusal(changed=changed).startswith(reason)


@pytest.mark.parametrize("name", ["indices", "centroids", "positions", "values"])
def test_weights_that_are_no_constants(op_model, native_session, arrays, name):
    model = op_model("GoboMatMul3", arrays, shape=[ROWS, COLUMNS])
    info = model.graph.input.add(name=name)
    initializer = next(i for i in model.graph.initializer if i.name == name)
    info.type.tensor_type.elem_type = initializer.data_type
    with pytest.raises(Exception, match="Gobo") as error:
        native_session(model)
    assert message(error).startswith(f"{name} is not constant; make it an initializer")


def test_more_rows_than_int8_allows(refusal):
    rows = 131073
    indices = np.zeros((1, 4097, 2, 16, 4), np.uint8)
    centroids, none = np.ones((1, 4), np.float32), np.zeros(0, np.float32)
    changed = {"indices": indices, "centroids": centroids, "values": none}
    changed["positions"] = none.astype(np.uint16)
    text = refusal("GoboMatMul2", changed, shape=[rows, 1], compute="int8")
    assert text.startswith("has K = 131073, compute = 'int8' allows at most 131072")


def test_the_most_rows_that_int8_allows(op_model, native_session):
    rows = 131072
    indices = np.full((1, 4096, 2, 16, 4), 255, np.uint8)
    arrays = {
        "indices": indices,
        "centroids": np.array([[0, 0, 0, 63]], np.float32),
        "positions": np.zeros(0, np.uint16),
        "values": np.zeros(0, np.float32),
    }
    model = op_model("GoboMatMul2", arrays, shape=[rows, 1], compute="int8")
    x = np.full((1, rows), 255, np.float32)
    found = native_session(model).run(None, {"x": x})[0]
    assert found.tolist() == [[float(np.float32(255 * 63 * rows))]]


@pytest.mark.parametrize("odd", [NAN, float("inf")])
def test_int8_of_centroids_that_are_no_numbers(refusal, arrays, odd):
    centroids = arrays["centroids"].copy()
    centroids[0, 3] = odd
    text = refusal(changed={"centroids": centroids}, compute="int8")
    assert text.startswith("centroids holds NaN or an infinity, compute = 'int8' needs finite")


def test_too_few_inputs(op_model, native_session, arrays):
    del arrays["values"]
    with pytest.raises(Exception, match="GoboMatMul3"):
        native_session(op_model("GoboMatMul3", arrays, shape=[ROWS, COLUMNS]))


def test_an_input_left_out(op_model, native_session, arrays):
    model = op_model("GoboMatMul3", arrays, shape=[ROWS, COLUMNS])
    model.graph.node[0].input[4] = ""
    with pytest.raises(Exception, match="GoboMatMul3"):
        native_session(model)


def test_a_node_without_a_name(op_model, native_session, arrays):
    model = op_model("GoboMatMul3", arrays, shape=[ROWS, 66])
    model.graph.node[0].name = ""
    with pytest.raises(Exception, match="GoboMatMul3: indices has shape"):
        native_session(model)


X = [
    (np.zeros((2, 41), np.float32), "A must have 40 columns, has 41"),
    (np.zeros((40, 0), np.float32), "A must have 40 columns, has 0"),
    (np.float32(1), "A must have 40 columns, has none"),
    (np.zeros((2, 40), np.float16), "A is not float32, the only type of the native library"),
    (np.zeros((2, 40)), "A is not float32"),
]


@pytest.mark.parametrize(("x", "reason"), X)
def test_a_at_run_time(op_model, native_session, arrays, x, reason):
    session = native_session(op_model("GoboMatMul3", arrays, x.dtype, shape=[ROWS, COLUMNS]))
    with pytest.raises(Exception, match="Gobo") as error:
        session.run(None, {"x": np.asarray(x)})
    assert message(error).startswith(reason)


BIASES = [
    (np.zeros(49, np.float32), "bias must have shape [50]"),
    (np.zeros((1, 50), np.float32), "bias must have shape [50]"),
    (np.float32(1), "bias must have shape [50]"),
    (np.zeros(50), "bias is not float32"),
]


@pytest.mark.parametrize(("bias", "reason"), BIASES)
def test_bias(op_model, native_session, arrays, bias, reason):
    model = op_model("GoboLinear3", arrays | {"bias": np.asarray(bias)}, shape=[ROWS, COLUMNS])
    session = native_session(model)
    with pytest.raises(Exception, match="Gobo") as error:
        session.run(None, {"x": np.zeros((2, ROWS), np.float32)})
    assert message(error).startswith(reason)


IDS = [
    (np.array([0, COLUMNS]), "ids holds 50, must be -50 to 49"),
    (np.array([-COLUMNS - 1], np.int32), "ids holds -51, must be -50 to 49"),
    (np.array(2**62), "ids holds 4611686018427387904"),
    (np.array([-(2**63)]), "ids holds -9223372036854775808"),
    (np.zeros(3, np.float32), "ids must be int32 or int64"),
    (np.zeros(3, np.uint8), "ids must be int32 or int64"),
    (np.array(["a"], object), "ids must be int32 or int64"),
]


@pytest.mark.parametrize(("ids", "reason"), IDS)
def test_ids(op_model, native_session, arrays, ids, reason):
    session = native_session(op_model("GoboGather3", arrays, ids.dtype, shape=[ROWS, COLUMNS]))
    with pytest.raises(Exception, match="Gobo") as error:
        session.run(None, {"x": ids})
    assert message(error).startswith(reason)
    if ids.dtype == np.int64:  # the session goes on
        good = session.run(None, {"x": np.array([0, -1])})[0]
        assert good.shape == (2, ROWS)
