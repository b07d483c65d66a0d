"""What the runner says of what a board lacks: runtime, delegate, rights, memory, whole files."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dense_net import Net
from small_bundles import RUNNER, Converted, converted, python_of, run

pytestmark = pytest.mark.toolchain("edge")
run_on_device: Any = importlib.import_module("edgepipe.device_tests.run_on_device")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return converted(tmp_path_factory.mktemp("converted"))


@pytest.fixture(scope="module")
def bundle(subject: Converted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return subject.bundle(tmp_path_factory.mktemp("bundle") / "net.edgebundle").path


@pytest.fixture(scope="module")
def python() -> Path:
    return python_of("edge")


def test_no_runtime_says_how_to_get_one(bundle: Path) -> None:
    done = run(bundle)
    assert done.returncode == 3
    assert "no runtime for tflite models is installed" in done.stdout
    assert "pip install ai-edge-litert" in done.stdout


def test_pycoral_of_another_kind_is_told(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "pycoral").mkdir()
    (tmp_path / "pycoral" / "__init__.py").write_text("")
    done = run(bundle, PYTHONPATH=str(tmp_path))
    assert done.returncode == 3
    assert "coral reefs" in done.stdout
    (tmp_path / "pycoral" / "utils").mkdir()
    (tmp_path / "pycoral" / "utils" / "edgetpu.py").write_text("")
    assert "coral reefs" not in run(bundle, PYTHONPATH=str(tmp_path)).stdout


@pytest.mark.parametrize(
    ("raised", "hint"),
    [
        ("ImportError('numpy.core.multiarray failed to import')", "numpy<2"),
        ("ImportError('version `GLIBC_2.38` not found')", "built for a newer system"),
        ("AttributeError('_ARRAY_API not found')", "numpy<2"),
        ("ImportError('libstdc++.so.6: cannot open')", "pip install"),
    ],
)
def test_runtime_that_is_there_and_broken_says_why(
    raised: str, hint: str, bundle: Path, python: Path, tmp_path: Path
) -> None:
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text(f"raise {raised}")
    done = run(bundle, "--runtime", "ai_edge_litert", python=python, PYTHONPATH=str(tmp_path))
    words = " ".join(done.stdout.split())
    assert done.returncode == 3, words
    assert "ai_edge_litert" in words and "can't be imported" in words
    assert hint in words


def test_install_line_fits_the_python(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, bits, wanted in (
        ((3, 8), 63, 'tflite-runtime "numpy<2"'),
        ((3, 11), 63, "ai-edge-litert"),
        ((3, 11), 31, 'tflite-runtime "numpy<2"'),
        ((3, 13), 31, "take such a Python"),
    ):
        monkeypatch.setattr(run_on_device.sys, "version_info", version)
        monkeypatch.setattr(run_on_device.sys, "maxsize", 2**bits - 1)
        line = run_on_device.how_to_install("tflite")
        monkeypatch.undo()
        assert wanted in line


def test_no_edgetpu_library_says_how_to_get_it(bundle: Path, python: Path) -> None:
    done = run(
        bundle, "--delegate", "edgetpu", python=python, EDGEPIPE_LIBEDGETPU="libnothing.so.1"
    )
    assert done.returncode == 3
    assert "libedgetpu can't be loaded" in done.stdout
    assert "apt install libedgetpu1-std" in done.stdout


def test_delegate_that_is_none_fails_with_its_name(bundle: Path, python: Path) -> None:
    done = run(bundle, "--delegate", "nothing.so", python=python)
    assert done.returncode == 3
    assert "nothing.so can't be used as a delegate" in " ".join(done.stdout.split())


def test_stick_without_permission_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_on_device, "edgetpus", lambda: [os.devnull])
    monkeypatch.setattr(run_on_device.os, "access", lambda path, mode: False)
    words = run_on_device.why_no_edgetpu()
    assert "usermod -aG plugdev" in words
    assert "udev" in words


def test_too_little_memory_is_told_before_loading(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    code = f"""
import runpy, sys
made = runpy.run_path({str(RUNNER)!r})
made["measure"].__globals__["memory_of_machine"] = lambda: (1 << 26, 1 << 20)
sys.exit(made["main"](sys.argv[1:]))
"""
    done = subprocess.run([python, "-c", code, bundle], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "too little memory" in done.stdout
    assert "add swap" in done.stdout


def test_runtime_that_dies_takes_only_its_model_along(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    """A module that kills the process stands where the runtime is looked for."""
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text("")
    (tmp_path / "ai_edge_litert" / "interpreter.py").write_text(
        "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    )
    done = run(bundle, "--out", tmp_path / "r", python=python, PYTHONPATH=str(tmp_path))
    assert done.returncode == 4
    assert "the runtime died (SIGILL)" in done.stdout
    assert "newer processor" in done.stdout
    assert (tmp_path / "r" / "result.json").exists()


def test_model_that_hangs_is_ended(bundle: Path, python: Path, tmp_path: Path) -> None:
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text("import time; time.sleep(600)")
    done = run(bundle, "--timeout", "1", python=python, PYTHONPATH=str(tmp_path))
    assert (done.returncode, "took longer than 1 s" in done.stdout) == (4, True)


def test_run_that_is_ended_leaves_no_model_running(
    bundle: Path, python: Path, tmp_path: Path
) -> None:
    (tmp_path / "ai_edge_litert").mkdir()
    (tmp_path / "ai_edge_litert" / "__init__.py").write_text(
        "import os, pathlib, time\n"
        f"place = pathlib.Path({str(tmp_path)!r})\n"
        "(place / 'partial').write_text(str(os.getpid()))\n"
        "(place / 'partial').rename(place / 'child')\n"
        "time.sleep(600)"
    )
    for ending in (signal.SIGTERM, signal.SIGKILL):
        (tmp_path / "child").unlink(missing_ok=True)
        started = subprocess.Popen(
            [python, RUNNER, bundle], env={**os.environ, "PYTHONPATH": str(tmp_path)}
        )
        _wait_for(lambda: (tmp_path / "child").exists())
        child = int((tmp_path / "child").read_text())
        started.send_signal(ending)
        assert started.wait() == (130 if ending == signal.SIGTERM else -signal.SIGKILL)
        _wait_for(lambda child=child: not _runs(child))  # type: ignore[misc]


def _runs(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def _wait_for(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.05)


def test_unknown_model_lists_those_that_are_there(bundle: Path, python: Path) -> None:
    done = run(bundle, "--only", "other.tflite", python=python)
    assert done.returncode == 2
    assert "model_int8.tflite" in done.stderr


def with_int8(bundle: Path, target: Path, content: bytes) -> Path:
    """The bundle with another int8 model in it, and the digests right."""
    with zipfile.ZipFile(bundle) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = "models/model_int8.tflite"
    members[name] = content
    manifest = json.loads(members["manifest.json"])
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"sha256": digest, "size": len(content)}
    members["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(target, "w") as archive:
        for member, each in members.items():
            archive.writestr(member, each)
    return target


def test_model_that_is_damaged_fails_alone(
    subject: Converted, bundle: Path, python: Path, tmp_path: Path
) -> None:
    content = (subject.folder / "model_int8.tflite").read_bytes()[:200]
    done = run(with_int8(bundle, tmp_path / "d.edgebundle", content), python=python)
    assert done.returncode == 4, done.stdout
    assert "can't load it" in done.stdout
    assert "model_float32.tflite\n  load       passed" in done.stdout


def test_runtime_that_is_older_than_the_model_is_told(
    bundle: Path, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepipe.tflite.saving.lowest_version", lambda op: 99)
    net = Net()
    newer = net.save(tmp_path / "newer.tflite", net.dense("last", net.input)).read_bytes()
    done = run(with_int8(bundle, tmp_path / "n.edgebundle", newer), python=python)
    assert done.returncode == 4, done.stdout
    assert "the runtime is older than the model" in done.stdout


def test_bundle_from_the_future_names_the_way_out(bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "f", "w") as archive:
        archive.writestr("manifest.json", json.dumps({"kind": "edgepipe bundle", "schema": 99}))
    done = run(tmp_path / "f")
    assert (done.returncode, "schema 99" in done.stderr) == (2, True)
