"""Silence for libraries that talk while they work."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back warnings, logs, prints and progress bars, and keep Hugging Face off the network."""
    sink = io.StringIO()
    threshold, offline = logging.root.manager.disable, os.environ.get("HF_HUB_OFFLINE")
    logging.disable(logging.CRITICAL)
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(sink),
            contextlib.redirect_stderr(sink),
        ):
            yield
    finally:
        logging.disable(threshold)
        if offline is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = offline
