"""Meanings of ops on 8-bit integers, against onnxruntime's kernels: bit for bit."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from sardonyx.runtime_ops.contrib import MEANINGS
from sardonyx.runtime_ops.reference import reference_session

MICROSOFT = "com.microsoft"


def model_of(op, inputs, made, domain, opset=17, **attributes):
    names = [f"i{place}" if item is not None else "" for place, item in enumerate(inputs)]
    results = [f"o{place}" for place in range(len(made))]
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    kinds = [helper.np_dtype_to_tensor_dtype(np.dtype(kind)) for kind in made]
    fed = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(item.dtype), item.shape)
        for name, item in zip(names, inputs, strict=True)
        if item is not None
    ]
    pairs = zip(results, kinds, strict=True)
    outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in pairs]
    graph = helper.make_graph([node], "g", fed, outputs)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.fixture(scope="module")
def equal(run_ort):
    """Run an op in onnxruntime and in the reference executor; the outputs, which are the same."""

    def check(op, inputs, made, domain=MICROSOFT, **given):
        inputs = [None if item is None else np.asarray(item) for item in inputs]
        while inputs[-1] is None:
            inputs.pop()
        model = model_of(op, inputs, made, domain, **given)
        feeds = {f"i{place}": item for place, item in enumerate(inputs) if item is not None}
        wanted, have = run_ort(model, feeds), reference_session(model).run(None, feeds)
        for want, got in zip(wanted, have, strict=True):
            np.testing.assert_array_equal(got, want, strict=True)
        return wanted

    return check


def codes(generator, dtype, *shape, bits=8):
    ends = np.iinfo(dtype)
    low, high = (ends.min, ends.max) if bits == 8 else (-63, 63)
    return generator.integers(low, high + 1, shape).astype(dtype)


KINDS = [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)]


@pytest.mark.parametrize("kinds", KINDS)
@pytest.mark.parametrize("shape", [(7, 40, 33), (16, 384, 64), (1, 1, 1), (3, 3072, 5)])
@pytest.mark.parametrize("each", ["one scale", "one a column"])
@pytest.mark.parametrize("zero", ["none", "one", "one a column"])
@pytest.mark.parametrize("biased", [False, True])
def test_matmul_integer_to_float(equal, kinds, shape, each, zero, biased):
    """Weights of 7 bits: those of 8 saturate in onnxruntime where there is no VNNI."""
    generator = np.random.default_rng(0)
    m, k, n = shape
    a, b = codes(generator, kinds[0], 2, m, k), codes(generator, kinds[1], k, n, bits=7)
    if kinds[1] == np.uint8:
        b = codes(generator, np.uint8, k, n)
    scale = np.float32(0.013) if each == "one scale" else generator.random(n, np.float32)
    zeros = {
        "none": None,
        "one": np.array(3, kinds[1]),
        "one a column": codes(generator, kinds[1], n),
    }
    bias = generator.standard_normal(n).astype(np.float32) if biased else None
    inputs = [a, b, np.float32(0.037), scale, np.array(5, kinds[0]), zeros[zero], bias]
    equal("MatMulIntegerToFloat", inputs, [np.float32])


def test_matmul_integer_to_float_with_nothing_optional(equal):
    generator = np.random.default_rng(0)
    a, b = codes(generator, np.uint8, 4, 8), codes(generator, np.int8, 8, 3, bits=7)
    inputs = [a, b, np.float32(0.1), np.float32(0.2)]
    (made,) = equal("MatMulIntegerToFloat", inputs, [np.float32])
    sums = a.astype(int) @ b.astype(int)
    assert np.array_equal(made, sums.astype(np.float32) * (np.float32(0.1) * np.float32(0.2)))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("size", [1e-4, 1, 300])
def test_dynamic_quantize_matmul(equal, biased, size):
    generator = np.random.default_rng(0)
    x = (generator.standard_normal((2, 7, 50)) * size).astype(np.float32)
    scale, bias = generator.random(20, np.float32), generator.random(20, np.float32)
    inputs = [x, codes(generator, np.int8, 50, 20, bits=7), scale, None, bias if biased else None]
    equal("DynamicQuantizeMatMul", inputs, [np.float32])


X = {
    "both signs": [-1.5, 0.25, 3],
    "above 0": [0.5, 2, 3],
    "below 0": [-0.5, -2, -3],
    "all 0": [0, 0, 0],
    "one value": [7, 7, 7],
    "far apart": [-1e30, 1e30, 1e-30],
}


@pytest.mark.parametrize("case", X)
def test_dynamic_quantize_linear(equal, case):
    made = [np.uint8, np.float32, np.uint8]
    equal("DynamicQuantizeLinear", [np.array(X[case], np.float32)], made, "")


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-20, 20))
def test_dynamic_quantize_linear_of_anything(equal, seed, exponent):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((3, 9)) * 2.0**exponent + generator.standard_normal()
    made = [np.uint8, np.float32, np.uint8]
    equal("DynamicQuantizeLinear", [x.astype(np.float32)], made, "")


DOMAINS = [(MICROSOFT, 17), ("", 13), ("", 17), ("", 19), ("", 21), ("", 23)]


@pytest.mark.parametrize(("domain", "opset"), DOMAINS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantize_and_dequantize(equal, domain, opset, dtype, axis):
    generator = np.random.default_rng(0)
    x = (generator.standard_normal((6, 40)) * 4).astype(np.float32)
    x[0] = np.arange(40) * 0.25  # halves of a step: to even
    scale, zero = np.float32(0.5), np.array(3, dtype)
    given = {"opset": opset}
    if axis is not None:
        scale = generator.random(x.shape[axis], np.float32) / 20 + np.float32(0.01)
        zero = codes(generator, dtype, x.shape[axis])
        given["axis"] = axis
    (q,) = equal("QuantizeLinear", [x, scale, zero], [dtype], domain, **given)
    equal("DequantizeLinear", [q, scale, zero], [np.float32], domain, **given)
    equal("DequantizeLinear", [q, scale], [np.float32], domain, **given)


@pytest.mark.parametrize("opset", [13, 23])
def test_dequantize_sums(equal, opset):
    sums = np.array([-(2**31), -77, 0, 2**24 + 1, 2**31 - 1], np.int32)
    scale = np.array([1e-3, 0.1, 1, 3e-5, 7], np.float32)
    equal("DequantizeLinear", [sums, scale], [np.float32], "", opset=opset, axis=0)


def test_quantize_without_a_zero_point(equal):
    x = np.array([-1, 0, 1, 900], np.float32)
    equal("QuantizeLinear", [x, np.float32(2)], [np.uint8], "")
    (made,) = MEANINGS["QuantizeLinear"](x, np.array(2, np.float32), None)
    assert made.tolist() == [0, 0, 0, 255]
    assert made.dtype == np.uint8


@pytest.mark.parametrize("kinds", KINDS)
def test_matmul_integer(equal, kinds):
    generator = np.random.default_rng(0)
    a, b = codes(generator, kinds[0], 2, 4, 9), codes(generator, kinds[1], 9, 5, bits=7)
    if kinds[1] == np.uint8:
        b = codes(generator, np.uint8, 9, 5)
    equal("MatMulInteger", [a, b, np.array(7, kinds[0])], [np.int32], "")


def test_a_model_by_its_path(tmp_path):
    q = np.array([1, 2], np.uint8)
    model = model_of("DequantizeLinear", [q, np.array(2, np.float32)], [np.float32], "", opset=13)
    onnx.save(model, tmp_path / "m.onnx")
    feeds = {"i0": q, "i1": np.array(2, np.float32)}
    assert reference_session(str(tmp_path / "m.onnx")).run(None, feeds)[0].tolist() == [2, 4]


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear"])
def test_blocks_are_refused(op):
    with pytest.raises(NotImplementedError, match="a scale for each block"):
        MEANINGS[op](np.ones((4, 4)), np.ones((2, 4)), None, axis=0, block_size=2)
