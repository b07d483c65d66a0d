"""The runner of compiled files: what it says where it can't run one, which is everywhere here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from edgetpu_compilers import REPLAY, entry_of
from edgetpu_files import needs_pairs, pair

import edgepipe
from edgepipe.artifact import Artifact, Format, digest_file
from edgepipe.errors import (
    BrokenOutput,
    EdgepipeError,
    NoRouteLeft,
    OptionError,
    ToolMissing,
)
from edgepipe.runners import edgetpu, edgetpu_library
from edgepipe.session import Session

CC = shutil.which("cc")
STUB = Path(__file__).with_name("libedgetpu_stub.c")
CHANNELS = "model_size_channel32_quant.tflite"
Builds = Callable[..., Path]
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler; `apt-get install gcc` brings one")


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builds:
    """A shared library that answers as libedgetpu does, up to the point where a chip is needed."""

    def build(runtime: int = 14, devices: int = 1) -> Path:
        path = tmp_path / f"libedgetpu-{runtime}-{devices}.so"
        assert CC is not None
        flags = [f'-DRUNTIME="{runtime}"', f"-DDEVICES={devices}", "-shared", "-fPIC"]
        subprocess.run([CC, *flags, "-o", path, STUB], check=True)
        monkeypatch.setenv("EDGEPIPE_LIBEDGETPU", str(path))
        return path

    return build


@needs_cc
def test_the_library_says_its_version_and_devices(library: Builds) -> None:
    path = library(runtime=13, devices=2)
    found = edgetpu_library.open_library()
    assert (found.path, found.runtime) == (str(path), 13)
    assert found.devices == (("usb", "/sys/bus/usb/devices/2-1"),) * 2
    for wanted in ("usb", "usb:0", "usb:1", ":1"):
        found.check_device(wanted)
    for wanted in ("usb:2", "pci", "pci:0"):
        with pytest.raises(ToolMissing, match=f"no Edge TPU '{wanted}': libedgetpu sees usb"):
            found.check_device(wanted)
    for wanted in ("", "tpu", "usb:x", "usb:0 "):
        with pytest.raises(OptionError, match="--device takes"):
            found.check_device(wanted)


@needs_cc
def test_no_device_is_said_with_where_to_look(library: Builds) -> None:
    library(devices=0)
    with pytest.raises(ToolMissing, match="libedgetpu sees none") as caught:
        edgetpu_library.probe("usb")
    assert caught.value.hint


@needs_cc
def test_a_package_for_a_newer_runtime_is_refused_before_loading(library: Builds) -> None:
    library(runtime=13)
    found = edgetpu_library.open_library()
    found.check_version(13, "m")
    with pytest.raises(ToolMissing, match=r"needs version 14 .* is version 13") as caught:
        found.check_version(14, "m")
    assert "--min-runtime-version 13" in caught.value.hint


def test_a_missing_or_wrong_library_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPIPE_LIBEDGETPU", str(tmp_path / "none.so"))
    with pytest.raises(ToolMissing, match="can't be loaded") as caught:
        edgetpu_library.open_library()
    assert "EDGEPIPE_LIBEDGETPU" in caught.value.hint
    monkeypatch.setenv("EDGEPIPE_LIBEDGETPU", "libc.so.6")
    if sys.platform == "linux":
        with pytest.raises(ToolMissing, match=r"libc\.so\.6 is no libedgetpu"):
            edgetpu_library.open_library()


def test_a_device_out_of_reach_has_its_reason(tmp_path: Path) -> None:
    assert edgetpu_library.out_of_reach(tmp_path) == ""
    place = tmp_path / "sys/bus/usb/devices/2-1"
    place.mkdir(parents=True)
    facts = {"idVendor": "18d1", "idProduct": "9302", "busnum": "2", "devnum": "7"}
    for name, text in facts.items():
        (place / name).write_text(f"{text}\n")
    assert "002/007 isn't here: pass it into the container" in (
        edgetpu_library.out_of_reach(tmp_path)
    )


def test_a_device_without_permission_names_the_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, node = tmp_path / "sys/bus/usb/devices/2-1", tmp_path / "dev/bus/usb/002/007"
    for folder in (place, node.parent):
        folder.mkdir(parents=True)
    for name, text in {
        "idVendor": "1a6e", "idProduct": "089a", "busnum": "2", "devnum": "7"
    }.items():  # fmt: skip
        (place / name).write_text(text)
    node.touch()
    monkeypatch.setattr("os.access", lambda path, mode: False)  # For root all is open.
    assert "join the group plugdev" in edgetpu_library.out_of_reach(tmp_path)
    shutil.rmtree(place)
    (tmp_path / "dev/apex_0").touch()
    assert "join the group apex" in edgetpu_library.out_of_reach(tmp_path)


def test_the_pycoral_of_pypi_is_refused_unimported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pycoral"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('it was imported')\n")
    (package / "pycoral.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    assert edgetpu_library.is_foreign_pycoral()
    with pytest.raises(ToolMissing, match="a tool for coral reefs") as caught:
        edgetpu_library.interpreter_module()
    assert "pip uninstall pycoral" in caught.value.hint
    (package / "utils").mkdir()
    (package / "utils" / "edgetpu.py").touch()
    assert not edgetpu_library.is_foreign_pycoral()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("Encountered unresolved custom op: edgetpu-custom-op.", "another TensorFlow Lite"),
        (
            "Failed precondition: Package requires runtime version (14), which is newer than this"
            " runtime version (13).",
            "--min-runtime-version",
        ),
        ("Internal: Unsupported data type in custom op handler: 0Node number 1", "different times"),
        ("Deadline exceeded: USB transfer error 2 [LibUsbDataOutCallback].", "port or cable"),
        ("something else", "before 2.12"),
    ],
)
def test_known_failures_of_the_runtime_have_words(words: str, hint: str) -> None:
    error = edgetpu._in_words(BrokenOutput(words), "m_edgetpu.tflite", "RuntimeVersion(13)")
    assert hint in error.hint and words in error.message
    assert error.details["type"] == "OSError", "it would be remembered as the model's own"


# With LiteRT itself


def compiled(tmp_path: Path) -> Artifact:
    path = pair("compiled", entry_of(CHANNELS))
    return Artifact(path, Format.EDGETPU, digest_file(path))


@needs_pairs
@pytest.mark.toolchain("edge")
def test_litert_without_the_delegate_says_what_we_know(tmp_path: Path, session: Session) -> None:
    """The pattern that is looked for is what LiteRT says today."""
    made = compiled(tmp_path).to_json()
    made["format"] = "tflite"
    made["signature"] = {"inputs": [], "outputs": []}
    with pytest.raises(EdgepipeError, match=edgetpu.KNOWN[0][0]):
        session.call(
            "edge", "edgepipe.work:latency", session.log("x"), artifact=made,
            feeds=str(feeds(tmp_path)), repeats=1,
        )  # fmt: skip


def feeds(tmp_path: Path) -> Path:
    import numpy as np

    from edgepipe import tensors

    path = tmp_path / "feeds.npz"
    tensors.write(path, [{"conv2d_input": np.zeros((1, 32, 32, 3), np.float32)}])
    return path


@needs_pairs
@needs_cc
@pytest.mark.toolchain("edge")
def test_a_device_that_does_not_open_leaves_the_arrow_unproven(
    library: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library()
    monkeypatch.setenv("EDGETPU_COMPILER", str(REPLAY))
    model, out = pair("source", entry_of(CHANNELS)), tmp_path / "out"
    with pytest.raises(
        NoRouteLeft, match="it can't be run on usb:0: libedgetpu can't open"
    ) as caught:
        edgepipe.convert(model, target="edgetpu", out=out, device="usb:0")
    assert caught.value.exit_code == 4
    with pytest.raises(ToolMissing, match="libedgetpu can't open the Edge TPU 'usb:0'"):
        edgepipe.compile(model, out=out, device="usb:0")


@needs_pairs
@needs_cc
@pytest.mark.toolchain("edge")
def test_an_old_library_is_told_by_its_version(
    library: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(runtime=12)
    monkeypatch.setenv("EDGETPU_COMPILER", str(REPLAY))
    with pytest.raises(ToolMissing, match="needs version 14 of the Edge TPU runtime"):
        edgepipe.compile(pair("source", entry_of(CHANNELS)), out=tmp_path / "out", device="usb:0")
