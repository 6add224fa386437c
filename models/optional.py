"""Libraries of the extras, imported only where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

_EXTRAS = {"torch": "export", "transformers": "export", "onnxscript": "export"}
_EXTRAS |= {"optimum": "export-optimum", "matplotlib": "plots"}
"""The extra of a library that is not of `models`."""


def optional(name: str) -> ModuleType:
    """Import a library of an extra.

    Raises:
        ImportError: it is not installed; the message says what to run.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        library = name.split(".", maxsplit=1)[0]
        extra = _EXTRAS.get(library, "models")
        raise ImportError(f"{library} is needed: run `pip install 'sardonyx[{extra}]'`") from error
