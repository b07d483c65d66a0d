"""Making toolchains: whole or not at all, whoever interrupts, and clear words when it fails.

The toolchains are of one tiny package each, in wheels written here: no network is needed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgepipe import base_python, catalog, package_installer, toolchain
from edgepipe.cli.toolchain import toolchain as command
from edgepipe.errors import DiskFull, PathError, ToolchainFailed, ToolchainMissing, UnknownName
from edgepipe.requirement import Range
from edgepipe.tool_process import Ended

ROOT = Path(__file__).parent.parent
ENGINE = """
import os, time
if "TINY_PID" in os.environ:
    open(os.environ["TINY_PID"], "w").write(str(os.getpid()))
time.sleep(float(os.environ.get("TINY_SLEEP", "0")))
"""
DOCTOR = """
def works(): import tiny_engine; print("noise"); return ["Tiny: GPU"]
def breaks(): raise RuntimeError("no device")
"""
INSTALL = """
import pathlib, signal, sys
from edgepipe import catalog, toolchain
signal.signal(signal.SIGINT, signal.default_int_handler)
toolchain.FOLDER = pathlib.Path(sys.argv[1])
catalog.TOOLCHAINS = ("tiny",)
toolchain.install(["tiny"], lambda name, phase, seconds: print(phase, flush=True))
"""
needs_uv = pytest.mark.skipif(
    package_installer.find_uv() is None, reason="uv is not there: pip install uv"
)


def write_wheel(folder: Path, name: str, version: str, code: str) -> None:
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{module}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}.py", code)
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{module}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n")


@pytest.fixture
def define(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Defines a toolchain of one package, and the wheel that it needs."""
    tables, wheels = tmp_path / "tables", tmp_path / "wheels"
    tables.mkdir()
    wheels.mkdir()
    (tmp_path / "tiny_doctor.py").write_text(DOCTOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(toolchain, "FOLDER", tables)
    monkeypatch.setattr(catalog, "TOOLCHAINS", ())
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_", "PYTHONPATH"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("EDGEPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def make(name: str, code: str | None = ENGINE, doctor: str = "works") -> None:
        package = f"{name}-engine"
        (tables / f"{name}.toml").write_text(
            f'words = "tiny"\npython = ">=3.10"\nmain = ["{package}"]\n'
            f'requirements = ["{package}>=1"]\nimports = ["{package.replace("-", "_")}"]\n'
            f'doctor = "tiny_doctor:{doctor}"\n'
        )
        (tables / f"{name}.lock").write_text(f"# made by hand\n{package}==1.2.0\n")
        if code is not None:
            write_wheel(wheels, package, "1.2.0", code)
            write_wheel(wheels, package, "1.3.0", "raise ImportError('not what the lock says')")
        monkeypatch.setattr(catalog, "TOOLCHAINS", (*catalog.TOOLCHAINS, name))

    return make


@pytest.fixture
def tiny(define: Callable[..., None]) -> toolchain.Toolchain:
    define("tiny")
    return toolchain.spec("tiny")


def phases(names: list[str]) -> list[str]:
    told: list[str] = []
    toolchain.install(names, lambda name, phase, seconds: told.append(phase))
    return told


def folders() -> list[str]:
    return sorted(path.name for path in toolchain.made_root().iterdir() if path.is_dir())


@pytest.mark.parametrize("tool", [pytest.param("uv", marks=needs_uv), "pip"])
def test_makes_what_the_lock_says(
    tiny: toolchain.Toolchain, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    if tool == "pip":
        monkeypatch.setattr(package_installer, "find_uv", lambda: None)
    told = phases(["tiny"])
    assert [told[0], *told[-2:]] == ["python", "check", "ready"]
    found = toolchain.find("tiny")
    assert (found.how, found.versions["tiny-engine"]) == ("made", "1.2.0")
    code = "import tiny_engine, sys; print(sys.prefix)"
    done = subprocess.run([found.python, "-I", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == str(tiny.folder)
    assert folders() == [tiny.folder.name]
    assert toolchain.made()[0].record["made_with"] == tool
    assert toolchain.sizes()["tiny"] > 0


@needs_uv
def test_leaves_alone_what_is_there(
    tiny: toolchain.Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases(["tiny"])
    monkeypatch.setattr(package_installer, "find_uv", lambda: pytest.fail("uv was looked for"))
    assert phases(["tiny"]) == ["present (made)"]


@needs_uv
@pytest.mark.parametrize("damage", ["record", "metadata", "python"])
def test_tells_damage_and_makes_it_again(tiny: toolchain.Toolchain, damage: str) -> None:
    phases(["tiny"])
    if damage == "record":
        (tiny.folder / toolchain.RECORD).write_text("{")
    elif damage == "metadata":
        info = next(tiny.folder.glob("lib/*/site-packages/tiny_engine-*.dist-info"))
        info.rename(info.with_name("elsewhere"))
    else:
        (tiny.folder / "bin/python").unlink()
    with pytest.raises(ToolchainMissing, match="is damaged") as caught:
        toolchain.find("tiny")
    assert "`edgepipe toolchain install tiny`" in caught.value.hint
    assert phases(["tiny"])[-1] == "ready"
    assert folders() == [tiny.folder.name]


@needs_uv
def test_changed_lock_is_another_toolchain(tiny: toolchain.Toolchain) -> None:
    phases(["tiny"])
    tiny.lock.write_text("# new words\n\ntiny-engine==1.2.0\n")
    toolchain._read.cache_clear()
    assert toolchain.find("tiny").how == "made"
    tiny.lock.write_text("tiny-engine==1.3.0\n")
    toolchain._read.cache_clear()
    with pytest.raises(ToolchainMissing, match="is not installed"):
        toolchain.find("tiny")
    assert [each.current for each in toolchain.made()] == [False]


@needs_uv
def test_failures_name_the_package_and_leave_nothing(define: Callable[..., None]) -> None:
    define("tiny")
    define("absent", code=None)
    with pytest.raises(ToolchainFailed, match="absent-engine could not be had") as caught:
        toolchain.install(["absent", "tiny"])
    assert caught.value.details["package"] == "absent-engine"
    assert "EDGEPIPE_PYTHON_ABSENT" in caught.value.hint
    assert toolchain.find("tiny").how == "made"
    assert folders() == [toolchain.spec("tiny").folder.name]


@needs_uv
def test_package_that_does_not_import_is_a_failure(define: Callable[..., None]) -> None:
    define("tiny", code="raise OSError('libtiny.so.2 is not here')")
    with pytest.raises(ToolchainFailed, match=r"importing them .*(\n.*)*libtiny\.so\.2"):
        toolchain.install(["tiny"])
    assert folders() == []


def test_cache_that_cannot_be_written_is_named(
    tiny: toolchain.Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEPIPE_CACHE", str(tmp_path / "file"))
    with pytest.raises(PathError, match="can't be written") as caught:
        toolchain.install(["tiny"])
    assert "EDGEPIPE_CACHE" in caught.value.hint


@contextlib.contextmanager
def installing(tmp_path: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", INSTALL, str(tmp_path / "tables")],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        yield process
        process.kill()


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline, "waited for 20 s"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


@needs_uv
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_installation_leaves_nothing_half_made(
    tiny: toolchain.Toolchain, tmp_path: Path, number: signal.Signals
) -> None:
    pid = tmp_path / "pid"
    with installing(tmp_path, TINY_SLEEP="60", TINY_PID=str(pid)) as process:
        wait_until(lambda: pid.exists() and pid.read_text() != "")
        process.send_signal(number)
        process.wait(10)
    if number == signal.SIGINT:
        assert folders() == []
    if number == signal.SIGINT or sys.platform == "linux":  # elsewhere a tool outlives a kill -9
        wait_until(lambda: not is_running(int(pid.read_text())))
    with pytest.raises(ToolchainMissing, match="is not installed"):
        toolchain.find("tiny")
    assert phases(["tiny"])[-1] == "ready"
    assert folders() == [tiny.folder.name]


@needs_uv
def test_two_processes_make_it_once(tiny: toolchain.Toolchain, tmp_path: Path) -> None:
    with installing(tmp_path, TINY_SLEEP="0.5") as one, installing(tmp_path) as other:
        ends = sorted(
            process.communicate(timeout=30)[0].split("\n")[-2] for process in (one, other)
        )
    assert ends == ["present (made)", "ready"]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


@needs_uv
def test_list_shows_what_is_usable_and_what_is_not(define: Callable[..., None]) -> None:
    define("tiny")
    define("absent", code=None)
    assert run("install", "tiny").exit_code == 0
    rows = {row["name"]: row for row in json.loads(run("list", "--json").stdout)["toolchains"]}
    assert rows["tiny"]["versions"] == {"tiny-engine": "1.2.0"}
    assert (rows["tiny"]["usable"], rows["tiny"]["how"]) == (True, "made")
    assert rows["tiny"]["size"] > 0
    assert rows["absent"]["usable"] is False
    assert "edgepipe toolchain install absent" in rows["absent"]["hint"]
    words = run("list").stdout
    assert str(toolchain.spec("tiny").folder / "bin/python") in words
    assert "edgepipe toolchain install absent" in words


@needs_uv
def test_install_tells_its_phases_in_plain_lines_when_piped(tiny: toolchain.Toolchain) -> None:
    done = run("install", "tiny", "--json")
    assert json.loads(done.stdout)["toolchains"][0]["how"] == "made"
    assert "tiny: ready (" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("install",), ("install", "--from", "onnx"), ("remove",), ("remove", "x", "--all")],
)
def test_asks_for_what_to_do_it_with(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_refuses_an_unknown_name_before_a_table_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[bool] = []
    monkeypatch.setattr("edgepipe.cli.toolchain._progress", lambda: drawn.append(True))
    done = run("install", "nope")
    assert isinstance(done.exception, UnknownName)
    assert not drawn


def test_refuses_a_source_that_is_neither_format_nor_model() -> None:
    done = run("install", "--for", "tflite", "--from", "nothing.h5")
    assert isinstance(done.exception, UnknownName)
    assert "keras-h5" in done.exception.hint


@needs_uv
def test_remove_takes_only_what_is_named(define: Callable[..., None]) -> None:
    define("tiny")
    define("tiny-more")
    phases(["tiny", "tiny-more"])
    assert "removed" in run("remove", "tiny").stdout
    assert folders() == [toolchain.spec("tiny-more").folder.name]
    assert json.loads(run("remove", "--all", "--json").stdout)["removed"] != []
    assert folders() == []


@needs_uv
def test_doctor_tells_what_works_and_what_does_not(define: Callable[..., None]) -> None:
    define("tiny")
    define("absent", code=None)
    phases(["tiny"])
    assert "tiny: works (Tiny: GPU)" in run("doctor").stdout
    assert run("doctor").exit_code == 0
    assert isinstance(run("doctor", "absent").exception, ToolchainMissing)
    define("sick", doctor="breaks")
    phases(["sick"])
    done = run("doctor", "sick")
    assert "sick: does not work: exit code 1: RuntimeError: no device" in done.stdout
    assert isinstance(done.exception, ToolchainFailed)
    done = run("doctor", "--json")
    assert done.exit_code == 3
    works = {each["toolchain"]: each["works"] for each in json.loads(done.stdout)["toolchains"]}
    assert works == {"tiny": True, "sick": False}


def test_live_table_shows_the_last_phase_of_each() -> None:
    from rich.console import Console

    from edgepipe.cli.install_table import InstallTable

    table = InstallTable()
    table.enter("tiny", "resolve", 0.5)
    table.enter("tiny", "download", 1.0)
    table.enter("other", "ready", 3.25)
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert rows[0][1:3] == ["tiny", "download"]
    assert rows[1] == ["✓", "other", "ready", "3.2", "s"]


@pytest.mark.parametrize(
    ("words", "package"),
    [
        ("cause: Because ai-edge-litert was not found in the cache and you", "ai-edge-litert"),
        ("cause: Because there is no version of onnx==1.23.2 and you require", "onnx"),
        ("error: Failed to fetch: https://host/simple/onnxruntime/\n cause: dns", "onnxruntime"),
        ("error: Failed to fetch: https://host/a/b/onnx-1.2-py3-none-any.whl", "onnx"),
        ("Failed to download `torch==2.13.0`\n  ├─▶ Failed to fetch", "torch"),
        ("Failed to build `fire==0.7.1`", "fire"),
        ("ERROR: No matching distribution found for tiny-engine>=1", "tiny-engine"),
        ("Failed to establish a new connection: [-3] x')': /simple/numpy/", "numpy"),
        ("Segmentation fault", ""),
    ],
)
def test_names_the_package_in_an_installers_words(words: str, package: str) -> None:
    assert package_installer.unhad_package(words) == package


def test_hides_passwords_in_an_installers_words(tiny: toolchain.Toolchain) -> None:
    ended = Ended(1, ("error: https://user:secret@host/simple/x/ said 401",))
    error = package_installer.failure(tiny, "installing", ended)
    assert "secret" not in str(error.to_json())
    assert "https://***@host" in error.message


def test_full_disk_is_told_as_such(tiny: toolchain.Toolchain) -> None:
    ended = Ended(2, ("error: failed to write", "cause: No space left on device (os error 28)"))
    assert isinstance(package_installer.failure(tiny, "installing", ended), DiskFull)


def script(path: Path, version: str | None) -> str:
    """A stand-in for a Python of this version; None for a shim that only complains."""
    told = json.dumps({"version": version, "usual": True, "venv": True})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + (f"echo '{told}'" if version else "exit 127") + "\n")
    path.chmod(0o755)
    return str(path)


def test_chooses_a_python_that_runs_and_is_in_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "shims/python3.12", None)
    script(tmp_path / "versions/3.12.1/bin/python", "3.12.1")
    script(tmp_path / "versions/3.12.10/bin/python", "3.12.10")
    script(tmp_path / "versions/3.12-dev/bin/python", "3.12.99")
    here = script(tmp_path / "here/python", "3.11.7")
    monkeypatch.setattr("sys.executable", here)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}/shims:/usr/bin:/bin")
    assert base_python.choose(Range.parse(">=3.10"), "tiny", None).path == here
    found = base_python.choose(Range.parse("==3.12.*"), "tiny", None)
    assert (found.version, Path(found.path).parts[-3]) == ("3.12.10", "3.12.10")
    with pytest.raises(ToolchainFailed, match="tiny") as caught:
        base_python.choose(Range.parse("==3.13.99"), "tiny", None)
    assert "EDGEPIPE_PYTHON_TINY" in caught.value.hint
