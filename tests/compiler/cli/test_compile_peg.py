"""What is shown of a model in groups of channels: a row a weight, a row a kind of activation."""

import pytest

from sardonyx.compiler import compile
from sardonyx.compiler.cli import screen
from sardonyx.compiler.cli.table import activation_table, print_report, tensor_table
from sardonyx.compiler.explain import explainer

GROUPS = 3


@pytest.fixture(scope="module")
def done(bert, tmp_path_factory):
    """The small BERT's report, and what explain reads in its file."""
    path = tmp_path_factory.mktemp("peg") / "m.onnx"
    compiled = compile(bert, "peg", random_calibration=2, overrides=[f"peg.k={GROUPS}"])
    compiled.save(path)
    return compiled.report, explainer(path)


@pytest.fixture
def shown(monkeypatch):
    """The rows that something prints, without lines between cells."""
    monkeypatch.setattr(screen.out, "width", 120)

    def run(show):
        with screen.out.capture() as text:
            show()
        return [line.strip("│┃ ") for line in text.get().splitlines()]

    return run


def names(rows, title):
    """The first cells of a table's rows."""
    start = rows.index(title)
    rows = rows[start + 4 :]
    end = next(place for place, row in enumerate(rows) if "└" in row)
    return [row.partition("│")[0].strip() for row in rows[:end]]


def test_a_row_a_weight(done, shown):
    report, told = done
    slices = [entry for entry in report.tensors if entry.slice_of]
    assert len(slices) == 4 * GROUPS
    wanted = ["8 query, key, value, attention output", f"4 ffn in, ffn out, each cut in {GROUPS}"]
    for show in (
        lambda: print_report(report, screen.out),
        lambda: screen.out.print(tensor_table(told.quantized, 120)),
    ):
        rows = shown(show)
        assert names(rows, "Quantized weights")[-2:] == wanted


def test_few_weights_have_a_row_each(done, shown):
    report, _ = done
    some = [entry for entry in report.tensors if entry.role == "ffn_in"]
    rows = names(shown(lambda: screen.out.print(tensor_table(some, 120))), "Quantized weights")
    assert rows == [f"layer.{layer}/intermediate/dense, cut in {GROUPS}" for layer in range(2)]


def test_a_row_a_kind_of_activation(done, shown):
    report, told = done
    table = activation_table(told.activations, told.quantized, 120)
    rows = names(shown(lambda: screen.out.print(table)), "Rounded activations")
    counted = dict(reversed(row.partition(",")[0].split(" ", 1)) for row in rows)
    assert sum(map(int, counted.values())) == report.totals.activations
    assert {row for row in rows if "groups" in row} == {
        *(f"2 {kind}, in {GROUPS} groups" for kind in "xghy"),
        f"4 r, in {GROUPS} groups",
    }
    assert {"2 query", "2 scores", "2 probabilities", "2 attention output"} <= set(rows)


def test_each_activation_counts_once(done):
    """Those of one group too: two sums of embeddings stand outside all layers."""
    report, _ = done
    parts = [entry for entry in report.activations if entry.kind == "r"]
    assert len(parts) == 4 * GROUPS
    assert len({entry.whole for entry in parts}) == 4


def test_bytes_are_those_in_the_file(done):
    """A scale that slices share is stored once, and counted once."""
    report, told = done
    weights = told.held.quantized.values()
    stored = {part.name: part.nbytes for w in weights for part in w.parts.values()}
    zero_points = sum(size == 1 for size in stored.values())
    counted = sum(entry.bytes_after for entry in report.tensors)
    assert counted == sum(stored.values()) - zero_points
    assert report.totals.bits_per_weight == 8 * counted / report.totals.weights_quantized
    assert [e.bytes_after for e in told.quantized] == [e.bytes_after for e in report.tensors]
