"""Thousands of damaged models under AddressSanitizer and UndefinedBehaviorSanitizer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "runtime_ops" / "native"
# -O1: at -O3 the checks make one file take minutes and a gigabyte to compile
SANITIZE = "-fsanitize=address,undefined;-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g;-O1"

pytestmark = pytest.mark.heavy


def checked(command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The library, built with both sanitizers."""
    build = tmp_path_factory.mktemp("build")
    checked(["cmake", "-S", SOURCES, "-B", build, f"-DSARDONYX_SANITIZE={SANITIZE}"])
    checked(["cmake", "--build", build])
    return build / "sardonyx_native.so"


@pytest.fixture(scope="module")
def sanitized():
    """Run Python with the sanitizers loaded before all else."""
    runtimes = ("libasan.so", "libstdc++.so")
    paths = [checked(["gcc", f"-print-file-name={name}"]).strip() for name in runtimes]
    preload = {"LD_PRELOAD": " ".join(paths), "ASAN_OPTIONS": "detect_leaks=0"}

    def run(*arguments, **variables):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | preload | variables,
        )

    return run


def test_the_sanitizer_is_awake(sanitized):
    code = "import ctypes; b = ctypes.create_string_buffer(9000); ctypes.memset(b, 0, 9001)"
    ran = sanitized("-c", code)
    assert ran.returncode != 0
    assert "heap-buffer-overflow" in ran.stderr


@pytest.mark.parametrize("seed", range(2))
def test_no_damage_crashes(library, sanitized, seed):
    ran = sanitized(HERE / "fuzz_child.py", library, seed, 2000)
    assert ran.returncode == 0, ran.stderr[-9000:]
    outcomes = json.loads(ran.stdout)
    assert outcomes["ran"] > 500
    assert outcomes["refused when made"] > 500
    assert outcomes["refused when run"] > 50


@pytest.mark.parametrize("cpu", ["scalar", "avx2", "avx512"])
def test_sound_models_of_every_op(library, sanitized, cpu, cases):
    ran = sanitized(HERE / "child.py", library, cases, SARDONYX_CPU=cpu)
    assert ran.returncode == 0, ran.stderr[-9000:]
