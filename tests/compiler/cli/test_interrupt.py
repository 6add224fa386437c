"""Ctrl-C: one sentence, exit code 1, nothing written, at once."""

import signal
import time

import onnx
import pytest

from sardonyx.compiler import cli as entry
from sardonyx.models import EncoderConfig, seeded_bert

SLOW = """
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from sardonyx.passes.gobo.encode import Gobo

@dataclass(frozen=True)
class Slow(Gobo):
    '''gobo -> gobo that says when it is inside, and takes long.'''
    name: ClassVar[str] = "slow"
    def _encode(self, weight, bits):
        coded = super()._encode(weight, bits)
        Path("inside").touch()
        time.sleep(0.5)
        return coded
"""


@pytest.mark.parametrize("more", [[], ["--dump", "d"], ["--verify", "off"]])
def test_in_mid_compile(program, folder, more):
    onnx.save(seeded_bert(EncoderConfig(1000, 64, 6, 4, 128, 64), 0), folder / "m.onnx")
    (folder / "slow.py").write_text(SLOW)
    command = ["compile", "m.onnx", "--recipe", "slow.py", "-o", "out.onnx", "--report", "r.json"]
    started = program(*command, *more)
    while not (folder / "inside").exists():
        assert started.poll() is None, started.communicate()
        time.sleep(0.01)
    sent = time.monotonic()
    started.send_signal(signal.SIGINT)
    output, errors = started.communicate(timeout=60)
    assert (started.returncode, output) == (1, "")
    assert errors == "Error: interrupted: nothing was written\n"
    assert time.monotonic() - sent < 5  # 38 weights on 2 cores would take 9 s more
    left = {path.name for path in folder.iterdir()} - {"__pycache__", "d"}
    assert left == {"m.onnx", "slow.py", "inside", "out.onnx"}
    assert (folder / "out.onnx").read_text() == "an older result"


def test_before_a_command_begins(monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("sardonyx.compiler.cli.app.app", interrupted)
    with pytest.raises(SystemExit, match="Interrupted"):
        entry.main()
