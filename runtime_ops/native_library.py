"""The library of native ops: where it is, and sessions that use it where onnxruntime takes it.

Environment variables: ``SARDONYX_NATIVE=0`` leaves the library out, ``SARDONYX_NATIVE=PATH`` takes
that file for it; ``SARDONYX_CPU=scalar|avx2|avx512`` narrows which instructions it may use.
"""

import ctypes
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from weakref import WeakKeyDictionary

import onnxruntime as ort

from sardonyx import runtime_ops
from sardonyx.runtime_ops.errors import InputError

NAME = "sardonyx_native.so"

_CPUS = ("", "scalar", "avx2", "avx512")

_log = logging.getLogger("sardonyx")

_libraries: WeakKeyDictionary[ort.SessionOptions, ctypes.CDLL] = WeakKeyDictionary()
"""The library that options hold, for good: onnxruntime refuses it a second time."""

_lock = Lock()
"""Of ``_libraries``: threads may share options."""


@dataclass(frozen=True)
class Native:
    """Whether a session uses the native ops. ``detail``: its kernels ("AVX2"), or why not."""

    active: bool
    detail: str


class Session(ort.InferenceSession):  # type: ignore[misc]
    """A session of onnxruntime that knows whether it uses the native ops."""

    def __init__(
        self, model: Path | str | bytes, options: ort.SessionOptions, providers: Sequence[str]
    ) -> None:
        """Fall back where the session cannot be created with the ops but can be without."""
        self.native = register(options)
        try:
            with nullcontext() if self.native.active else _hidden(options):
                super().__init__(model, options, providers=providers)
        except Exception as error:
            if not self.native.active:
                raise
            try:
                with _hidden(options):
                    super().__init__(model, options, providers=providers)
            except Exception:
                raise error from None
            self.native = _fallen_back(error)


def session(
    model: Path | str | bytes,
    options: ort.SessionOptions | None = None,
    providers: Sequence[str] | None = None,
) -> Session:
    """A session of a model, its file or its bytes, with the native ops where that is possible.

    ``options``: are changed (`register`). ``providers``: by default the CPU. Where the ops cannot
    be used, the session is that of stock onnxruntime: one log line and its ``native`` say why.
    Raises what onnxruntime raises, and InputError as `register`.
    """
    options = ort.SessionOptions() if options is None else options
    return Session(model, options, ["CPUExecutionProvider"] if providers is None else providers)


def register(options: ort.SessionOptions) -> Native:
    """Let sessions with these options use the native ops; says whether they can.

    They cannot where the package was installed without a C++ compiler, or where onnxruntime does
    not take the library: then one log line says so, and sessions run the ops' bodies. Where they
    can, onnxruntime refuses a model that the ops cannot run, such as one in float16: only `session`
    falls back on its bodies. Options keep the ops for good. Raises InputError where SARDONYX_CPU is
    none of its values.
    """
    cpu = os.environ.get("SARDONYX_CPU", "")
    if cpu not in _CPUS:
        raise InputError(f"SARDONYX_CPU is '{cpu}': it may be {', '.join(_CPUS[1:])}")
    if os.environ.get("SARDONYX_NATIVE") == "0":
        return Native(False, "SARDONYX_NATIVE=0 leaves them out")
    try:
        path = str(_path())
        library = ctypes.CDLL(path)
        kernels = library.sardonyx_kernels
        with _lock:
            if options not in _libraries:
                options.register_custom_ops_library(path)
                _libraries[options] = library
    except Exception as error:
        return _fallen_back(error)
    kernels.restype = ctypes.c_char_p
    return Native(True, kernels().decode())


def _path() -> Path:
    """The library, beside the package, which in an editable install lies in several folders."""
    if chosen := os.environ.get("SARDONYX_NATIVE"):
        return Path(chosen).absolute()  # a bare name would be looked for elsewhere
    for folder in runtime_ops.__path__:
        path = Path(folder) / "native" / NAME
        if path.is_file():
            return path
    raise FileNotFoundError("the package was installed without them, for want of a C++ compiler")


@contextmanager
def _hidden(options: ort.SessionOptions) -> Iterator[None]:
    """Within, sessions that this thread creates do not find the native ops of these options."""
    library = _libraries.get(options)
    if library is None:
        yield
        return
    library.sardonyx_hide(1)
    try:
        yield
    finally:
        library.sardonyx_hide(0)


def _fallen_back(error: Exception) -> Native:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    why = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", lines[0]).rstrip(".")
    _log.warning("the native GOBO ops, of float32 models, are not used: %s", why)
    return Native(False, why)
