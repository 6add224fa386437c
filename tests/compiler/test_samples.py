"""Samples: one at a time, without padding; masked positions do not count."""

import numpy as np
import pytest

from sardonyx.compiler import InputError
from sardonyx.compiler.calibration_data import Batches
from sardonyx.compiler.model_inputs import ModelInput
from sardonyx.compiler.samples import Samples

INT, FLOAT, BOOL = np.dtype(np.int64), np.dtype(np.float32), np.dtype(bool)


def inputs(**dims):
    """Inputs of a model, of integers; what is called ids is looked up in 100 rows."""
    return tuple(
        ModelInput(name, INT, tuple(of), 100 if name.endswith("ids") else None)
        for name, of in dims.items()
    )


def samples(wanted, *batches):
    """All samples of some batches of integers."""
    arrays = [{name: np.array(value) for name, value in batch.items()} for batch in batches]
    return list(Samples(Batches(arrays), wanted))


def fed(sample):
    """What a sample feeds, as lists."""
    return {name: array.tolist() for name, array in sample.feeds.items()}


BERT = inputs(ids=["b", "s"], mask=["b", "s"])


def test_a_batch_is_split_and_padding_cut():
    one, two = samples(BERT, {"ids": [[5, 6, 7], [8, 9, 0]], "mask": [[1, 1, 1], [1, 1, 0]]})
    assert fed(one) == {"ids": [[5, 6, 7]], "mask": [[1, 1, 1]]}
    assert fed(two) == {"ids": [[8, 9]], "mask": [[1, 1]]}
    assert (one.masks, two.masks) == ((), ())
    assert two.label == "sample 1 of calibration batch 0"


@pytest.mark.parametrize("dtype", [FLOAT, BOOL])
def test_masks_of_other_types(dtype):
    wanted = (BERT[0], ModelInput("mask", dtype, ("b", "s")))
    (one,) = samples(wanted, {"ids": [[5, 6, 7]], "mask": np.array([[1, 1, 0]], dtype)})
    assert fed(one)["ids"] == [[5, 6]]


def test_an_axis_without_a_name_is_known_by_its_size():
    wanted = inputs(ids=[None, None], mask=[None, None], width=[None, None, None])
    batch = {"ids": [[5, 6, 7]], "mask": [[1, 0, 0]], "width": [[[1], [2]]]}
    (one,) = samples(wanted, batch)
    assert fed(one) == {"ids": [[5]], "mask": [[1]], "width": [[[1], [2]]]}


def test_an_axis_whose_name_nothing_shares_is_known_by_its_size():
    (one,) = samples(inputs(ids=["b", "s"], mask=["b2", "s2"]), {"ids": [[5, 6]], "mask": [[1, 0]]})
    assert fed(one) == {"ids": [[5]], "mask": [[1]]}


def test_a_mask_of_more_positions_than_any_input_is_not_cut():
    wanted = inputs(ids=["b", "s"], mask=["b", "past + s"])
    (one,) = samples(wanted, {"ids": [[5, 6]], "mask": [[1, 1, 1, 0]]})
    assert fed(one) == {"ids": [[5, 6]], "mask": [[1, 1, 1, 0]]}
    assert one.masks[0].tolist() == [[True, True, True, False]]


def test_each_axis_has_its_own_mask():
    wanted = inputs(
        ids=["b", "s"], mask=["b", "s"], decoder_ids=["b", "t"], decoder_mask=["b", "t"]
    )
    batch = {"ids": [[5, 6, 7]], "mask": [[1, 1, 0]], "decoder_ids": [[1, 2, 3]]}
    (one,) = samples(wanted, batch | {"decoder_mask": [[1, 0, 0]]})
    assert {name: array.shape[1] for name, array in one.feeds.items()} == {
        "ids": 2,
        "mask": 2,
        "decoder_ids": 1,
        "decoder_mask": 1,
    }


def test_every_axis_of_the_name_is_cut():
    wanted = inputs(ids=["b", "s"], mask=["b", "s"], bias=["b", 1, "s", "s"])
    bias = np.arange(9).reshape(1, 1, 3, 3)
    (one,) = samples(wanted, {"ids": [[5, 6, 7]], "mask": [[1, 1, 0]], "bias": bias})
    assert fed(one)["bias"] == [[[[0, 1], [3, 4]]]]


def test_zeros_and_ones_that_are_looked_up_are_no_mask():
    wanted = inputs(ids=["b", "s"], token_type_ids=["b", "s"])
    (one,) = samples(wanted, {"ids": [[5, 6, 7]], "token_type_ids": [[1, 1, 0]]})
    assert one.feeds["ids"].shape == (1, 3)
    assert one.masks == ()


def test_of_two_masks_what_either_shows_counts():
    wanted = inputs(ids=["b", "s"], mask=["b", "s"], types=["b", "s"])
    (one,) = samples(wanted, {"ids": [[5, 6, 7]], "mask": [[1, 1, 0]], "types": [[1, 0, 0]]})
    assert one.feeds["ids"].shape == (1, 2)
    assert one.counted(np.zeros((1, 2, 4))).shape == (2, 4)


def test_a_mask_of_zeros_says_nothing():
    wanted = inputs(ids=["b", "s"], mask=["b", "s"], types=["b", "s"])
    (one,) = samples(wanted, {"ids": [[5, 6, 7]], "mask": [[1, 1, 0]], "types": [[0, 0, 0]]})
    assert one.feeds["types"].shape == (1, 2)
    (one,) = samples(BERT, {"ids": [[5, 6]], "mask": [[0, 0]]})
    assert (one.feeds["ids"].shape, one.masks) == ((1, 2), ())


@pytest.mark.parametrize("mask", [[0, 1, 1], [1, 0, 1]])
def test_positions_hidden_elsewhere_are_run_and_not_counted(mask):
    (one,) = samples(BERT, {"ids": [[5, 6, 7]], "mask": [mask]})
    assert one.feeds["ids"].tolist() == [[5, 6, 7]]
    values = np.arange(6).reshape(1, 3, 2)
    assert one.counted(values).tolist() == values[0][np.array(mask) == 1].tolist()
    assert one.counted(np.zeros((1, 12, 3, 3))).shape == (1, 12, 3, 3)
    assert one.counted(np.zeros(3)).shape == (3,)


def test_a_fixed_length_is_run_with_its_padding():
    wanted = inputs(ids=["b", 4], mask=["b", 4])
    (one,) = samples(wanted, {"ids": [[5, 6, 7, 0]], "mask": [[1, 1, 1, 0]]})
    assert one.feeds["ids"].shape == (1, 4)
    assert one.counted(np.zeros((1, 4, 2))).shape == (3, 2)


def test_a_fixed_batch_is_run_whole():
    wanted = inputs(ids=[2, 3], mask=[2, 3])
    batch = {"ids": [[1, 2, 3], [4, 0, 0]], "mask": [[1, 1, 1], [1, 0, 0]]}
    one, two = samples(wanted, batch, batch)
    assert fed(one) == fed(two) == batch
    assert one.counted(np.zeros((2, 3, 5))).shape == (4, 5)
    singles = [{name: rows[i : i + 1] for name, rows in batch.items()} for i in (0, 1)]
    assert [fed(one)] == [fed(each) for each in samples(wanted, *singles)]
    with pytest.raises(InputError) as error:
        samples(wanted, batch, singles[0])
    assert str(error.value) == (
        "sample 0 of calibration batch 1 is the last, and the model's batch is fixed at 2: "
        "give a multiple of that many samples"
    )


def test_what_is_given_once_for_all():
    wanted = inputs(ids=["b", "s"], flag=[1], scale=[])
    given = {"ids": [[1, 2], [3, 4], [5, 6]], "flag": [1], "scale": 7}
    assert [fed(one) for one in samples(wanted, given)] == [
        {"ids": [row], "flag": [1], "scale": 7} for row in ([1, 2], [3, 4], [5, 6])
    ]
    each = [fed(one)["flag"] for one in samples(wanted, given | {"flag": [0, 1, 1]})]
    assert each == [[0], [1], [1]]


def test_a_model_without_axes():
    assert [fed(one) for one in samples(inputs(scale=[]), {"scale": 7}, {"scale": 8})] == [
        {"scale": 7},
        {"scale": 8},
    ]


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        ({"mask": [[1]]}, " has no array 'ids': the model wants ids, mask"),
        ({"ids": [[1.0]], "mask": [[1]]}, ": 'ids' is float64, the model wants int64: convert it"),
        ({"ids": [1], "mask": [[1]]}, ": 'ids' has shape [1], the model wants [b, s]"),
        ({"ids": [[1], [2]], "mask": [[1]]}, ": 'mask' holds 1 samples and 'ids' 2"),
    ],
)
def test_batches_that_do_not_fit(batch, text):
    with pytest.raises(InputError) as error:
        samples(BERT, {"ids": [[1]], "mask": [[1]]}, batch)
    assert str(error.value) == f"calibration batch 1{text}"


def test_a_fixed_size_that_is_another():
    with pytest.raises(InputError, match=r"'ids' has shape \[1, 3\], the model wants \[b, 4\]"):
        samples(inputs(ids=["b", 4]), {"ids": [[1, 2, 3]]})
    with pytest.raises(InputError, match="'flag' holds 3 samples and 'ids' 1"):
        samples(inputs(ids=["b", "s"], flag=[2]), {"ids": [[1]], "flag": [1, 2, 3]})


@pytest.mark.parametrize("shown", [[[1]], [[1, 1, 1]]])
def test_a_mask_of_another_length(shown):
    with pytest.raises(InputError) as error:
        samples(BERT, {"ids": [[5, 6]], "mask": shown})
    assert str(error.value) == (
        "sample 0 of calibration batch 0: 'ids' has 2 positions and its mask 'mask' "
        f"{len(shown[0])}"
    )


def test_samples_without_a_token():
    with pytest.raises(InputError, match=r"^sample 0 of .*: 'ids' is empty, of shape \[1, 0\]$"):
        samples(BERT, {"ids": np.zeros((2, 0), int), "mask": np.zeros((2, 0), int)})


@pytest.mark.parametrize("token", [100, -1])
def test_tokens_beyond_the_vocabulary(token):
    with pytest.raises(InputError) as error:
        samples(BERT, {"ids": [[1, 99], [2, token]], "mask": [[1, 1], [1, 1]]})
    assert str(error.value) == (
        f"sample 1 of calibration batch 0: 'ids' holds {token}, and the model looks it up in a "
        "table of 100 rows: the data is of another model"
    )


def test_length_and_digest():
    batch = {"ids": np.array([[1, 2], [3, 0]]), "mask": np.array([[1, 1], [1, 0]])}
    parts = [{name: array[i : i + 1, : 2 - i] for name, array in batch.items()} for i in (0, 1)]
    whole, split = Samples(Batches([batch]), BERT), Samples(Batches(parts), BERT)
    assert len(whole) == len(split) == 2
    assert whole.digest == split.digest
    other = Samples(Batches(parts[::-1]), BERT)
    assert other.digest != whole.digest
    with pytest.raises(InputError, match=r"^the calibration data 'arrays' holds no sample$"):
        len(Samples(Batches([]), BERT))
