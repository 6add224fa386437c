"""Chips by name or file, with every mistake in a file said in one sentence."""

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from sardonyx.runtime_ops.accelerator.chip import Chip, Technology
from sardonyx.runtime_ops.errors import InputError

CHIPS = Path(__file__).parent / "chips"
GOBO_MEMORY = "+gobo-memory"

Checked = TypeVar("Checked", bound=BaseModel)


def chip_names() -> list[str]:
    """Names of the chips that come with Sardonyx."""
    return _names(CHIPS)


def load_chip(name: str | Path) -> Chip:
    """The chip called ``name``, or that of a .toml file; `GOBO_MEMORY` behind it adds that.

    A file names its technology as a chip is named, from its own folder. Raises InputError that
    names the file and the field.
    """
    plain = _plain(name)
    path = _path(plain, CHIPS, "chip")
    table = _read(path, "chip")
    if isinstance(table.get("technology"), str):
        try:
            table["technology"] = _technology(table["technology"], path.parent)
        except InputError as error:
            raise InputError(f"chip '{plain}', field technology: {error}") from error
    chip = _checked(Chip, {"name": path.stem} | table, f"chip '{plain}'")
    return chip if plain == str(name) else _with_gobo_memory(chip)


def chip_files(name: str | Path) -> list[Path]:
    """The files that `load_chip` reads: that of the chip, and that of the technology it names."""
    path = _path(_plain(name), CHIPS, "chip")
    technology = _read(path, "chip").get("technology")
    if not isinstance(technology, str):
        return [path]
    return [path, _technology_path(technology, path.parent)]


def _plain(name: str | Path) -> str:
    return str(name).removesuffix(GOBO_MEMORY)


def _technology(name: str, folder: Path) -> Technology:
    table = _read(_technology_path(name, folder), "technology")
    return _checked(Technology, table, f"technology '{name}'")


def _technology_path(name: str, folder: Path) -> Path:
    """The file of a technology by name, or by a path from ``folder``."""
    return folder / _path(name, CHIPS / "technology", "technology")  # a path of ours is absolute


def changed(chip: Chip, field: str, value: float) -> Chip:
    """A chip with another value of one constant, ``field`` as "dram.bandwidth".

    Raises InputError that names the field, where there is none or the value does not fit it.
    """
    table = chip.model_dump()
    *outer, last = field.split(".")
    inner: Any = table
    for part in (*outer, last):
        inner = inner.get(part) if isinstance(inner, dict) else None
    if not (isinstance(inner, dict) and "value" in inner):
        known = [".".join(path) for path in constants(table)]
        raise InputError(f"chip '{chip.name}' has no field '{field}': {_nearest(field, known)}")
    source = f"chosen: changed from {inner['value']:g}"
    whole = isinstance(inner["value"], int) and float(value).is_integer()
    inner |= {"value": int(value) if whole else value, "source": source}
    return _checked(Chip, table, f"chip '{chip.name}'")


def _with_gobo_memory(chip: Chip) -> Chip:
    if chip.decoder is None:
        raise InputError(f"chip '{chip.name}' cannot take {GOBO_MEMORY}: it has no decoder")
    return chip.model_copy(update={"name": chip.name + GOBO_MEMORY, "gobo_memory": True})


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.toml"))


def _path(name: str, folder: Path, kind: str) -> Path:
    """The file of a chip or a technology."""
    if name.endswith(".toml"):
        return Path(name)
    if name not in _names(folder):
        own = f", or a {kind} of your own, by a path that ends in .toml"
        raise InputError(f"unknown {kind} '{name}': {_nearest(name, _names(folder), own)}")
    return folder / f"{name}.toml"


def _read(path: Path, kind: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {kind} '{path}': {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{kind} '{path}' is not valid TOML: {error}") from error


def _checked(model: type[Checked], table: dict[str, Any], name: str) -> Checked:
    try:
        return model.model_validate(table)
    except ValidationError as error:
        raise InputError(f"{name}: {_mistake(error)}") from error


_TABLE = "{field} must be a table (got {input!r})"
_MISTAKES = {
    "extra_forbidden": "there is no field {field}",
    "missing": "{field} is missing",
    "model_attributes_type": _TABLE,
    "model_type": _TABLE,
    "string_too_short": '{field} is empty: give a source, as a publication or "chosen: why"',
    "union_tag_invalid": "{field}.kind is '{tag}', not one of {expected_tags}",
    "union_tag_not_found": "{field}.kind is missing",
    "value_error": "{field}: {error}",
}
"""Sentences on pydantic's errors, by type."""


def _mistake(error: ValidationError) -> str:
    """A mistake of a file: the field and what is wrong with it. A field that there is not comes
    first, as one that is missing may be that, misspelt."""
    errors = error.errors()
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    # pydantic puts the kind of array behind "array"; the file does not
    place = [p for i, p in enumerate(first["loc"]) if not (i == 1 and first["loc"][0] == "array")]
    other = f"{{field}}: {first['msg'].replace('Input should', 'should')} (got {{input!r}})"
    return _MISTAKES.get(first["type"], other).format(
        field=".".join(map(str, place)), input=first["input"], **first.get("ctx", {})
    )


def constants(table: dict[str, Any]) -> list[tuple[str, ...]]:
    """The paths of all constants in a chip that was dumped."""
    found: list[tuple[str, ...]] = []
    for key, value in table.items():
        if isinstance(value, dict):
            found += [(key,)] if "value" in value else [(key, *p) for p in constants(value)]
    return found


def _nearest(name: str, known: list[str], other: str = "") -> str:
    """What else there is; ``other``: what is not among the known."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{near[0]}'{other}?" if near else f"there is {', '.join(known)}{other}"
