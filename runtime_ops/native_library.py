"""The library of native ops: where it is, and sessions that use it where onnxruntime takes it.

Environment variables: ``SARDONYX_NATIVE=0`` leaves the library out, ``SARDONYX_NATIVE=PATH`` takes
that file for it; ``SARDONYX_CPU=scalar|avx2|avx512`` narrows which instructions it may use.
"""

import ctypes
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakSet

import onnxruntime as ort

from sardonyx import runtime_ops
from sardonyx.runtime_ops.errors import InputError

NAME = "sardonyx_native.so"

_CPUS = ("", "scalar", "avx2", "avx512")

_log = logging.getLogger("sardonyx")

_registered: WeakSet[ort.SessionOptions] = WeakSet()
"""Options that hold the library: onnxruntime refuses it a second time."""


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
            super().__init__(model, options, providers=providers)
        except Exception as error:
            if not self.native.active:
                raise
            try:
                with _hidden():
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
    Raises what onnxruntime raises.
    """
    options = ort.SessionOptions() if options is None else options
    return Session(model, options, ["CPUExecutionProvider"] if providers is None else providers)


def register(options: ort.SessionOptions) -> Native:
    """Let sessions with these options use the native ops; says whether they can.

    They cannot where the package was installed without a C++ compiler, or where onnxruntime does
    not take the library: then one log line says so, and sessions run the ops' bodies. Raises
    InputError where SARDONYX_CPU is none of its values.
    """
    cpu = os.environ.get("SARDONYX_CPU", "")
    if cpu not in _CPUS:
        raise InputError(f"SARDONYX_CPU is '{cpu}': it may be {', '.join(_CPUS[1:])}")
    if os.environ.get("SARDONYX_NATIVE") == "0":
        return Native(False, "SARDONYX_NATIVE=0 leaves them out")
    try:
        path = _path()
        kernels = ctypes.CDLL(str(path)).sardonyx_kernels
        if options not in _registered:
            options.register_custom_ops_library(str(path))
            _registered.add(options)
    except Exception as error:
        return _fallen_back(error)
    kernels.restype = ctypes.c_char_p
    return Native(True, kernels().decode())


def _path() -> Path:
    """The library, beside the package, which in an editable install lies in several folders."""
    if chosen := os.environ.get("SARDONYX_NATIVE"):
        return Path(chosen)
    for folder in runtime_ops.__path__:
        path = Path(folder) / "native" / NAME
        if path.is_file():
            return path
    raise FileNotFoundError("the package was installed without them, for want of a C++ compiler")


@contextmanager
def _hidden() -> Iterator[None]:
    """Within, sessions that this thread creates do not find the native ops."""
    hide = ctypes.CDLL(str(_path())).sardonyx_hide
    hide(1)
    try:
        yield
    finally:
        hide(0)


def _fallen_back(error: Exception) -> Native:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    why = lines[0].rstrip(".")
    _log.warning("the native GOBO ops, of float32 models, are not used: %s", why)
    return Native(False, why)
