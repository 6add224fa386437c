"""Real models on chips: all of the work, all of the bytes; what does not fit."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.simulate import Workload
from sardonyx.models import PackageMissing, minilm_l6
from sardonyx.passes.weights import values_of
from sardonyx.runtime_ops.accelerator.chip_file import changed, chip_names, load_chip
from sardonyx.runtime_ops.accelerator.functional import transcode
from sardonyx.runtime_ops.accelerator.timeline import simulate
from sardonyx.runtime_ops.accelerator.work import Product
from sardonyx.runtime_ops.errors import InputError
from sardonyx.runtime_ops.gobo import GoboTensor
from sardonyx.runtime_ops.ops import INPUTS, OPS

LAYERS, WIDTH, FFN, HEADS = 6, 384, 1536, 12


@pytest.fixture(scope="module")
def l6(tmp_path_factory):
    """The real MiniLM-L6 in a file, as it is and by recipe."""
    try:
        model = minilm_l6()
    except PackageMissing as missing:
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("l6")
    onnx.save(model, folder / "float.onnx")
    for recipe in ("gobo", "gobo4"):
        compile(model, recipe, verify="off").save(folder / f"{recipe}.onnx")
    return folder


@pytest.mark.parametrize("recipe", ["gobo", "gobo4", "float"])
@pytest.mark.parametrize(("batch", "sequence"), [(1, 128), (4, 20)])
def test_all_multiplications_of_minilm(l6, recipe, batch, sequence):
    """As one counts them from the sizes of a Transformer."""
    found = Workload(l6 / f"{recipe}.onnx").on(load_chip("tensorcore-like"), batch, sequence)
    tokens = batch * sequence
    dense = tokens * (4 * WIDTH * WIDTH + 2 * WIDTH * FFN)
    attention = 2 * tokens * sequence * WIDTH
    assert found.timeline.macs == LAYERS * (dense + attention)
    assert (found.batch, found.sequence) == (batch, sequence)
    assert not found.host_ops


def test_weights_take_the_bytes_of_their_containers(l6):
    """What DRAM holds of each weight, as `functional` reads it."""
    workload = Workload(l6 / "gobo.onnx")
    products = {
        time.layer.node: time.layer.work
        for time in workload.on(load_chip("gobo"), 1, 8).timeline.layers
        if time.unit == "array"
    }
    nodes = {node.name: node for node in workload.graph.nodes if node.name in products}
    assert len(nodes) == 6 * LAYERS
    for name, node in nodes.items():
        parts = dict(zip(INPUTS, map(values_of, node.inputs[1:]), strict=True))
        tensor = GoboTensor(OPS[node.op].bits, *node.attrs["shape"], **parts)
        work = products[name]
        stored = work.table_bytes + work.container_bytes(work.k, work.outliers)
        assert stored == sum(map(len, transcode(tensor)))


@pytest.mark.parametrize("name", ["tensorcore-like", "tpu-like", "eyeriss-like"])
def test_outliers_are_weights_as_all_others_where_weights_are_floats(l6, name):
    """Nothing depends on where they are, which `Workload` leaves out there."""
    workload, chip = Workload(l6 / "gobo.onnx"), load_chip(name)
    layers = [time.layer for time in workload.on(load_chip("gobo"), 1, 8).timeline.layers]
    assert any(layer.work.outliers for layer in layers if isinstance(layer.work, Product))
    found, expected = workload.on(chip, 1, 8).timeline, simulate(chip, layers)
    assert (found.cycles, found.dram_bytes) == (expected.cycles, expected.dram_bytes)
    assert found.energy.total == pytest.approx(expected.energy.total, rel=1e-12)  # other sums


def test_gobo_multiplies_attention_on_its_vector_unit(l6):
    found = Workload(l6 / "gobo.onnx").on(load_chip("gobo"), 1, 16)
    assert (found.attention_on_vector, found.weights_on_vector) == (2 * LAYERS, 0)
    other = Workload(l6 / "gobo.onnx").on(load_chip("tpu-like"), 1, 16)
    assert (other.attention_on_vector, other.weights_on_vector) == (0, 0)


def test_every_layer_reads_what_was_written_before(l6):
    workload = Workload(l6 / "gobo.onnx")
    known = {tensor.name for tensor in workload.graph.inputs}
    for time in workload.on(load_chip("gobo"), 2, 16).timeline.layers:
        assert {value.name for value in time.layer.reads} <= known, time.layer.node
        known |= {value.name for value in time.layer.writes}
    assert {tensor.name for tensor in workload.graph.outputs} <= known


def test_the_same_workload_at_other_sizes(l6):
    """Nothing of one simulation is left for the next."""
    workload, chip = Workload(l6 / "gobo.onnx"), load_chip("gobo")
    first = workload.on(chip, 1, 16)
    assert workload.on(chip, 2, 32).cycles > first.cycles
    again = Workload(l6 / "gobo.onnx").on(chip, 2, 32)
    assert workload.on(chip, 2, 32).timeline.layers == again.timeline.layers
    assert workload.on(chip, 1, 16).timeline.layers == first.timeline.layers


@pytest.mark.parametrize("chip", ["gobo", "tpu-like-int8"])
def test_a_model_not_compiled_for_a_chip(l6, chip):
    recipe = {"gobo": "gobo, gobo4 or gobo-roberta", "tpu-like-int8": "int8-kl or peg"}[chip]
    with pytest.raises(InputError, match=rf"array of chip '{chip}' .*--recipe {recipe}$"):
        Workload(l6 / "float.onnx").on(load_chip(chip), 1, 8)


def test_wider_indices_than_a_chip_takes(l6):
    chip = changed(load_chip("gobo"), "array.index_bits", 3)
    assert Workload(l6 / "gobo.onnx").on(chip, 1, 8).weights_on_vector == 0
    with pytest.raises(InputError, match=r"gobo4.onnx': .*query.* of 4 bits, .*'gobo' takes 3: "):
        Workload(l6 / "gobo4.onnx").on(chip, 1, 8)


def test_a_sequence_beyond_the_positions(l6):
    workload, chip = Workload(l6 / "gobo.onnx"), load_chip("gobo")
    with pytest.raises(InputError, match=r"sequence of 513 is beyond .* 512 rows"):
        workload.on(chip, 1, 513)


@pytest.mark.parametrize(
    "positions",
    [
        "C = CumSum (M, one) D = Mul (C, M) P = Add (D, one)",
        "L = Shape (I) N = Gather (L, one) R = Range (zero, N, one) P = Add (R, two)",
    ],
)
def test_positions_that_are_counted(text_model, normal, tmp_path, positions):
    model = text_model(
        f"""g (int64[B,S] I, int64[B,S] M) => (float[B,S,64] Y) {{
            {positions}
            T = Gather (W, I)
            E = Gather (W, P)
            X = Add (T, E)
            Y = MatMul (X, V)
        }}""",
        W=normal(64, 64),
        V=normal(64, 64),
        zero=np.int64(0),
        one=np.int64(1),
        two=np.int64(2),
    )
    onnx.save(model, tmp_path / "m.onnx")
    workload, chip = Workload(tmp_path / "m.onnx"), load_chip("tpu-like")
    workload.on(chip, 1, 62)
    with pytest.raises(InputError, match=r"is beyond the model's positions: .* 64 rows"):
        workload.on(chip, 1, 63)


def test_a_quantized_file(minilm_int8):
    """Weights on the array; attention, in floats, is not what an array of integers takes."""
    found = Workload(minilm_int8).on(load_chip("tpu-like-int8"), 1, 16)
    assert (found.weights_on_vector, found.attention_on_vector) == (0, 6)
    weights = [time.layer.work for time in found.timeline.layers if time.unit == "array"]
    assert len(weights) == 18
    assert {(work.format, work.bits) for work in weights} == {("int8", 8)}


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "in_floats"), [("int8-kl", 12), ("peg", 0)])
def test_where_a_quantized_minilm_runs(l6, tmp_path, recipe, in_floats):
    """Weights are codes, on the array. Products of two activations are too by peg; by int8-kl they
    stay in floats, and all of their cost is the vector unit's."""
    model = onnx.load(l6 / "float.onnx")
    compiled = compile(model, recipe, verify="off", random_calibration=2)
    compiled.save(tmp_path / "m.onnx")
    chip = load_chip("tpu-like-int8")
    found = Workload(tmp_path / "m.onnx").on(chip, 1, 32)
    assert (found.weights_on_vector, found.attention_on_vector) == (0, in_floats)
    products = [time for time in found.timeline.layers if time.macs]
    attention = [time for time in products if not time.layer.work.constant]
    assert len(attention) == 2 * LAYERS
    assert found.timeline.macs == LAYERS * 32 * (4 * WIDTH**2 + 2 * WIDTH * FFN + 2 * 32 * WIDTH)
    lanes = chip.vector.lanes.value
    for time in attention:
        if in_floats:
            assert (time.unit, time.layer.work.format) == ("vector", "float32")
            assert time.compute_cycles >= time.macs / lanes
            # an FP32 multiplication and addition
            assert time.energy.vector == pytest.approx(time.macs * (3.7 + 0.9))
        else:
            assert (time.unit, time.layer.work.format) == ("array", "int8")


@pytest.fixture(scope="module")
def minilm_int8(minilm, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "l3.onnx"
    compile(minilm, "int8-dynamic", verify="off").save(path)
    return path


def test_every_chip_runs_a_model_for_it(l6, minilm_int8):
    for name in chip_names():
        path = minilm_int8 if name == "tpu-like-int8" else l6 / "gobo.onnx"
        found = Workload(path).on(load_chip(name), 1, 32)
        assert found.cycles > 0
        assert found.energy.total > 0
