"""The shape of the tree: who imports whom, what lies where, how large a file may be."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sardonyx.passes import PASSES, Pass

ROOT = Path(__file__).parents[1]

TOP_LEVEL = {
    "compiler",
    "passes",
    "runtime_ops",
    "models",
    "tests",
    "tools",
    "pyproject.toml",
    "README.md",
    "LICENSE",
}

MAY_IMPORT = {
    "models": {"models"},
    "runtime_ops": {"runtime_ops"},
    "passes": {"passes", "runtime_ops"},
    "compiler": {"compiler", "passes", "runtime_ops", "models"},
    "tools": {"tools", "compiler", "passes", "runtime_ops", "models"},
}
PARTS = ("compiler", "passes", "runtime_ops", "models")

LONGEST_FILE = 400

HOSTS = [
    ".".join(host)
    for host in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("crates", "io"),
        ("anaconda", "org"),
        ("127", "0", "0", "1"),
    )
]
MACHINE_PATH = re.compile(r"(?<![\w.*<>{}/])/(?:home|root|tmp|work|opt|mnt|Users|var/tmp)/\w")

ROUNDING = {
    "packbits",
    "unpackbits",
    "round",
    "around",
    "rint",
    "floor",
    "ceil",
    "trunc",
    "fix",
    "left_shift",
    "right_shift",
}


def tracked():
    """Files of the project: those git knows or would add, or all that are not hidden."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        names = ran.stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if "__pycache__" not in p.parts]
    paths = [Path(name) for name in names]
    return [path for path in paths if (ROOT / path).is_file()]


def sources(*folders):
    """Python files under some top-level folders."""
    return [path for path in tracked() if path.suffix == ".py" and path.parts[0] in folders]


def imported(path):
    """Absolute names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_top_level():
    names = {path.parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder):
    for path in sources(folder):
        for module in imported(path):
            if module.startswith("sardonyx."):
                assert module.split(".")[1] in MAY_IMPORT[folder], f"{path} imports {module}"


def test_nothing_is_imported_bare():
    for path in sources(*MAY_IMPORT, "tests"):
        for module in imported(path):
            assert module.split(".")[0] not in MAY_IMPORT, f"{path} imports {module}"


def everything():
    """Names of all modules that are installed under the import name."""
    for part in PARTS:
        package = importlib.import_module(f"sardonyx.{part}")
        yield package.__name__
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            yield module.name


def fresh(code):
    """What a new interpreter prints."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_every_module_imports_and_none_twice():
    names = list(everything())
    files = {path.with_suffix("").as_posix().replace("/", ".") for path in sources(*PARTS)}
    modules = {name.removeprefix("sardonyx.") for name in names}
    assert {name.removesuffix(".__init__") for name in files} == modules
    lines = "\n".join(f"import {name}" for name in names)
    loaded = fresh(f"import sys\n{lines}\nprint(*sys.modules)")
    assert {name.split(".")[0] for name in loaded}.isdisjoint(MAY_IMPORT)
    assert set(names) <= set(loaded)


@pytest.mark.parametrize("module", ["sardonyx.compiler", "sardonyx.compiler.cli.app"])
def test_the_compiler_needs_nothing_heavy(module):
    loaded = {name.split(".")[0] for name in fresh(f"import sys, {module}\nprint(*sys.modules)")}
    assert loaded.isdisjoint({"torch", "transformers", "safetensors", "scipy", "sklearn", "pandas"})


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_is_a_frozen_dataclass_with_a_name_and_a_formula(name):
    cls = PASSES[name]
    assert cls.name == name
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    assert "__dataclass_fields__" in vars(cls)
    assert cls.__dataclass_params__.frozen
    assert "->" in cls.__doc__
    for field in dataclasses.fields(cls):
        assert {field.default, field.default_factory} != {dataclasses.MISSING}


def test_every_pass_is_listed_and_has_a_file_of_its_own():
    found = {}
    for name in everything():
        for value in vars(importlib.import_module(name)).values():
            if inspect.isclass(value) and issubclass(value, Pass) and value is not Pass:
                found[value] = inspect.getsourcefile(value)
    assert set(found) == set(PASSES.values())
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("path", sources(*MAY_IMPORT, "tests"), ids=str)
def test_length_of_a_file(path):
    assert len((ROOT / path).read_text().splitlines()) <= LONGEST_FILE


def test_no_registry_host_and_no_path_of_a_machine():
    for path in tracked():
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            culprits = [host for host in HOSTS if host in line] + MACHINE_PATH.findall(line)
            assert not culprits, f"{path}:{number}: {culprits}"


def test_only_runtime_ops_rounds_and_packs():
    for path in sources("passes", "compiler"):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            called = getattr(node, "func", None)
            name = getattr(called, "attr", None) or getattr(called, "id", None)
            assert name not in ROUNDING, f"{path}:{getattr(node, 'lineno', 0)} calls {name}"


def test_nothing_is_printed_outside_the_command_line():
    for path in sources("passes", "compiler", "runtime_ops", "models"):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{path}:{node.lineno}"
