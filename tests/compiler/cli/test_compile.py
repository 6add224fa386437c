"""sardonyx compile, from end to end."""

import contextlib
import json
import os
import pty
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from sardonyx.compiler import cli as entry
from sardonyx.compiler.execute import read_arrays
from sardonyx.compiler.report import CompileReport


@pytest.fixture
def bert_here(bert, folder):
    onnx.save(bert, folder / "bert.onnx")
    return folder / "bert.onnx"


@pytest.fixture(scope="module")
def real(minilm, program, tmp_path_factory):
    """The real model, compiled in a process of its own with its output in pipes."""
    folder = tmp_path_factory.mktemp("real")
    out, report = folder / "l3.gobo.onnx", folder / "report.json"
    started = program("compile", minilm, "--recipe", "gobo", "-o", out, "--report", report)
    output, errors = started.communicate(timeout=120)
    return started.returncode, output, errors, out, report


def test_the_real_model_compiles(real, minilm):
    code, output, errors, out, report = real
    assert (code, errors) == (0, "")
    assert sorted(path.name for path in out.parent.iterdir()) == ["l3.gobo.onnx", "report.json"]
    assert minilm.stat().st_size / out.stat().st_size > 8.2
    onnx.checker.check_model(out)
    checked = CompileReport.model_validate_json(report.read_text())
    assert checked.totals.bytes_after == out.stat().st_size
    assert f"Wrote {out}" in output
    assert "Quantized 17,225,472 of 17,226,240 weights" in output


def test_it_is_quiet_in_a_pipe(real):
    _, output, errors, _, _ = real
    assert errors == ""
    assert "\x1b" not in output
    assert "\r" not in output
    assert "Encoding" not in output


def test_the_backends_agree_on_it(real, cli, tokens, folder, run_ort, minilm):
    out = real[3]
    np.savez(folder / "in.npz", **tokens)
    backends = ("onnxruntime", "reference", "accelerator")
    for backend in backends:
        ran = cli("run", out, "--input", "in.npz", "-o", f"{backend}.npz", "--backend", backend)
        assert (ran.code, ran.err) == (0, "")
        assert f"({backend}" in ran.out
    ort, *others = (read_arrays(Path(f"{backend}.npz")) for backend in backends)
    names = [value.name for value in onnx.load(out).graph.output]
    assert [list(found) for found in (ort, *others)] == [names] * 3
    want = run_ort(minilm, tokens)
    for name, plain in zip(ort, want, strict=True):
        for other in others:
            # two runtimes add up in different orders through three layers
            assert np.allclose(ort[name], other[name], rtol=0, atol=1e-5 * np.abs(plain).max())
        assert ort[name].dtype == plain.dtype
    pooled, plain = ort["461"], want[3]
    cosine = (
        (pooled * plain).sum(1) / np.linalg.norm(pooled, axis=1) / np.linalg.norm(plain, axis=1)
    )
    assert cosine.min() > 0.75  # random words; sentences come closer


def test_progress_on_a_terminal(bert_here, program):
    """On a terminal the bar is drawn, on standard error alone."""
    parent, child = pty.openpty()
    command = ["compile", bert_here, "--recipe", "gobo", "--dry-run"]
    watched = program(*command, stderr=child, env=os.environ | {"TERM": "xterm"})
    os.close(child)
    output, _ = watched.communicate(timeout=60)
    drawn = b""
    with contextlib.suppress(OSError):  # how the end of a terminal reads
        while part := os.read(parent, 4096):
            drawn += part
    os.close(parent)
    assert b"Encoding weights" in drawn
    assert "\x1b" not in output


def test_where_the_result_goes_without_o(cli, bert_here):
    ran = cli("compile", "bert.onnx", "--recipe", "gobo4")
    assert ran.code == 0
    assert "Wrote bert.gobo4.onnx" in ran.out
    assert (bert_here.parent / "bert.gobo4.onnx").exists()


def test_an_older_result_is_replaced(cli, bert_here, folder):
    assert cli("compile", bert_here, "--recipe", "gobo", "-o", "out.onnx").code == 0
    onnx.checker.check_model(folder / "out.onnx")


def test_the_table(cli, bert_here):
    text = cli("compile", bert_here, "--recipe", "gobo", "--dry-run").out
    for part in (
        "Quantized 133,632 of 133,760 weights (99.904%) to",
        "are outliers",
        "Left alone 1: small: 128 weights, fewer than 4096: embeddings.token_type_embeddings",
        "a vector (bias or normalisation parameter), not a weight matrix",
        "14 weights decoded.",
        "times smaller",
    ):
        assert part in " ".join(text.split())


def test_the_output_where_nothing_is_quantized(cli, folder, contrib):
    text = """g (float[B,16] X) => (float[B,16] Y) {
      G = com.microsoft.Gelu (X)
      Y = com.microsoft.Mystery <a = 1> (G)
    }"""
    onnx.save(contrib(text), "m.onnx")
    ran = cli("compile", "m.onnx", "--recipe", "float", "--report", "r.json")
    assert (ran.code, ran.err) == (0, "")
    shown = " ".join(ran.out.split())
    assert "│ unfuse-gelu │ 1 │ 2 │ 6 │" in shown
    assert "Not standard: 1 Mystery, which stay: nothing is known of its parts: Y" in shown
    assert "Checked: 1 of 1 rewritten places, before and after. " in shown
    assert "Wrote m.float.onnx" in shown
    for word in ("uantized", "weight", "times smaller", "lift-constants", "remove-unused"):
        assert word not in shown
    text = " ".join(cli("explain", "m.float.onnx", "--report", "r.json").out.split())
    assert "compiled with recipe float" in text
    assert "Not standard: 1 Mystery" in text
    assert "Gelu -> Mul" in cli("diff", "m.onnx", "m.float.onnx").out
    kept = cli("compile", "m.onnx", "--recipe", "float", "--target", "cpu", "--dry-run").out
    assert "Not standard" not in kept
    assert "Fused 5 nodes into 1: 1 Gelu." in kept


def test_dry_run_writes_nothing(cli, bert_here, folder):
    before = sorted(folder.iterdir())
    ran = cli("compile", bert_here, "--recipe", "gobo", "--dry-run")
    assert (ran.code, sorted(folder.iterdir())) == (0, before)
    assert ran.out.endswith("Nothing written (--dry-run).\n")


def test_set_and_until_and_dump(cli, bert_here, folder):
    arguments = ["--set", "gobo.bits=2", "--set", "gobo.solver=optimal", "--until", "gobo"]
    ran = cli("compile", bert_here, "--recipe", "gobo", *arguments, "--dump", "d", "-o", "x.onnx")
    assert ran.code == 0
    dumped = sorted(path.name for path in (folder / "d").iterdir())
    assert dumped == [
        "00-load.onnx",
        "01-lift-constants.onnx",
        "02-unfuse-attention.onnx",
        "03-unfuse-embed-layer-norm.onnx",
        "04-unfuse-multi-head-attention.onnx",
        "05-unfuse-matmul.onnx",
        "06-unfuse-skip-layer-norm.onnx",
        "07-unfuse-gelu.onnx",
        "08-gobo.onnx",
    ]
    ops = {node.op_type for node in onnx.load("x.onnx").graph.node if node.domain}
    assert ops == {"GoboMatMul2", "GoboGather4"}


@pytest.mark.parametrize(
    ("level", "shown"),
    [("off", "Not checked (--verify off)."), ("default", "Checked: "), ("full", "Checked: ")],
)
def test_verify(cli, bert_here, level, shown):
    ran = cli(
        "compile",
        bert_here,
        "--recipe",
        "gobo",
        "--verify",
        level,
        "--report",
        "r.json",
        "--dry-run",
    )
    assert (ran.code, shown in ran.out) == (0, True)
    with open("r.json") as file:
        assert json.load(file)["verification"]["level"] == level


@pytest.fixture
def with_a_skip(folder, text_model, normal):
    model = text_model(
        "g (float[64,64] X) => (float[64,64] Y) { Z = MatMul (W, X)\n Y = MatMul (Z, V) }",
        W=normal(64, 64),
        V=normal(64, 64, seed=1),
    )
    onnx.save(model, folder / "m.onnx")


def test_strict(cli, with_a_skip, folder):
    assert cli("compile", "m.onnx", "--recipe", "gobo", "--dry-run").code == 0
    ran = cli("compile", "m.onnx", "--recipe", "gobo", "--strict", "-o", "out.onnx")
    assert ran.code == 3
    assert ran.err == (
        "Error: --strict: 1 eligible weights were left alone, the first 'W': left operand of "
        "MatMul: only right operands are encoded\n"
    )
    assert (folder / "out.onnx").read_text() == "an older result"
    assert sorted(path.name for path in folder.iterdir()) == ["m.onnx", "out.onnx"]


def test_strict_with_nothing_eligible_left(cli, bert_here):
    assert cli("compile", bert_here, "--recipe", "gobo", "--strict", "-o", "out.onnx").code == 0


WRONG_PASS = """
from dataclasses import dataclass
from typing import ClassVar
from sardonyx.passes import Pass

@dataclass(frozen=True)
class Wrong(Pass):
    '''a -> b'''
    name: ClassVar[str] = "wrong"
    def run(self, graph, journal):
        next(node for node in graph.nodes if node.op == "Erf").op = "Tanh"
        return 1
"""


def test_a_wrong_pass_exits_3(refused, bert_here, folder):
    (folder / "wrong.py").write_text(WRONG_PASS)
    text = refused("compile", bert_here, "--recipe", "wrong.py", "-o", "out.onnx", code=3)
    assert text.startswith(
        "pass wrong is wrong: Tanh '/encoder/layer.0/intermediate/intermediate_act_fn/Erf' ch"
    )


def test_names_with_brackets(cli, folder, text_model, normal):
    model = text_model(
        "g (float[N,64] X) => (float[N,96] Y) { Z = MatMul (X, W)\n Y = Add (Z, B) }",
        W=normal(64, 96),
        B=normal(96),
    )
    for number, name in enumerate(("[/red]w", "b[bold]")):
        model.graph.initializer[number].name = model.graph.node[number].input[1] = name
        model.graph.node[number].name = f"[/]{number}"
    onnx.save(model, folder / "[m].onnx")
    ran = cli("compile", "[m].onnx", "--recipe", "gobo")
    assert ran.code == 0
    for part in ("[/]0", "b[bold]", "Wrote [m].gobo.onnx"):
        assert part in ran.out
    np.savez("in.npz", X=normal(2, 64))
    assert "[m].gobo.onnx" in cli("run", "[m].gobo.onnx", "--input", "in.npz").out


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile"],
        ["compile", "bert.onnx"],
        ["compile", "--recipe", "gobo"],
        ["compile", "bert.onnx", "--recipe"],
        ["compile", "bert.onnx", "--recipe", "gobo", "--target", "toaster"],
        ["compile", "bert.onnx", "--recipe", "gobo", "--verify", "some"],
        ["compile", "bert.onnx", "--recipe", "gobo", "--no-such-option"],
        ["compile", "bert.onnx", "more.onnx", "--recipe", "gobo"],
        ["no-such-command"],
    ],
)
def test_usage_exits_2(cli, bert_here, arguments):
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert "Usage" in ran.err or "requires an argument" in ran.err
    assert "Traceback" not in ran.err


def test_compile_is_a_program_of_its_own(bert_here, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["compile", "bert.onnx", "--recipe", "gobo", "--dry-run"])
    with pytest.raises(SystemExit) as caught:
        entry.compile_main()
    assert caught.value.code == 0
    assert "times smaller" in capsys.readouterr().out


def test_recipes(cli, tmp_path):
    listed = cli("recipes")
    assert (listed.code, "gobo4" in listed.out) == (0, True)
    shown = cli("recipes", "show", "gobo")
    assert shown.code == 0
    for part in ("remove-unused", "embedding_bits", "min_weights", "rule's default"):
        assert part in shown.out
    unknown = cli("recipes", "show", "gobbo")
    assert unknown.code == 1
    assert unknown.err.startswith("Error: unknown recipe 'gobbo': did you mean 'gobo'?")


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        (
            "gobo",
            {
                "bits.default": ("3", "--set gobo.bits.default="),
                "role_layers": ("an empty table", "--set gobo.role_layers.KEY="),
                "embedding_bits": ("4", "--set gobo.embedding_bits="),
            },
        ),
        (
            "gobo-roberta",
            {
                "bits.default": ("3", "--set gobo.bits.default="),
                "bits.value": ("4", "--set gobo.bits.value="),
                "bits.ffn_in": ("4", "--set gobo.bits.ffn_in="),
                "role_layers.12": ("6", "--set gobo.role_layers.12="),
                "role_layers.24": ("14", "--set gobo.role_layers.24="),
            },
        ),
    ],
)
def test_a_recipe_shows_tables_key_by_key(cli, name, rows):
    lines = cli("recipes", "show", name).out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:4]] for line in lines if "│" in line]
    shown = {argument: (value, change) for argument, value, change in cells}
    assert rows.items() <= shown.items()
    assert not any("{" in line for line in lines)


def test_bits_by_role(cli, bert_here):
    more = ("--set", "gobo.bits.value=4", "--report", "r.json", "-o", "x.onnx")
    assert cli("compile", bert_here, "--recipe", "gobo", *more).code == 0
    tensors = json.loads(Path("r.json").read_text())["tensors"]
    bits = {(t["role"], t["layer"]): t["bits"] for t in tensors}
    others = ("query", "key", "attention_output", "ffn_in", "ffn_out")
    layers = (0, 1)
    assert bits == {
        **{("value", layer): 4 for layer in layers},
        **{(role, layer): 3 for role in others for layer in layers},
        ("embedding", None): 4,
    }
    nodes = [n for n in onnx.load("x.onnx").graph.node if n.domain]
    notes = [{prop.key: prop.value for prop in node.metadata_props} for node in nodes]
    ops = {note["sardonyx.role"]: node.op_type for node, note in zip(nodes, notes, strict=True)}
    assert ops["value, layer 1"] == "GoboMatMul4"
    assert ops["query, layer 1"] == "GoboMatMul3"
    assert ops["embedding"] == "GoboGather4"


def test_help_names_every_command(cli):
    text = cli("--help").out
    assert all(
        command in text for command in ("compile", "run", "recipes", "view", "explain", "diff")
    )
