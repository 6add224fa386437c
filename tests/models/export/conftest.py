"""Tiny model directories and what PyTorch makes of them, each made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from sardonyx.models.export.examples import Example, torch_examples
from sardonyx.models.tiny import tiny_directory


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of an architecture."""
    pytest.importorskip("transformers")
    return cache(lambda name: tiny_directory(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session")
def examples(tiny: Callable[[str], Path]) -> Callable[[str], dict[str, list[Example]]]:
    """The examples of an architecture."""
    return cache(lambda name: torch_examples(tiny(name)))
