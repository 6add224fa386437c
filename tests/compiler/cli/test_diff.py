"""sardonyx diff, as it looks."""

import onnx
import pytest

from sardonyx.compiler.cli import screen
from sardonyx.compiler.model_diff import ModelDiff


@pytest.fixture
def pair(bert, cli, folder, monkeypatch):
    """A model and its compiled form in a folder to work in; a screen of 80 columns."""
    monkeypatch.setattr(screen.out, "width", 80)
    onnx.save(bert, folder / "bert.onnx")
    assert cli("compile", "bert.onnx", "--recipe", "gobo").code == 0
    return "bert.onnx", "bert.gobo.onnx"


def shown(cli, *arguments):
    ran = cli("diff", *arguments)
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def test_diff_with_the_compiled_form(cli, pair, golden):
    golden(shown(cli, *pair))


def test_diff_of_two_compiled_forms(cli, pair, golden):
    assert cli("compile", "bert.onnx", "--recipe", "gobo4").code == 0
    golden(shown(cli, "bert.gobo.onnx", "bert.gobo4.onnx"))


def test_a_model_with_itself(cli, pair):
    text = shown(cli, pair[0], pair[0])
    assert text.endswith("\nNo difference.\n")
    assert text.count("\n") == 3


def test_a_real_model_on_one_screen(cli, minilm, folder, monkeypatch):
    monkeypatch.setattr(screen.out, "width", 80)
    monkeypatch.chdir(minilm.parent)
    compiled = folder / "l3.gobo.onnx"
    assert cli("compile", minilm, "--recipe", "gobo", "-o", compiled).code == 0
    monkeypatch.chdir(folder)
    (folder / "l3.onnx").symlink_to(minilm)
    lines = shown(cli, "l3.onnx", "l3.gobo.onnx").splitlines()
    assert len(lines) <= 54
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "Constants: 44 the same, 20 changed, 101 only in A, 4 only in B" in text
    assert "18 MatMul -> GoboMatMul3, like ...encoder/layer.0/attention/self/query/MatMul" in text


def test_json(cli, pair):
    text = shown(cli, *pair, "--json")
    found = ModelDiff.model_validate_json(text)
    assert text == found.to_json()
    assert len(found.tensors_changed) == 14


BRANCHES = """
g (bool C, float[4] X) => (float[4] Y) {{
  Y = If (C) <
    then_branch = t () => (float[4] A) {{ A = {} (X) }},
    else_branch = e () => (float[4] A) {{ A = Neg (X) }}
  >
}}
"""


def test_bodies_and_names_with_brackets(cli, folder, text_model):
    for name, op in (("[a].onnx", "Abs"), ("[b].onnx", "Exp")):
        model = text_model(BRANCHES.format(op))
        model.producer_name = f"[/red]{op}"
        onnx.save(model, name)
    text = shown(cli, "[a].onnx", "[b].onnx")
    for part in (
        "B  [b].onnx: ",
        "1 nodes, 2 in bodies of If, Loop, Scan",
        "│ Abs (in a body)      │       1 │       0 │",
        "    1 Abs -> Exp, Y.then_branch/A",
        "producer: [/red]Abs -> [/red]Exp",
    ):
        assert part in text


def test_two_strangers(cli, pair, folder, text_model):
    onnx.save(text_model(BRANCHES.format("Abs")), "b.onnx")
    text = shown(cli, pair[0], "b.onnx")
    assert "Constants: 0 the same, 0 changed, 61 only in A, 0 only in B" in text
    assert "more (--json lists all)" in text
    assert "inputs: input_ids, attention_mask, tok... -> C, X" in text


def test_refusals(refused, bert_file):
    assert (
        refused("diff", bert_file, "no.onnx") == "cannot read 'no.onnx': No such file or directory"
    )
    assert refused("diff", "out.onnx", bert_file).startswith("'out.onnx' is not an ONNX model")
