"""peg: orders and groups as calibration asks for them; equal outputs; near-misses; bad input."""

import re

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sardonyx.compiler.load import load
from sardonyx.compiler.recipe import overridden
from sardonyx.passes.peg.peg import Peg
from sardonyx.passes.peg.reorder import orderings
from sardonyx.runtime_ops.errors import InputError

D, N = 8, 12

NORM = "LayerNormalization <axis = -1>"


def normalized(layer, source, result, written_out):
    if not written_out:
        return f"{result} = {NORM} ({source}, scale{layer}, shift{layer})"
    return (
        f"m{layer} = ReduceMean <axes = [-1]> ({source}) c{layer} = Sub ({source}, m{layer}) "
        f"s{layer} = Mul (c{layer}, c{layer}) v{layer} = ReduceMean <axes = [-1]> (s{layer}) "
        f"e{layer} = Add (v{layer}, tiny) d{layer} = Sqrt (e{layer}) "
        f"n{layer} = Div (c{layer}, d{layer}) k{layer} = Mul (n{layer}, scale{layer}) "
        f"{result} = Add (k{layer}, shift{layer})"
    )


def network(layer, x, biased, gated):
    """From x to h."""
    up = f"p{layer} = MatMul ({x}, up{layer})"
    a = f"a{layer} = Add (p{layer}, b_up{layer})" if biased else f"a{layer} = Identity (p{layer})"
    act = f"r{layer} = Relu (a{layer})"
    if gated:
        act += f" f{layer} = MatMul ({x}, gate{layer}) g{layer} = Mul (f{layer}, r{layer})"
    else:
        act += f" g{layer} = Identity (r{layer})"
    down = f"q{layer} = MatMul (g{layer}, down{layer})"
    bias = f"h{layer} = Add (b_down{layer}, q{layer})" if biased else ""
    return " ".join((up, a, act, down, bias)), f"h{layer}" if biased else f"q{layer}"


def layers_of(count, post=True, biased=True, gated=False, written_out=False, mixed=False):
    """The text of some layers that read X and make Y; ``mixed``: with a sum ahead of each."""
    text, stream = "", "X"
    for layer in range(count):
        if mixed:
            text += f"o{layer} = Relu ({stream}) w{layer} = Add ({stream}, o{layer}) "
            stream = f"w{layer}"
        body, h = network(layer, f"x{layer}", biased, gated)
        text += f"{normalized(layer, stream, f'x{layer}', written_out)} {body} "
        text += f"y{layer} = Add ({h}, x{layer}) " if post else f"y{layer} = Add ({stream}, {h}) "
        stream = f"y{layer}"
    return f"{text} Y = {NORM} ({stream}, scale_end)"


def constants(text, d, n):
    """Values for all names of constants in a text; the scales of norms are far in a channel."""
    rng = np.random.default_rng(0)
    shapes = {"up": (d, n), "gate": (d, n), "down": (n, d), "b_up": (n,)}
    held = {"tiny": np.float32(1e-5)} if "tiny" in text else {}
    for name in sorted(
        set(re.findall(r"\b((?:b_)?(?:up|down|gate|scale|shift)(?:\d|_end))", text))
    ):
        shape = shapes.get(name.rstrip("0123456789"), (d,))
        held[name] = rng.standard_normal(shape).astype(np.float32) * np.float32(0.3)
        if "scale" in name:
            held[name][rng.integers(d)] = 5
    return held


def model_of(text_model, text, d=D, n=N, outputs=""):
    whole = f"g (float[B,T,{d}] X) => (float[I,J,{d}] Y{outputs}) {{ {text} }}"
    return text_model(whole, 17, **constants(text, d, n))


def samples(d=D, count=3):
    rng = np.random.default_rng(1)
    return [{"X": rng.standard_normal((1, 2 + i, d)).astype(np.float32)} for i in range(count)]


def worst(run_ort, before, after, feeds):
    """The largest difference of outputs, of their largest magnitude."""
    pairs = zip(run_ort(before, feeds), run_ort(after, feeds), strict=True)
    return max(np.abs(want - have).max() / np.abs(want).max() for want, have in pairs)


BOUND = 3e-5
"""Of an output of norms of random layers: float32 sums in another order, and what outlying channels
cancel. A channel in a wrong place differs by its size, 1."""


@settings(max_examples=40)
@given(
    count=st.integers(1, 3),
    post=st.booleans(),
    biased=st.booleans(),
    gated=st.booleans(),
    written_out=st.booleans(),
    mixed=st.booleans(),
    d=st.integers(4, 9),
    n=st.integers(4, 11),
    k=st.integers(2, 4),
    tensors=st.sets(st.sampled_from("xhygr"), min_size=1),
    order=st.sampled_from(["none", "global", "layer"]),
    groups=st.sampled_from(["equal", "optimal"]),
)
def test_split_layers_are_the_layers(
    measure,
    text_model,
    run_ort,
    count,
    post,
    biased,
    gated,
    written_out,
    mixed,
    d,
    n,
    k,
    tensors,
    order,
    groups,
):
    assume(mixed or tensors != {"r"})
    text = layers_of(count, post, biased, gated, written_out, mixed)
    model = model_of(text_model, text, d, n)
    a_pass = Peg(",".join(sorted(tensors)), k, groups, order)
    after = measure(a_pass, model, samples(d))
    assert after.rewrites == count
    assert worst(run_ort, model, after.model, samples(d)[0]) <= BOUND


def far(model, name, *channels):
    """Make channels of a norm's scale much larger than the others; nothing is shifted."""
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).copy()
        if tensor.name in (name, name.replace("scale", "shift")):
            values[:] = 0.2 if "scale" in tensor.name else 0
        if tensor.name == name:
            values[list(channels)] = 50
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


def sizes_of(after, name):
    return after.constants[f"{name}/groups"].tolist()


def test_a_far_channel_is_a_group_by_itself(measure, text_model):
    model = far(model_of(text_model, layers_of(1)), "scale0", 2)
    after = measure(Peg("x", 2, order="none"), model, samples())
    assert sizes_of(after, "x0") == [3, 5]  # as they stand, all from 2 on or up to it
    after = measure(Peg("x", 2), model, samples())
    assert sizes_of(after, "x0/ordered") == [7, 1]
    scale = after.constants["scale0/ordered"]
    assert scale[-1] == 50
    assert np.abs(scale[:-1]).max() < 1
    equal = measure(Peg("x", 3, "equal"), model, samples())
    assert sizes_of(equal, "x0/ordered") == [3, 3, 2]


def test_x_h_and_y_share_their_groups_and_g_has_its_own(measure, text_model):
    model = far(model_of(text_model, layers_of(1)), "scale0", 2)
    after = measure(Peg(k=3), model, samples())
    lengths = {tuple(sizes_of(after, f"{name}0/ordered")) for name in "xh"}
    assert len(lengths) == 1
    assert sum(sizes_of(after, "r0/ordered")) == N


@pytest.mark.parametrize("post", [True, False])
def test_other_sums_are_cut_and_joined(measure, text_model, post):
    """Behind a normalization in groups of their own; what is added to h, in those of h."""
    model = far(model_of(text_model, layers_of(2, post, mixed=True)), "scale0", 2)
    after = measure(Peg("h,y,r", 3), model, samples())
    for layer in range(2):
        (cut,) = (n for n in after.model.graph.node if n.input[1:] == [f"w{layer}/ordered/groups"])
        assert {p.value for p in cut.metadata_props if p.key == "sardonyx.site"} == {"r"}
        joined = [n for n in after.model.graph.node if list(n.input) == list(cut.output)]
        assert [n.op_type for n in joined] == ["Concat"]
        own = sizes_of(after, f"w{layer}/ordered")
        assert post or after.constants.keys().isdisjoint({f"h{layer}/ordered/groups"})
        assert len(own) == 3
    alone = measure(Peg("r", 3, order="none"), model, samples())
    assert {n.name for n in alone.model.graph.node if n.op_type == "Split"} == {
        "w0/Split",
        "w1/Split",
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Slice (y0, zero, one, last)", "Slice (x0, zero, one, last)"),
        ("Transpose <perm = [0, 2, 1]> (y0)", "Transpose <perm = [0, 2, 1]> (x0)"),
    ],
)
def test_a_sum_of_few_or_varying_channels_stays_whole(measure, text_model, run_ort, one, other):
    extra = f"e = {one} f = {other} Z = Add (e, f)"
    text = layers_of(1) + " " + extra
    whole = f"g (float[B,T,{D}] X) => (float[I,J,{D}] Y, float[K,L,M] Z) {{ {text} }}"
    held = constants(text, D, N) | {
        "zero": np.array([0]),
        "one": np.array([1]),
        "last": np.array([2]),
    }
    model = text_model(whole, 17, **held)
    after = measure(Peg(k=3), model, samples())
    assert after.rewrites == 1
    assert worst(run_ort, model, after.model, samples()[0]) <= BOUND
    assert not any(n.name == "Z/Split" for n in after.model.graph.node)


@pytest.mark.parametrize("post", [True, False])
@pytest.mark.parametrize(("order", "changes"), [("none", 0), ("global", 2), ("layer", 3)])
def test_one_gather_a_change_of_order(measure, text_model, post, order, changes):
    """From that of the input to that of the output; the far channel of each layer is another one,
    so that their own orders differ."""
    model = model_of(text_model, layers_of(2, post))
    after = measure(Peg(k=2, order=order), far(far(model, "scale0", 2), "scale1", 5), samples())
    assert orderings(load(after.model)[1]) == changes


def test_layers_that_share_weights_share_groups(measure, text_model, run_ort):
    """They are cut once, in the order that serves all of them."""
    text = re.sub(r"(up|down|b_up|b_down)1", r"\g<1>0", layers_of(2))
    model = far(far(model_of(text_model, text), "scale0", 2), "scale1", 5)
    for order in ("none", "global", "layer"):
        after = measure(Peg(k=3, order=order), model, samples())
        assert after.rewrites == 2
        assert worst(run_ort, model, after.model, samples()[0]) <= BOUND
        weights = [t for t in after.constants if t.startswith(("up0", "down0"))]
        assert len(weights) == 6


def test_one_group_is_what_there_was(measure, text_model):
    model = model_of(text_model, layers_of(2))
    after = measure(Peg(k=1), model, [])
    assert after.rewrites == 0
    assert after.ops == [node.op_type for node in model.graph.node]


def test_nothing_is_measured_where_nothing_depends_on_it(measure, text_model):
    after = measure(
        Peg("x,h,y,g", k=2, groups="equal", order="none"), model_of(text_model, layers_of(1)), []
    )
    assert after.rewrites == 1


BIAS = "h0 = Add (b_down0, q0)"


# 1. to 3.
@pytest.mark.parametrize(
    ("old", "new", "tensors", "reason"),
    [
        ("MatMul (g0, down0)", "Gemm (g0, down0)", "x", "product 'q0' is a Gemm: see unfuse-gemm"),
        ("MatMul (x0, up0)", "Gemm (x0, up0)", "g", "product 'p0' is a Gemm: see unfuse-gemm"),
        (BIAS, f"z = Shape (q0) {BIAS}", "h", "the sizes of 'q0' are read"),
        (BIAS, f"{BIAS} z = Shape (h0)", "h", "the sizes of 'h0' are read"),
        (
            BIAS,
            "z = Abs (b_down0) h0 = Add (z, q0)",
            "x,h,y",
            "what Add 'h0' adds is no constant for each channel",
        ),
        (
            "y0 = Add (h0, x0)",
            "z = ReduceMean <axes = [-1]> (x0) y0 = Add (h0, z)",
            "y",
            "'z' is not known to have 8 channels",
        ),
        (BIAS, "h0 = Neg (q0)", "g", "'q0' goes into Neg 'h0', not into a sum"),
    ],
)
def test_near_misses(measure, text_model, old, new, tensors, reason):
    """Nothing else is there to be split, so that the reason is the compile's."""
    text = layers_of(1)
    assert old in text
    model = text_model(
        f"g (float[T,{D}] X) => (float[I,{D}] Y) {{ {text.replace(old, new)} }}",
        **constants(text, D, N),
    )
    with pytest.raises(InputError) as raised:
        measure(Peg(tensors, 2, "equal", "none"), model, [])
    assert reason in str(raised.value)
    assert "looked for a product by a constant matrix" in str(raised.value)


def test_a_network_that_cannot_be_split_leaves_the_others(measure, text_model, run_ort):
    text = layers_of(2).replace(BIAS, f"z = Shape (q0) {BIAS}")
    model = model_of(text_model, text)
    after = measure(Peg("x,h,y", 2), model, samples())
    assert after.rewrites == 1
    assert [(m.node, m.reason) for m in after.journal.missed] == [
        ("q0", "the sizes of 'q0' are read")
    ]
    assert worst(run_ort, model, after.model, samples()[0]) <= BOUND


@pytest.mark.parametrize("k", [1, 6])
def test_no_network_at_all(text_model, k):
    """Refused before anything is measured."""
    graph = load(model_of(text_model, f"Y = {NORM} (X, scale_end)"))[1]
    with pytest.raises(
        InputError, match="no feed-forward network that can be split was found; look"
    ):
        Peg(k=k).watches(graph)


@pytest.mark.parametrize(
    ("tensors", "k", "message"),
    [
        ("x", D + 1, "peg.k=9: 'x' of layer 0 has 8 channels: choose a k from 1 to 8"),
        ("g", N + 1, "peg.k=13: 'g' of layer 0 has 12 channels: choose a k from 1 to 12"),
        ("x,g", N + 1, "peg.k=13: 'x' of layer 0 has 8 channels: choose a k from 1 to 8"),
        ("x", 0, "peg.k=0: 'x' of layer 0 has 8 channels: choose a k from 1 to 8"),
        ("r", D + 1, "peg.k=9: no sum of kind 'r' is known to have so many channels"),
    ],
)
def test_more_groups_than_channels(text_model, tensors, k, message):
    """Refused before anything is measured."""
    graph = load(model_of(text_model, layers_of(1, mixed=True)))[1]
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        Peg(tensors, k).watches(graph)
    assert Peg(tensors, D).watches(graph)


def test_as_many_groups_as_channels(measure, text_model):
    assert measure(Peg(k=D), model_of(text_model, layers_of(1)), samples()).rewrites == 1


def test_the_narrowest_tensor_bounds_the_groups(text_model):
    text = layers_of(2).replace("up1", "up2").replace("down1", "down2")
    held = constants(text, D, N)
    held |= {"up2": held["up2"][:, :5], "b_up2": held["b_up2"][:5], "down2": held["down2"][:5]}
    model = text_model(f"g (float[B,T,{D}] X) => (float[I,J,{D}] Y) {{ {text} }}", 17, **held)
    with pytest.raises(InputError, match="'g' of layer 0 has 5 channels: choose a k from 1 to 5"):
        Peg("x,g", 6).watches(load(model)[1])


def test_calibration_that_never_reaches_a_layer(measure, text_model):
    with pytest.raises(InputError, match="calibration never reached layer 0: 'x0' had no values"):
        measure(Peg("x"), model_of(text_model, layers_of(1)), [{"X": np.zeros((1, 0, D), "f4")}])


SOME = "peg.tensors: Input should be some of x, g, h, y, r, with commas between them, or auto alone"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("peg.k=0", "peg.k: Input should be greater than or equal to 1"),
        *((f"peg.tensors={given}", f"{SOME} (got '{given}')") for given in ("x,z", "x,auto", "x,")),
        ("peg.groups=alike", "peg.groups: Input should be 'equal' or 'optimal'"),
        ("peg.order=any", "peg.order: Input should be 'none', 'global' or 'layer'"),
    ],
)
def test_arguments_that_are_wrong(argument, message):
    with pytest.raises(InputError, match=re.escape(message)):
        overridden([Peg()], [argument], "the recipe")


def test_tensors_are_named_in_any_order_and_spacing():
    assert Peg("y , x").kinds == {"x", "y"}
