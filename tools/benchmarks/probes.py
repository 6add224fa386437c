"""What the benchmarks run in processes of their own: `python probes.py FUNCTION ARGUMENT...`.

Each function prints its result as JSON. Nothing is imported before a function asks for it, so that
neither memory nor time is charged to the wrong account.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def memory() -> dict[str, int]:
    """Bytes this process holds (VmRSS) and the most it ever held (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM")}


def create_session(path: str, native: str = "", feed: str = "") -> dict[str, float]:
    """Create an onnxruntime session with default options: seconds, and bytes gained.

    ``native``: not empty to use the native library. ``feed``: a .npz; ``growth_after_run``: bytes
    gained once the model has run on it, ``peak_after_run``: the most until then.
    """
    import numpy as np  # noqa: PLC0415
    import onnxruntime as ort  # noqa: PLC0415

    create: Callable[[str], Any] = partial(ort.InferenceSession, providers=["CPUExecutionProvider"])
    if native:
        from sardonyx.runtime_ops import session as create  # noqa: PLC0415
    inputs = dict(np.load(feed)) if feed else {}
    before = memory()
    start = time.perf_counter()
    session = create(path)
    seconds = time.perf_counter() - start
    after = memory()
    assert session.get_inputs()
    assert not native or session.native.active, session.native.detail
    growth = {
        "seconds": seconds,
        "peak_growth": after["VmHWM"] - before["VmHWM"],
        "growth": after["VmRSS"] - before["VmRSS"],
    }
    if feed:
        session.run(None, {info.name: inputs[info.name] for info in session.get_inputs()})
        after = memory()
        growth["growth_after_run"] = after["VmRSS"] - before["VmRSS"]
        growth["peak_after_run"] = after["VmHWM"] - before["VmHWM"]
    return growth


def compile_stages(path: str, output: str) -> dict[str, dict[str, float]]:
    """Compile by recipe gobo and save, with a clock around every stage.

    ``stages``: seconds of each, nothing counted twice. ``encoding``: seconds inside the gobo pass,
    added up over its threads.
    """
    stages, encoding = Clocks(), Clocks()
    start = time.perf_counter()
    import sardonyx.compiler.cli.app  # noqa: F401, PLC0415
    from sardonyx.compiler import driver, pipeline  # noqa: PLC0415
    from sardonyx.passes.gobo import encode  # noqa: PLC0415
    from sardonyx.runtime_ops import gobo  # noqa: PLC0415

    stages.add("import", time.perf_counter() - start)
    for label, owner, name in (
        ("load", pipeline, "load"),
        ("verify: decode every tensor", driver, "check_encoded"),
        ("verify: run changed regions", driver, "check_regions"),
        ("emit", pipeline, "emit"),
        ("check the result", pipeline, "check_valid"),
        ("summarize", pipeline, "summarize"),
        ("write", pipeline, "write_model"),
    ):
        stages.wrap(owner, name, label)
    stages.wrap(driver.Driver, "_rewrite", lambda _, a_pass: f"pass {a_pass.name}")
    for label, name in (("outlier rule", "band"), ("fit centroids", "fit"), ("pack", "pack")):
        encoding.wrap(gobo, name, label)
    encoding.wrap(encode, "encode", "all of encode")
    pipeline.compile(Path(path), "gobo").save(output)
    total, inside = time.perf_counter() - start, sum(encoding.seconds.values())
    stages.add("everything else", total - sum(stages.seconds.values()))
    whole = encoding.seconds.pop("all of encode")
    encoding.add("read, assign, measure the loss", 2 * whole - inside)
    return {"stages": stages.seconds, "encoding": encoding.seconds}


class Clocks:
    """Seconds by label; safe to use from threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, label: str, seconds: float) -> None:
        """Charge ``seconds`` to ``label``."""
        with self._lock:
            self.seconds[label] = self.seconds.get(label, 0.0) + seconds

    def wrap(self, owner: Any, name: str, label: str | Callable[..., str]) -> None:
        """Time every call of ``owner.name``; ``label`` may depend on its arguments."""
        inner = getattr(owner, name)

        def timed(*args: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*args, **named)
            finally:
                text = label if isinstance(label, str) else label(*args, **named)
                self.add(text, time.perf_counter() - start)

        setattr(owner, name, timed)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
