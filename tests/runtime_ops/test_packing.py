"""The packed layout against its docstring, read one index at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sardonyx.runtime_ops.packing import LAYOUTS, pack, unpack

MEMBERS = {2: 4, 3: 4, 4: 2, 5: 2, 6: 2, 7: 2, 8: 1}


def naive_pack(indices, bits):
    """The formulas of the module's docstring, literally."""
    members, words = MEMBERS[bits], 8 // MEMBERS[bits]
    rows, columns = indices.shape
    height, panels = -(-rows // 32) * 32, -(-columns // 16)
    padded = np.pad(indices, ((0, height - rows), (0, panels * 16 - columns))).tolist()
    packed = np.empty((panels, height // 32, bits, 16, 4), np.uint8)
    for panel, block, lane, t in np.ndindex(panels, height // 32, 16, 4):
        n, q = 16 * panel + lane, 4 * block + t
        word = [0] * words
        for s in range(words):
            for j in range(members):
                word[s] |= padded[j * (height // members) + q * words + s][n] << (j * bits)
        planes, left = b"", members * bits
        for width in (8, 4, 2):
            if width <= left:
                left -= width
                fields = [(w >> left) % (1 << width) for w in word]
                joined = sum(field << (width * s) for s, field in enumerate(fields))
                planes += joined.to_bytes(words * width // 8, "little")
        packed[panel, block, :, lane, t] = list(planes)
    return packed


@st.composite
def packable(draw):
    bits = draw(st.sampled_from(sorted(LAYOUTS)))
    rows, columns = draw(st.integers(1, 100)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(0, 1 << bits, (rows, columns), dtype=np.uint8), bits


def test_golden_3_bits():
    """Word 0 = 1 + 2·2³ + 3·2⁶ + 4·2⁹ = 0x8D1, word 1 = 5 + 6·2³ + 7·2⁶ = 0x1F5."""
    indices = np.zeros((32, 1), np.uint8)
    indices[[0, 8, 16, 24], 0] = 1, 2, 3, 4
    indices[[1, 9, 17, 25], 0] = 5, 6, 7, 0
    expected = np.zeros((1, 1, 3, 16, 4), np.uint8)
    expected[0, 0, :, 0, 0] = 0x8D, 0x1F, 0x51
    assert pack(indices, 3).tobytes() == expected.tobytes()


def test_golden_4_bits_second_panel_and_block():
    """q = 6: block 1, t = 2; of 64 rows, a word joins row 24 + s and row 32 + 24 + s."""
    indices = np.zeros((64, 18), np.uint8)
    indices[24:28, 17] = 1, 2, 3, 4
    indices[56:60, 17] = 15, 14, 13, 12
    expected = np.zeros((2, 2, 4, 16, 4), np.uint8)
    expected[1, 1, :, 1, 2] = 0xF1, 0xE2, 0xD3, 0xC4
    assert pack(indices, 4).tobytes() == expected.tobytes()


@settings(max_examples=100, deadline=None)
@given(packable())
def test_packs_as_documented(case):
    indices, bits = case
    packed = pack(indices, bits)
    np.testing.assert_array_equal(packed, naive_pack(indices, bits), strict=True)
    assert packed.shape == LAYOUTS[bits].shape(*indices.shape)
    assert packed.nbytes == LAYOUTS[bits].nbytes(*indices.shape)


@settings(max_examples=100, deadline=None)
@given(packable())
def test_unpack_inverts_pack(case):
    indices, bits = case
    unpacked = unpack(pack(indices, bits), bits, *indices.shape)
    np.testing.assert_array_equal(unpacked, indices, strict=True)
    assert unpacked.flags.f_contiguous


@settings(max_examples=50, deadline=None)
@given(packable())
def test_padding_is_index_zero(case):
    indices, bits = case
    rows, columns = indices.shape
    whole = unpack(pack(indices, bits), bits, -(-rows // 32) * 32, -(-columns // 16) * 16)
    assert not whole[rows:].any()
    assert not whole[:, columns:].any()


@pytest.mark.parametrize("bits", LAYOUTS)
def test_memory_order_does_not_matter(bits):
    wide = np.random.default_rng(0).integers(0, 1 << bits, (70, 80), dtype=np.uint8)
    strided = wide[::2, 1::3]
    packed = pack(np.ascontiguousarray(strided), bits)
    np.testing.assert_array_equal(pack(strided, bits), packed)
    np.testing.assert_array_equal(pack(np.asfortranarray(strided), bits), packed)


@pytest.mark.parametrize("bits", LAYOUTS)
def test_exactly_bits_bits_a_weight(bits):
    rows, columns = 96, 48
    assert pack(np.zeros((rows, columns), np.uint8), bits).nbytes * 8 == bits * rows * columns


@pytest.mark.parametrize("bits", [3, 8])
def test_more_panels_than_one_step(bits):
    """Many panels are handled in several steps; these two differ in every panel."""
    indices = np.random.default_rng(0).integers(0, 1 << bits, (8192, 70), dtype=np.uint8)
    packed = pack(indices, bits)
    for panel in range(5):
        alone = pack(indices[:, 16 * panel : 16 * panel + 16], bits)
        np.testing.assert_array_equal(packed[panel], alone[0])
    np.testing.assert_array_equal(unpack(packed, bits, 8192, 70), indices)


@pytest.mark.parametrize("bits", LAYOUTS)
@pytest.mark.parametrize("rows", [1, 32, 33])
def test_places_count_words_column_by_column(bits, rows):
    layout, members = LAYOUTS[bits], MEMBERS[bits]
    height = -(-rows // 32) * 32 // members
    in_order = [
        (member * height + word, column)
        for column in range(3)
        for word in range(height)
        for member in range(members)
    ]
    k, n = np.array(in_order).T
    places = np.arange(len(in_order))
    np.testing.assert_array_equal(layout.place(k, n, rows), places)
    for found, expected in zip(layout.weight(places, rows), (k, n), strict=True):
        np.testing.assert_array_equal(found, expected)
