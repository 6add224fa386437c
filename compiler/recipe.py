"""A recipe is a list of passes with their arguments: a preset by name, or a user's own file."""

import dataclasses
import difflib
import importlib.util
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sardonyx.passes import PASSES
from sardonyx.passes.base import Pass
from sardonyx.runtime_ops.errors import InputError

Entry = tuple[type[Pass], dict[str, Any]]
"""A pass and its arguments, not checked yet."""

PRESETS = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """Passes in their order, all arguments checked. ``alone``: the portable target adds none."""

    name: str
    description: str
    passes: tuple[Pass, ...]
    alone: bool = False


def preset_names() -> list[str]:
    """Names of the recipes that come with Sardonyx."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The preset called ``name``, or the recipe in a .toml file, or the pass in a .py file.

    ``overrides``: as `overridden` takes them. Raises InputError that names the recipe, pass or
    argument, and the nearest one that exists.
    """
    path = Path(name)
    entries: list[Entry]
    if path.suffix == ".py":
        found = _pass_from_file(path)
        recipe, entries = path.stem, [(found, {})]
        description, alone = f"the pass {found.name} of {path}", False
    else:
        recipe, table = path.stem, _read(str(name))
        entries = _entries(table, (str(name),))
        description, alone = str(table.get("description", "")), table.get("alone", False)
    _override(entries, overrides, "the recipe")
    passes = tuple(_build(cls, arguments) for cls, arguments in entries)
    return Recipe(recipe, description, passes, alone)


def overridden(passes: Sequence[Pass], overrides: Sequence[str], owner: str) -> tuple[Pass, ...]:
    """``passes`` with other arguments.

    ``overrides``: ``PASS.ARG=VALUE``, or ``PASS.ARG.KEY=VALUE`` for one entry of a table, the value
    as in TOML, or a bare word. ``owner``: of the passes, for the InputError that one is unknown.
    """
    held = [{f.name: getattr(each, f.name) for f in dataclasses.fields(each)} for each in passes]
    entries = [(type(each), dict(values)) for each, values in zip(passes, held, strict=True)]
    _override(entries, overrides, owner)
    pairs = zip(passes, held, entries, strict=True)
    return tuple(each if new == old else _build(cls, new) for each, old, (cls, new) in pairs)


def _entries(table: Mapping[str, Any], within: tuple[str, ...]) -> list[Entry]:
    """The passes of a recipe, also of those it includes. ``within``: its name, after those of
    the recipes that include it."""
    entries = []
    for item in table["passes"]:
        if item.keys() == {"recipe"} and isinstance(item["recipe"], str):
            name = item["recipe"]
            if name.endswith(".toml"):
                name = str(Path(within[-1]).parent / name)
            if name in within:
                raise InputError(f"recipe '{name}' includes itself: {' -> '.join((*within, name))}")
            entries += _entries(_read(name), (*within, name))
        else:
            entries.append(_entry(item, Path(within[-1])))
    return entries


def _read(name: str) -> dict[str, Any]:
    path = Path(name)
    if path.suffix != ".toml":
        path = PRESETS / f"{name}.toml"
        if name not in preset_names():
            raise InputError(
                f"unknown recipe '{name}'{_nearest(name, preset_names())}; "
                "a recipe of your own is a path that ends in .toml or .py"
            )
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"cannot read recipe '{path}': {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"recipe '{path}' is not valid TOML: {error}") from error
    unknown = table.keys() - {"alone", "description", "passes"}
    passes = table.get("passes")
    if unknown or not isinstance(passes, list) or not all(isinstance(p, dict) for p in passes):
        raise InputError(
            f"recipe '{path}' must hold a description and [[passes]] tables"
            + (f", not '{min(unknown)}'" if unknown else "")
        )
    if not isinstance(table.get("alone", False), bool):
        raise InputError(f"recipe '{path}': alone is true or false, not {table['alone']!r}")
    return table


def _entry(item: Mapping[str, Any], recipe: Path) -> Entry:
    arguments = dict(item)
    name = arguments.pop("pass", None)
    if not isinstance(name, str):
        raise InputError(
            f"recipe '{recipe}': every [[passes]] table needs pass = \"NAME\", "
            'or else recipe = "NAME" alone'
        )
    if name.endswith(".py"):
        return _pass_from_file(recipe.parent / name), arguments
    if name not in PASSES:
        raise InputError(f"recipe '{recipe}': unknown pass '{name}'{_nearest(name, PASSES)}")
    return PASSES[name], arguments


def _pass_from_file(path: Path) -> type[Pass]:
    """The one Pass that a Python file defines."""
    if not path.is_file():
        raise InputError(f"there is no pass file '{path}'")
    spec = importlib.util.spec_from_file_location(f"sardonyx_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"pass file '{path}' does not run: {error!r}") from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Pass) and value.__module__ == spec.name
    ]
    if len(found) != 1:
        raise InputError(f"pass file '{path}' must define one Pass, not {len(found)}")
    if "__dataclass_fields__" not in vars(found[0]) or not hasattr(found[0], "name"):
        raise InputError(f"the pass in '{path}' must be a frozen dataclass with a name")
    return found[0]


def _override(entries: Sequence[Entry], overrides: Sequence[str], owner: str) -> None:
    for text in overrides:
        target, equals, value = text.partition("=")
        name, dot, place = target.strip().partition(".")
        argument, _, key = place.partition(".")
        if not equals or not dot or not argument or place.endswith("."):
            raise InputError(f"'{text}' is not of the form PASS.ARG=VALUE, as in gobo.bits=4")
        named = [arguments for cls, arguments in entries if cls.name == name]
        if not named:
            names = [cls.name for cls, _ in entries]
            raise InputError(f"{owner} has no pass '{name}'{_nearest(name, names)}")
        for arguments in named:
            given = _value(value.strip())
            arguments[argument] = _with(arguments.get(argument), key, given) if key else given


def _with(table: Any, key: str, value: Any) -> dict[str, Any]:
    """A table argument with one entry changed; a single value was that of all entries."""
    if table is None:
        table = {}
    return (dict(table) if isinstance(table, Mapping) else {"default": table}) | {key: value}


def _value(text: str) -> Any:
    """A TOML value; what is none is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _build(cls: type[Pass], arguments: dict[str, Any]) -> Pass:
    known = [f.name for f in dataclasses.fields(cls)]
    for argument in arguments:
        if argument not in known:
            raise InputError(
                f"pass {cls.name} has no argument '{argument}'{_nearest(argument, known)}"
            )
    try:
        return TypeAdapter(cls).validate_python(arguments)
    except ValidationError as error:
        raise InputError(f"{cls.name}{_mistake(error, arguments)}") from error


def _mistake(error: ValidationError, arguments: Mapping[str, Any]) -> str:
    """The first mistake in some arguments: which, what it should be, what it is."""
    first, *more = error.errors()
    if not first["loc"]:
        return f": {first['msg'].removeprefix('Value error, ')}"
    loc, messages = first["loc"], [first["msg"].removeprefix("Value error, ")]
    if len(loc) > 1 and first["input"] is arguments.get(str(loc[0])):  # fits no type of a union
        others = [e["msg"] for e in more if e["loc"][0] == loc[0]]
        messages += [message.removeprefix("Input should be ") for message in others]
        loc = loc[:1]
    place = "".join(f".{part}" for part in loc).removesuffix(".default").removesuffix(".[key]")
    return f"{place}: {' or '.join(messages)} (got {first['input']!r})"


def _nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    if near:
        return f": did you mean '{near[0]}'?"
    return f": there is {', '.join(sorted(known))}" if known else ": it takes none"
