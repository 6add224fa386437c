"""The same library file on every onnxruntime from 1.17 on, each in an environment of its own."""

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import onnx
import pytest

from sardonyx import runtime_ops

CHILD = Path(__file__).parent / "child.py"
VERSIONS = ["1.17.*", "1.20.*", "1.23.*", "1.26.*", "newest"]


@pytest.fixture(scope="module")
def library():
    places = [Path(folder) / "native" / "sardonyx_native.so" for folder in runtime_ops.__path__]
    return next(path for path in places if path.is_file())


@pytest.fixture(scope="module")
def cases(tmp_path_factory, random_matrix, op_model):
    """Models of every op and bit width with what they must give."""
    folder = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(0)
    x = rng.integers(-64, 65, (2, 3, 70)).astype(np.float32)
    ids = {dtype: rng.integers(-37, 37, (3, 11)).astype(dtype) for dtype in (np.int32, np.int64)}
    bias = np.arange(37, dtype=np.float32)
    for bits in range(2, 9):
        w = random_matrix(bits, 70, 37, groups=3, gap_type=np.uint16 if bits % 2 else np.int32)
        exact = x @ w.weights
        biased = w.arrays | {"bias": bias}
        # int8 loses: a step of A is 128 / 255, one of the centroids 64 / 63, for 70 products
        loss = 70 * 64 * (0.5 * 64 / 63 + 0.5 * 128 / 255)
        todo = {
            "matmul": ("GoboMatMul", w.arrays, x, exact, {}, 0),
            "linear": ("GoboLinear", biased, x, exact + bias, {}, 0),
            "int8": ("GoboMatMul", w.arrays, x, exact, {"compute": "int8"}, loss),
            "gather32": ("GoboGather", w.arrays, ids[np.int32], w.weights.T[ids[np.int32]], {}, 0),
            "gather64": ("GoboGather", w.arrays, ids[np.int64], w.weights.T[ids[np.int64]], {}, 0),
        }
        for name, (kind, arrays, fed, y, attributes, tolerance) in todo.items():
            model = op_model(f"{kind}{bits}", arrays, fed.dtype, shape=[70, 37], **attributes)
            onnx.save(model, folder / f"{name}{bits}.onnx")
            np.savez(folder / f"{name}{bits}.npz", x=fed, y=y, tolerance=tolerance)
    return folder


def environment(folder, *packages):
    """Python of a new environment with these packages."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *packages]
    subprocess.run(command, check=True)
    return python


@pytest.mark.heavy
@pytest.mark.parametrize("version", VERSIONS)
def test_one_file_for_all(version, library, cases, tmp_path):
    name = "onnxruntime" if version == "newest" else f"onnxruntime=={version}"
    old = ["numpy<2"] if version == "1.17.*" else []
    python = environment(tmp_path / "venv", name, *old)
    command = [python, CHILD, library, cases]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found, count = ran.stdout.split()
    assert version == "newest" or found.startswith(version.removesuffix("*"))
    assert int(count) == 35


@pytest.mark.heavy
def test_before_1_17_it_declines(library, cases, tmp_path):
    python = environment(tmp_path / "venv", "onnxruntime==1.16.*", "numpy<2")
    ran = subprocess.run(
        [python, CHILD, library, cases], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "Sardonyx's native ops need onnxruntime 1.17 or newer, this is 1.16" in ran.stderr


@pytest.mark.parametrize("cpu", ["scalar", "avx2", "avx512"])
def test_every_instruction_set(cpu, library, cases, monkeypatch):
    """What the processor does not have is left out: the result is the same."""
    monkeypatch.setenv("SARDONYX_CPU", cpu)
    command = [sys.executable, CHILD, library, cases]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
