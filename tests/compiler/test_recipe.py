"""Recipes: presets, files, --set; every refusal names the culprit and the nearest name."""

import re
from pathlib import Path

import pytest

from sardonyx.compiler.recipe import PRESETS, Recipe, load_recipe, preset_names
from sardonyx.passes.cleanup.remove_unused import RemoveUnused
from sardonyx.passes.gobo.encode import Gobo
from sardonyx.passes.unfuse.attention import UnfuseAttention
from sardonyx.passes.unfuse.embed_layer_norm import UnfuseEmbedLayerNorm
from sardonyx.passes.unfuse.gelu import UnfuseGelu
from sardonyx.runtime_ops.errors import InputError

RECIPE = """
description = "mine"
[[passes]]
pass = "gobo"
bits = 5
[[passes]]
pass = "remove-unused"
"""
PASS = """
from dataclasses import dataclass
from typing import ClassVar
from sardonyx.passes import Pass

@dataclass(frozen=True)
class Mine(Pass):
    '''a -> a'''
    share: float = 0.5
    name: ClassVar[str] = "mine"
    def run(self, graph, journal):
        return 0
"""


def gobo(*overrides):
    """The gobo pass of the preset, changed."""
    return next(p for p in load_recipe("gobo", overrides).passes if isinstance(p, Gobo))


def refusal(name, overrides=()):
    with pytest.raises(InputError) as caught:
        load_recipe(name, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("gobo", {}), ("gobo4", {"bits": 4}), ("gobo-int8", {"compute": "int8"})],
)
def test_presets(name, settings):
    recipe = load_recipe(name)
    assert recipe == Recipe(
        name,
        recipe.description,
        (
            UnfuseAttention(),
            UnfuseEmbedLayerNorm(),
            Gobo(**settings),
            *load_recipe("cleanup").passes,
        ),
    )
    assert recipe.description


def test_every_preset_loads_and_says_what_it_does():
    assert preset_names() == sorted(path.stem for path in PRESETS.iterdir())
    assert all(load_recipe(name).description for name in preset_names())


@pytest.mark.parametrize(
    ("override", "field", "value"),
    [
        ("gobo.bits=4", "bits", {"default": 4}),
        (" gobo.bits = 4 ", "bits", {"default": 4}),
        ("gobo.bits.value=4", "bits", {"default": 3, "value": 4}),
        ("gobo.role_layers.12=6", "role_layers", {12: 6}),
        ("gobo.solver=optimal", "solver", "optimal"),
        ('gobo.solver="optimal"', "solver", "optimal"),
        ("gobo.threshold=-3.5", "threshold", -3.5),
        ("gobo.threshold=-3", "threshold", -3.0),
        ("gobo.min_weights=1_000", "min_weights", 1000),
        ("gobo.compute=int8", "compute", "int8"),
    ],
)
def test_set(override, field, value):
    assert getattr(gobo(override), field) == value


def test_the_last_set_wins():
    assert gobo("gobo.bits=4", "gobo.bits=5").bits == {"default": 5}
    assert gobo("gobo.bits.value=4", "gobo.bits.value=5").bits == {"default": 3, "value": 5}
    assert gobo("gobo.bits.value=4", "gobo.bits=5").bits == {"default": 5}


@pytest.mark.parametrize(
    "text", ["gobo.bits", "bits=4", "gobo=4", "=4", "", "gobo.=4", "gobo.bits.=4"]
)
def test_set_of_another_form(text):
    assert (
        refusal("gobo", [text]) == f"'{text}' is not of the form PASS.ARG=VALUE, as in gobo.bits=4"
    )


def test_a_recipe_includes_others(tmp_path):
    (tmp_path / "own.toml").write_text(
        '[[passes]]\npass = "unfuse-gelu"\n[[passes]]\nrecipe = "next.toml"\n'
    )
    (tmp_path / "next.toml").write_text(
        '[[passes]]\nrecipe = "cleanup"\n[[passes]]\npass = "gobo"\nbits = 2\n'
    )
    recipe = load_recipe(tmp_path / "own.toml", ["gobo.embedding_bits=5"])
    first, *cleanup, last = recipe.passes
    assert first == UnfuseGelu()
    assert tuple(cleanup) == load_recipe("cleanup").passes
    assert last == Gobo(bits=2, embedding_bits=5)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ('recipe = "own.toml"', "includes itself"),
        ('recipe = "nxet.toml"', "nxet.toml': No such file"),
        ('recipe = "cleenup"', "unknown recipe 'cleenup': did you mean 'cleanup'?"),
        ('recipe = "gobo"\nbits = 4', 'or else recipe = "NAME" alone'),
    ],
)
def test_a_recipe_that_cannot_be_included(tmp_path, table, sentence):
    (tmp_path / "own.toml").write_text(f"[[passes]]\n{table}\n")
    assert sentence in refusal(tmp_path / "own.toml")


def test_alone_is_true_or_false(tmp_path):
    (tmp_path / "own.toml").write_text('alone = "yes"\n[[passes]]\npass = "gobo"\n')
    assert "alone is true or false, not 'yes'" in refusal(tmp_path / "own.toml")


def test_unknown_recipe():
    assert refusal("gob") == (
        "unknown recipe 'gob': did you mean 'gobo'?; "
        "a recipe of your own is a path that ends in .toml or .py"
    )
    assert (
        "unknown recipe 'zzz': there is cleanup, cleanup-inexact, float, gobo, gobo-int8"
        in refusal("zzz")
    )
    assert "unknown recipe ''" in refusal("")
    assert "unknown recipe '../recipes/gobo'" in refusal("../recipes/gobo")


def test_unknown_pass():
    assert (
        refusal("gobo", ["gobbo.bits=4"]) == "the recipe has no pass 'gobbo': did you mean 'gobo'?"
    )
    assert refusal("gobo", ["lift-constants.bits=4"]).startswith("the recipe has no pass 'lift-con")


def test_unknown_argument():
    assert refusal("gobo", ["gobo.bit=4"]) == (
        "pass gobo has no argument 'bit': did you mean 'bits'?"
    )
    assert refusal("gobo", ["remove-unused.bits=4"]) == (
        "pass remove-unused has no argument 'bits': it takes none"
    )
    assert "no argument 'name'" in refusal("gobo", ["gobo.name=4"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("gobo.bits=1", "gobo.bits: Input should be greater than or equal to 2 (got 1)"),
        ("gobo.bits=9", "gobo.bits: Input should be less than or equal to 8 (got 9)"),
        (
            "gobo.embedding_bits=0",
            "gobo.embedding_bits: Input should be greater than or equal to 2",
        ),
        ("gobo.bits=three", "gobo.bits: Input should be a valid integer"),
        ("gobo.bits=3.5", "gobo.bits: Input should be a valid integer"),
        ("gobo.bits.value=9", "gobo.bits.value: Input should be less than or equal to 8 (got 9)"),
        (
            "gobo.bits.vaule=4",
            "gobo.bits.vaule: Input should be 'default', 'query', 'key', 'value'",
        ),
        ("gobo.role_layers.x=4", "gobo.role_layers.x: Input should be a valid integer"),
        ("gobo.role_layers=3", "gobo.role_layers: Input should be a valid dictionary (got 3)"),
        ("gobo.embedding_bits.value=4", "gobo.embedding_bits: Input should be a valid integer"),
        ("gobo.bits=", "gobo.bits: Input should be a valid integer"),
        ("gobo.solver=best", "gobo.solver: Input should be 'paper' or 'optimal' (got 'best')"),
        ("gobo.outliers=x", "gobo.outliers: Input should be 'logpdf', 'z' or 'share' (got 'x')"),
        ("gobo.threshold=nan", "gobo: threshold nan must be a finite number"),
    ],
)
def test_values_out_of_range(override, message):
    assert refusal("gobo", [override]).startswith(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "smooth-quant.alpha=2",
            "smooth-quant.alpha: Input should be 'search' or less than or equal to 1 (got 2)",
        ),
        (
            "smooth-quant.alpha=half",
            "smooth-quant.alpha: Input should be 'search' or a valid number, unable to parse "
            "string as a number (got 'half')",
        ),
        (
            "smooth-quant.good_enough_db=nan",
            "smooth-quant.good_enough_db: Input should be a finite number (got nan)",
        ),
        (
            "insert-qdq.least_db=nan",
            "insert-qdq.least_db: Input should be a finite number (got nan)",
        ),
    ],
)
def test_values_out_of_range_for_integers(override, message):
    assert refusal("int8-kl", [override]) == message


def test_a_file_of_the_user(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    want = Recipe("mine", "mine", (Gobo(bits=5), RemoveUnused()))
    assert load_recipe(path) == load_recipe(str(path)) == want


def test_a_pass_of_the_user(tmp_path):
    (tmp_path / "mine.py").write_text(PASS)
    recipe = load_recipe(tmp_path / "mine.py", ["mine.share=0.25"])
    assert [(a_pass.name, a_pass.share) for a_pass in recipe.passes] == [("mine", 0.25)]
    (tmp_path / "both.toml").write_text('[[passes]]\npass = "mine.py"\nshare = 0.75')
    assert load_recipe(tmp_path / "both.toml").passes[0].share == 0.75


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RECIPE.replace('"gobo"', '"gobbo"'), "unknown pass 'gobbo': did you mean 'gobo'?"),
        (RECIPE.replace('"gobo"', '"no.py"'), "there is no pass file '{tmp}/no.py'"),
        (RECIPE.replace("bits", "bit"), "pass gobo has no argument 'bit': did you mean 'bits'?"),
        (RECIPE.replace("5", "50"), "gobo.bits: Input should be less than or equal to 8 (got 50)"),
        (RECIPE.replace('pass = "gobo"', ""), 'every [[passes]] table needs pass = "NAME"'),
        (RECIPE.replace('"gobo"', "3"), 'every [[passes]] table needs pass = "NAME"'),
        (RECIPE.replace("description", "title"), "[[passes]] tables, not 'title'"),
        ("passes = 3", "must hold a description and [[passes]] tables"),
        ("passes = [3]", "must hold a description and [[passes]] tables"),
        ("", "must hold a description and [[passes]] tables"),
        ("[[passes", "is not valid TOML"),
    ],
)
def test_a_file_with_a_mistake(tmp_path, text, message):
    (tmp_path / "mine.toml").write_text(text)
    assert message.replace("{tmp}", str(tmp_path)) in refusal(tmp_path / "mine.toml")


def test_a_file_that_is_missing_or_binary(tmp_path):
    assert refusal("no.toml") == "cannot read recipe 'no.toml': No such file or directory"
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    assert "is not valid TOML" in refusal(tmp_path / "b.toml")
    assert refusal("no.py") == "there is no pass file 'no.py'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "must define one Pass, not 0"),
        (PASS + PASS.replace("Mine", "Other"), "must define one Pass, not 2"),
        (PASS.replace("@dataclass(frozen=True)", ""), "must be a frozen dataclass with a name"),
        (PASS.replace("name: C", "nome: C"), "must be a frozen dataclass with a name"),
        (PASS.replace("frozen=True", ""), "does not run: TypeError"),
        ("1 / 0", "does not run: ZeroDivisionError"),
        ("def", "does not run: SyntaxError"),
    ],
)
def test_a_pass_file_with_a_mistake(tmp_path, text, message):
    (tmp_path / "mine.py").write_text(text)
    assert re.search(re.escape(message), refusal(tmp_path / "mine.py"))


def test_loading_a_pass_twice_gives_the_same_behaviour(tmp_path):
    (tmp_path / "mine.py").write_text(PASS)
    first, second = (load_recipe(Path(tmp_path / "mine.py")) for _ in range(2))
    assert (first.name, first.passes[0].share) == (second.name, second.passes[0].share)
