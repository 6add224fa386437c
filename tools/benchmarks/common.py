"""What the benchmarks share: models as files, costs of a process, tables, targets, JSON."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sardonyx import models

SEED = 0
console = Console(width=None if sys.stdout.isatty() else 140)


def _bert_base(folder: Path) -> Path:
    path = folder / "bert-base.onnx"
    path.write_bytes(models.seeded_bert(models.BERT_BASE, seed=SEED).SerializeToString())
    return path


def _minilm_l6(folder: Path) -> Path:
    path = folder / "minilm-l6.onnx"
    path.write_bytes(models.minilm_l6().SerializeToString())
    return path


def _mpnet(folder: Path) -> Path:
    path = folder / "mpnet.onnx"
    path.write_bytes(models.mpnet_base().SerializeToString())
    return path


@dataclass(frozen=True)
class Subject:
    """A model to measure: how its FP32 file is written, and its tokenizer (None: seeded)."""

    title: str
    write: Callable[[Path], Path]
    tokenizer: Callable[[], Any] | None = None


SUBJECTS = {
    "bert-base": Subject("BERT-base shape, seeded", _bert_base),
    "minilm-l6": Subject("all-MiniLM-L6-v2", _minilm_l6, models.minilm_tokenizer),
    "mpnet": Subject("all-mpnet-base-v2", _mpnet, models.mpnet_tokenizer),
    "minilm-l3": Subject(
        "paraphrase-MiniLM-L3-v2", lambda _: models.minilm_l3_onnx(), models.minilm_tokenizer
    ),
}
"""The models by the name that ``--models`` takes."""

REAL = tuple(name for name, subject in SUBJECTS.items() if subject.tokenizer)


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder that goes away."""
    with TemporaryDirectory(prefix="sardonyx-benchmark-") as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Cost:
    """What a process took. ``peak_rss``: bytes, the kernel's VmHWM."""

    seconds: float
    cpu_seconds: float
    peak_rss: int


def cost_of(command: Sequence[str | Path], **environment: str) -> Cost:
    """Run a command in a fresh process, from its start to its exit.

    Its VmHWM is polled: it only grows, and is read a last time within 5 ms of the exit. (ru_maxrss
    will not do: a child starts with what its parent held when it forked.)
    """
    with TemporaryFile() as said:
        start, peak = time.perf_counter(), 0
        child = subprocess.Popen(
            command, env=os.environ | environment, stdout=said, stderr=subprocess.STDOUT
        )
        status = Path(f"/proc/{child.pid}/status")
        while True:
            done, code, usage = os.wait4(child.pid, os.WNOHANG)
            if done:
                break
            peak = max(peak, _field(status.read_text(), "VmHWM"))
            time.sleep(0.005)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(code)
        if code:
            said.seek(0)
            text = said.read().decode()
            raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{text}")
    return Cost(seconds, usage.ru_utime + usage.ru_stime, peak)


def probe(name: str, *arguments: str | Path) -> Any:
    """The result of a function of probes.py, run in a process of its own."""
    script = Path(__file__).with_name("probes.py")
    command = [sys.executable, str(script), name, *map(str, arguments)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def _field(status: str, name: str) -> int:
    """Bytes of a line of /proc/PID/status; 0 once the process has ended."""
    line = next((line for line in status.splitlines() if line.startswith(name)), "")
    return int(line.split()[1]) * 1024 if line else 0


def interleaved(
    jobs: Mapping[str, Callable[[], Any]], runs: int, seed: int | None = None
) -> dict[str, list[Any]]:
    """Results of each job, run by run: the jobs take turns, so that a slow minute hits all. With a
    ``seed`` their order changes from run to run."""
    results: dict[str, list[Any]] = {name: [] for name in jobs}
    order = None if seed is None else np.random.default_rng(seed)
    for _ in range(runs):
        for name in jobs if order is None else order.permutation(list(jobs)):
            results[name].append(jobs[name]())
    return results


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """The median of each key."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


@dataclass(frozen=True)
class Target:
    """A figure and what it should be: ``sense`` is ``>=`` or ``<=``."""

    what: str
    value: float
    sense: str
    bound: float

    @property
    def met(self) -> bool:
        """Whether the figure is good enough."""
        return self.value >= self.bound if self.sense == ">=" else self.value <= self.bound


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns after the first are right-aligned unless they hold a long text."""
    table = Table(title=title, title_justify="left")
    for at, column in enumerate(columns):
        text = at == 0 or any(len(str(row[at])) > 24 for row in rows)
        table.add_column(column, justify="left" if text else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def finish(name: str, results: object, targets: Sequence[Target], output: Path | None) -> None:
    """Print the targets; write everything as JSON if asked for."""
    rows = [
        (t.what, f"{t.value:.4g}", f"{t.sense} {t.bound:.4g}", "met" if t.met else "MISSED")
        for t in targets
    ]
    if rows:
        show("Targets", ("figure", "is", "should be", ""), rows)
    machine = {"cpus": os.cpu_count()} | {p: version(p) for p in ("numpy", "onnx", "onnxruntime")}
    data = {
        "benchmark": name,
        "machine": machine,
        "results": results,
        "targets": [asdict(target) | {"met": target.met} for target in targets],
    }
    if output:
        output.write_text(json.dumps(data, indent=2) + "\n")


def run_parts(name: str, options: argparse.Namespace) -> None:
    """Run ``measure(options)`` of module NAME_PART for each of ``options.parts``, and finish."""
    results: dict[str, Any] = {}
    targets: list[Target] = []
    for part in options.parts:
        results[part], more = import_module(f"{name}_{part}").measure(options)
        targets += more
    finish(name, results, targets, options.json)


def arguments(description: str | None, names: Sequence[str] = ()) -> argparse.ArgumentParser:
    """A parser with ``--json`` and, where there is a choice, ``--models``."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all figures there")
    if names:
        parser.add_argument("--models", nargs="+", choices=names, default=list(names))
    return parser
