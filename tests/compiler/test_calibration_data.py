"""The forms of calibration data give the same samples, and say what is wrong with them."""

import json
import tracemalloc
import zipfile

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from sardonyx.compiler import InputError
from sardonyx.compiler.calibration_data import Batches
from sardonyx.compiler.calibration_source import open_data
from sardonyx.compiler.load import load
from sardonyx.compiler.model_inputs import ModelInput, model_inputs
from sardonyx.compiler.samples import Samples

INT = np.dtype(np.int64)
BERT = tuple(ModelInput(name, INT, ("b", "s")) for name in ("input_ids", "attention_mask"))


@pytest.fixture
def batch():
    """Five samples of up to four tokens."""
    ids = np.arange(20).reshape(5, 4)
    mask = (np.arange(4) < np.array([[4], [2], [3], [1], [4]])).astype(np.int64)
    return {"input_ids": ids, "attention_mask": mask}


def feeds(data, inputs=BERT):
    """All that some data feeds."""
    return [
        {name: array.tolist() for name, array in sample.feeds.items()}
        for sample in Samples(data, inputs)
    ]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz(tmp_path, batch, save, order):
    save(tmp_path / "in.npz", **{n: np.asarray(a, order=order) for n, a in batch.items()}, more=1)
    data = open_data(tmp_path / "in.npz", None)
    assert feeds(data) == feeds(Batches([batch]))
    assert data.source == str(tmp_path / "in.npz")


def test_folder(tmp_path, batch):
    np.savez(tmp_path / "b.npz", **{name: array[3:] for name, array in batch.items()})
    np.savez(tmp_path / "a.npz", **{name: array[:3, :] for name, array in batch.items()})
    (tmp_path / "notes.md").write_text("of lengths that vary")
    assert feeds(open_data(str(tmp_path), None)) == feeds(Batches([batch]))


def test_a_large_file_is_read_a_sample_at_a_time(tmp_path):
    np.savez(tmp_path / "in.npz", X=np.zeros((512, 128, 64), np.float32))  # 16.8 MB
    wanted = (ModelInput("X", np.dtype(np.float32), ("b", 128, 64)),)
    tracemalloc.start()
    count = sum(1 for _ in Samples(open_data(tmp_path / "in.npz", None), wanted))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 512
    assert peak < 1 << 20


@pytest.fixture
def tokenizer(tmp_path):
    """Words to their numbers; pads and truncates as its file says, to 5."""
    vocabulary = {"[UNK]": 0, "[PAD]": 9, "one": 1, "two": 2, "three": 3}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_padding(pad_id=9, length=8)
    made.enable_truncation(5)
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_sentences(tmp_path, tokenizer):
    (tmp_path / "s.txt").write_text("\ufeffone two\n\n  three \nfour one one one one one\n")
    assert feeds(open_data(tmp_path / "s.txt", tokenizer)) == [
        {"input_ids": [ids], "attention_mask": [[1] * len(ids)]}
        for ids in ([1, 2], [3], [0, 1, 1, 1, 1])
    ]


def test_sentences_as_json(tmp_path, tokenizer):
    lines = [json.dumps({"text": "one two", "label": 1}), "", '"three"']
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    ids = [each["input_ids"] for each in feeds(open_data(tmp_path / "s.jsonl", str(tokenizer)))]
    assert ids == [[[1, 2]], [[3]]]


def test_sentences_for_a_model_of_a_fixed_length(tmp_path, tokenizer):
    (tmp_path / "s.txt").write_text("one two\none one one one")
    names = ("input_ids", "attention_mask", "token_type_ids")
    wanted = tuple(ModelInput(name, np.dtype(np.int32), ("b", 3)) for name in names)
    one, two = feeds(open_data(tmp_path / "s.txt", tokenizer), wanted)
    assert one == {
        "input_ids": [[1, 2, 9]],
        "attention_mask": [[1, 1, 0]],
        "token_type_ids": [[0, 0, 0]],
    }
    assert two["input_ids"] == [[1, 1, 1]]


def test_at_most_256_tokens(tmp_path, tokenizer):
    made = Tokenizer.from_file(str(tokenizer))
    made.no_truncation()
    made.save(str(tokenizer))
    (tmp_path / "s.txt").write_text("one " * 300)
    (one,) = feeds(open_data(tmp_path / "s.txt", tokenizer))
    assert len(one["input_ids"][0]) == 256


def refusal(given, tokenizer=None, inputs=BERT):
    """The sentence with which data is refused."""
    with pytest.raises(InputError) as error:
        feeds(open_data(given, tokenizer), inputs)
    return str(error.value)


def test_files_that_are_not_there(tmp_path, tokenizer):
    for name in ("no.npz", "no.txt", "no"):
        path = tmp_path / name
        assert refusal(path) == f"cannot read '{path}': No such file or directory"
    (tmp_path / "s.txt").write_text("one")
    text = refusal(tmp_path / "s.txt", tmp_path / "no.json")
    assert text == f"cannot read '{tmp_path / 'no.json'}': No such file or directory"


@pytest.mark.parametrize("content", [b"", b"words", b"PK\x03\x04 and no more"])
def test_files_that_are_no_npz(tmp_path, content):
    path = tmp_path / "in.npz"
    path.write_bytes(content)
    assert refusal(path) == f"'{path}' is not an .npz file of plain arrays"


def test_damaged_files(tmp_path, batch):
    path = tmp_path / "in.npz"
    np.savez(path, **batch)
    whole = path.read_bytes()
    middle = whole.index(batch["input_ids"].tobytes())
    path.write_bytes(whole[:middle] + bytes(8 * [255]) + whole[middle + 8 :])
    assert refusal(path) == f"'{path}' is not an .npz file of plain arrays"
    path.write_bytes(whole[: len(whole) // 2])
    assert refusal(path) == f"'{path}' is not an .npz file of plain arrays"


def test_a_member_shorter_than_it_says(tmp_path):
    path = tmp_path / "in.npz"
    np.save(tmp_path / "a.npy", np.zeros((4, 4), np.int64))
    with zipfile.ZipFile(path, "w") as archive:
        for one in BERT:
            archive.writestr(f"{one.name}.npy", (tmp_path / "a.npy").read_bytes()[:-8])
    assert refusal(path) == f"'{path}' is not an .npz file of plain arrays"


def test_arrays_of_objects(tmp_path, batch):
    path = tmp_path / "in.npz"
    np.savez(path, **batch | {"input_ids": np.array([[1], [2, 3]], object)})
    assert refusal(path) == f"'{path}' is not an .npz file of plain arrays"


def test_arrays_that_do_not_fit_name_the_file(tmp_path, batch):
    np.savez(tmp_path / "a.npz", **batch)
    np.savez(tmp_path / "b.npz", input_ids=batch["input_ids"])
    path = tmp_path / "b.npz"
    text = f"'{path}' has no array 'attention_mask': the model wants input_ids, attention_mask"
    assert refusal(tmp_path) == text
    np.savez(path, **batch | {"input_ids": batch["input_ids"].astype(np.int32)})
    assert refusal(tmp_path) == (
        f"'{path}': 'input_ids' is int32, the model wants int64: convert it"
    )
    np.savez(path, **batch | {"input_ids": batch["input_ids"][0]})
    assert refusal(tmp_path) == f"'{path}': 'input_ids' has shape [4], the model wants [b, s]"
    np.savez(path, **batch | {"input_ids": batch["input_ids"][:2]})
    assert refusal(tmp_path) == f"'{path}': 'attention_mask' holds 5 samples and 'input_ids' 2"


def test_nothing_in_it(tmp_path, tokenizer, batch):
    (tmp_path / "s.txt").write_text("\n \n")
    for given, other in ((tmp_path / "s.txt", tokenizer), (tmp_path / "in.npz", None)):
        np.savez(tmp_path / "in.npz", **{name: array[:0] for name, array in batch.items()})
        with pytest.raises(InputError, match=r"holds no sample$"):
            len(Samples(open_data(given, other), BERT))
    (tmp_path / "empty").mkdir()
    path = tmp_path / "empty"
    assert refusal(path) == f"folder '{path}' holds no .npz file"


def test_sentences_and_tokenizers_that_do_not_fit(tmp_path, tokenizer, batch):
    path = tmp_path / "s.txt"
    path.write_text("one two\nthree")
    assert refusal(path) == (
        f"sentences, as in '{path}', need the model's tokenizer: --tokenizer tokenizer.json"
    )
    assert refusal(path, path).startswith(f"'{path}' is not a tokenizer.json: ")
    np.savez(tmp_path / "in.npz", **batch)
    other = tmp_path / "in.npz"
    assert refusal(other, tokenizer) == (
        f"--tokenizer is for sentences in a .txt or .jsonl, not for '{other}'"
    )
    small = (ModelInput("input_ids", INT, ("b", "s"), rows=3),)
    assert refusal(path, tokenizer, small) == (
        f"'{path}', line 2: 'input_ids' holds 3, and the model looks it up in a table of 3 rows: "
        "the tokenizer is of another model"
    )
    more = (*BERT, ModelInput("pixels", np.dtype(np.float32), ("b", 3)))
    assert refusal(path, tokenizer, more) == (
        "sentences fill the inputs input_ids, attention_mask, token_type_ids, and the model also "
        "wants 'pixels': give its inputs as an .npz file"
    )


def test_a_tokenizer_without_a_token_for_unknown_words(tmp_path):
    Tokenizer(models.WordLevel({"one": 1})).save(str(tmp_path / "tokenizer.json"))
    path = tmp_path / "s.txt"
    path.write_text("one\ntwo\n")
    assert refusal(path, tmp_path / "tokenizer.json").startswith(
        f"'{path}', line 2: the tokenizer fails on it: "
    )


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"{", ", line 2 is not JSON: Expecting property name"),
        (b'{"words": 1}', ', line 2: there is no string, and no object with a "text"'),
        (b"[1]", ', line 2: there is no string, and no object with a "text"'),
        (b'"\xff"', " is not UTF-8 text"),
        (b'" "', ", line 2: the tokenizer makes no token of it"),
    ],
)
def test_lines_that_are_no_sentence(tmp_path, tokenizer, line, text):
    path = tmp_path / "s.jsonl"
    path.write_bytes(b'"one"\n' + line)
    assert refusal(path, tokenizer).startswith(f"'{path}'{text}")


def test_tables_are_found_behind_what_only_turns_ids(text_model, normal):
    model = text_model(
        """g (int32[B,S] ids, int64[B,S] types, int64[B,S] mask, float[B] x) => (float[N,M,8] Y) {
             a = Cast <to = 7> (ids)
             axes = Constant <value_ints = [0]> ()
             b = Unsqueeze (a, axes)
             c = Squeeze (b, axes)
             d = Gather (words, c)
             e = Gather (kinds, types)
             f = Add (d, e)
             m = Cast <to = 1> (mask)
             n = Unsqueeze (m, last)
             Y = Mul (f, n)
           }""",
        words=normal(50, 8),
        kinds=normal(2, 8),
        last=np.array([2]),
    )
    source, graph = load(model)
    found = {one.name: (one.dtype, one.dims, one.rows) for one in model_inputs(source, graph)}
    assert found == {
        "ids": (np.dtype(np.int32), ("B", "S"), 50),
        "types": (INT, ("B", "S"), 2),
        "mask": (INT, ("B", "S"), None),
        "x": (np.dtype(np.float32), ("B",), None),
    }


def test_inputs_that_have_a_default_need_no_data(text_model):
    model = text_model("g (float[N] X, float[1] s) => (float[N] Y) { Y = Mul (X, s) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.float32), "s"))
    assert [one.name for one in model_inputs(*load(model))] == ["X"]


def test_inputs_that_are_no_tensors(text_model):
    model = text_model("g (seq(float[N]) X) => (float[N] Y) { Y = SequenceAt (X, i) }", i=0)
    with pytest.raises(InputError, match="input 'X' of the model is no tensor"):
        model_inputs(*load(model))
