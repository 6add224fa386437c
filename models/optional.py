"""Libraries of the extras, imported only where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType


def optional(name: str, extra: str = "models") -> ModuleType:
    """Import a library of an extra.

    Raises:
        ImportError: it is not installed; the message says what to run.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} is needed: run `pip install 'sardonyx[{extra}]'`") from error
