"""What is built holds everything, installs with what it declares and imports nothing heavy."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAPPED = ("converters", "quantization", "device_tests")
CORE_DEPENDENCIES = {"click", "rich", "numpy", "flatbuffers"}
WORKER_DEPENDENCIES = {"numpy"}
NEWER_THAN_310 = {"tomllib"}
NOT_SOURCE = (
    ".git", ".venv", "out", "build", "dist", "__pycache__", "*.egg-info", ".*_cache",
)  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package: its dotted name once installed, and its file."""
    for folder in ("edgepipe", *MAPPED):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT).with_suffix("")
            parts = [part for part in relative.parts if part != "__init__"]
            yield ".".join(parts if folder == "edgepipe" else ["edgepipe", *parts]), path


def installed_path(path: Path) -> str:
    relative = path.relative_to(ROOT).as_posix()
    return relative if relative.startswith("edgepipe/") else f"edgepipe/{relative}"


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(kind: str, source: Path, into: Path) -> Path:
    """Build with the back-end itself: no network, no isolation."""
    into.mkdir()
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(into)!r})"
    run(sys.executable, "-W", "ignore", "-c", code, cwd=source)
    (made,) = into.iterdir()
    return made


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*NOT_SOURCE))
    return build("sdist", folder / "source", folder / "made")


@pytest.fixture(scope="session")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, as an installer without a wheel would."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            archive.extract(member, folder)
    (source,) = folder.iterdir()
    return build("wheel", source, folder / "made")


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_wheel_holds_every_module(wheel: Path) -> None:
    assert {installed_path(path) for _, path in modules()} <= names_in(wheel)


def test_wheel_holds_the_data_files_and_the_license(wheel: Path) -> None:
    data = [
        path
        for folder in ("edgepipe", *MAPPED)
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".toml", ".lock", ".css", ".js"} or path.name == "py.typed"
    ]
    names = names_in(wheel)
    assert {installed_path(path) for path in data} - names == set()
    assert any(path.suffix == ".toml" for path in data)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_wheel_puts_nothing_beside_the_package(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in names_in(wheel)}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgepipe"}


def test_wheel_declares_only_the_four_dependencies(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    required = [line for line in lines if line.startswith("Requires-Dist:") and "extra" not in line]
    always = {line.split()[1].split(">")[0] for line in required if ";" not in line}
    assert always == CORE_DEPENDENCIES
    sometimes = {line.split(": ", 1)[1].replace('"', "'") for line in required if ";" in line}
    assert sometimes == {"tomli>=2.0; python_version < '3.11'"}
    assert "Requires-Python: >=3.10" in lines


def listed_packages() -> set[str]:
    """Read by the words, as Python 3.10 has no TOML reader."""
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("\npackages = [", 1)[1].split("]", 1)[0]
    return {line.strip().strip('",') for line in block.splitlines() if line.strip()}


def test_every_folder_with_code_is_listed_as_a_package() -> None:
    parents = {Path(installed_path(path)).parent for _, path in modules()}
    assert listed_packages() == {parent.as_posix().replace("/", ".") for parent in parents}


def test_every_listed_package_has_an_init() -> None:
    for folder in {path.parent for _, path in modules()}:
        assert (folder / "__init__.py").exists(), folder


@pytest.mark.parametrize("folder", MAPPED)
def test_mapped_folder_refuses_its_bare_name(folder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"edgepipe.{folder}" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("folder", MAPPED)
def test_mapped_folder_is_flat_and_holds_no_tests(folder: str) -> None:
    for path in (ROOT / folder).rglob("*.py"):
        assert path.parent == ROOT / folder, f"{path}: a mapped folder stays flat"
        assert not path.name.startswith(("test_", "conftest")), f"{path}: tests are in tests/"


def top_level_imports(path: Path) -> Iterator[str]:
    """Modules imported when the file is: not those in functions or below TYPE_CHECKING."""
    todo: list[ast.AST] = list(ast.parse(path.read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo.extend(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo.extend(ast.iter_child_nodes(node))


def test_no_module_imports_a_framework_when_it_is_imported() -> None:
    known = (sys.stdlib_module_names - NEWER_THAN_310) | {"edgepipe"}
    foreign = {
        f"{name}: {imported}"
        for name, path in modules()
        for imported in top_level_imports(path)
        if imported.split(".")[0] not in known | CORE_DEPENDENCIES
    }
    assert foreign == set()


def test_code_of_workers_needs_only_numpy_when_it_is_imported() -> None:
    known = (sys.stdlib_module_names - NEWER_THAN_310) | WORKER_DEPENDENCIES | {"edgepipe"}
    in_worker = ("edgepipe.converters", "edgepipe.quantization", "edgepipe.runners")
    foreign = {
        f"{name}: {imported}"
        for name, path in modules()
        if name.startswith(in_worker) or name == "edgepipe.worker"
        for imported in top_level_imports(path)
        if imported.split(".")[0] not in known
    }
    assert foreign == set()


def static_imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def test_core_names_the_mapped_packages_only_as_strings() -> None:
    mapped = tuple(f"edgepipe.{folder}" for folder in MAPPED)
    static = {
        f"{name}: {imported}"
        for name, path in modules()
        if not name.startswith(mapped)
        for imported in static_imports(path)
        if imported.startswith(mapped)
    }
    assert static == set()


HEAVY = (
    "tensorflow", "keras", "tf_keras", "tf2onnx", "torch", "torchvision", "timm", "onnx",
    "onnxruntime", "onnxscript", "onnxsim", "onnxslim", "onnx2tf", "ai_edge_litert",
    "ai_edge_quantizer", "litert_torch", "jax", "h5py", "openvino", "nncf",
)  # fmt: skip

IMPORT_EACH = """
import importlib, json, sys

heavy, names = json.loads(sys.argv[1]), json.loads(sys.argv[2])

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in heavy:
            raise ImportError(f"{name} was imported")

sys.meta_path.insert(0, Refuse())
failed = {}
for name in names:
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = repr(error)
print(json.dumps(failed))
"""


def test_every_module_imports_without_any_framework() -> None:
    names = json.dumps([name for name, _ in modules() if not name.endswith("__main__")])
    printed = run(sys.executable, "-c", IMPORT_EACH, json.dumps(HEAVY), names, cwd=ROOT / "tests")
    assert json.loads(printed) == {}


LOADED_BY_HELP = """
import json, sys
from edgepipe.__main__ import main

sys.argv = ["edgepipe", "--help"]
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
sys.stderr.write(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_help_loads_neither_numpy_nor_rich_nor_a_framework() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED_BY_HELP], cwd=ROOT / "tests", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "convert" in done.stdout
    assert set(json.loads(done.stderr)) & {*HEAVY, "numpy", "rich", "flatbuffers"} == set()


def test_wheel_works_alone_in_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """Needs the package index, as installing edgepipe does."""
    run(sys.executable, "-m", "venv", "env", cwd=tmp_path)
    python, command = tmp_path / "env/bin/python", tmp_path / "env/bin/edgepipe"
    run(str(python), "-m", "pip", "install", "--quiet", str(wheel), cwd=tmp_path)
    alone = {"PYTHONPATH": "", "EDGEPIPE_CACHE": str(tmp_path / "cache")}
    (tmp_path / "empty").mkdir()
    assert "0.1.0" in run(str(command), "--version", cwd=tmp_path / "empty", **alone)
    assert "keras" in run(str(command), "toolchain", "list", cwd=tmp_path / "empty", **alone)
    names = json.dumps([name for name, _ in modules() if not name.endswith("__main__")])
    printed = run(
        str(python), "-c", IMPORT_EACH, json.dumps(HEAVY), names, cwd=tmp_path / "empty", **alone
    )
    assert json.loads(printed) == {}
