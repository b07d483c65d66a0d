"""Models on boards: results beside the host's, several at once, sweeps, boards that fail."""

from __future__ import annotations

import getpass
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_bundles import Converted, converted, python_of
from ssh_server import Server, serve

import edgepipe
from edgepipe.bundling import sealing
from edgepipe.cli.main import run
from edgepipe.devices import inventory, merging, pieces, sweeping
from edgepipe.devices.inventory import Device
from edgepipe.devices.running import Asked, Result, run_all
from edgepipe.errors import DeviceUnreachable, OptionError
from edgepipe.report import devices as tables

pytestmark = pytest.mark.toolchain("edge")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return converted(tmp_path_factory.mktemp("converted"))


@pytest.fixture(scope="module")
def bundle(subject: Converted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return subject.bundle(tmp_path_factory.mktemp("bundle") / "net.edgebundle", samples=30).path


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPIPE_CONFIG", str(tmp_path / "configuration"))


def nothing(name: str, event: str, facts: Any) -> None:
    pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("ssh")) as running:
        yield running


@pytest.fixture
def board(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """By SSH on the loopback, with a Python of its own that knows nothing of edgepipe."""
    import os

    monkeypatch.setenv("PATH", f"{server.folder / 'bin'}:{os.environ['PATH']}")
    return Device(
        "board", "ssh", host="127.0.0.1", user=getpass.getuser(), port=server.port,
        key=str(server.key), python=str(python_of("edge")), folder=str(tmp_path / "there"),
    )  # fmt: skip


def test_results_of_a_board_and_the_host_go_into_the_report(
    subject: Converted, board: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(subject.folder, out)
    inventory.add(board)
    words = ["device", "run", "host", "board", str(out), "--data", str(subject.data), "--labels",
             "labels", "--scale", "1/255", "--samples", "20", "--json"]  # fmt: skip
    assert run(words) == 0
    told = json.loads(capsys.readouterr().out)["devices"]
    assert [row["name"] for row in told] == ["host", "board"]
    report = json.loads((out / "report.json").read_text())
    assert [row["name"] for row in report["devices"]] == ["host", "board"]
    assert [row["verdict"] for row in report["devices"]] == ["passed", "passed"]
    for row in report["devices"]:
        assert [model["model"] for model in row["models"]] == [
            "model_float32.tflite", "model_int8.tflite",
        ]  # fmt: skip
        assert row["models"][1]["outputs"], "no agreement with the host"
        assert row["models"][1]["latency"]["p50"] > 0
    text = (out / "report.json").read_text()
    assert str(board.key) not in text and str(tmp_path / "there") not in text
    assert (out / "devices" / "board" / "out" / "junit.xml").is_file()
    assert run(["verify", str(out)]) == 0, "the manifest doesn't know of the report"
    page = (out / "report.html").read_text()
    assert "On boards" in page and '<th scope="row">board</th>' in page
    assert run([*words, "--first", "3"]) == 0
    again = json.loads((out / "report.json").read_text())["devices"]
    assert [row["name"] for row in again] == ["host", "board"], "an older result stayed"


def test_a_board_is_examined_and_left_as_it_was(
    board: Device, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inventory.add(board)
    assert run(["device", "doctor", "board"]) == 0
    said = capsys.readouterr().out
    assert "board (127.0.0.1:" in said and "ready" in said and "ai_edge_litert" in said
    assert run(["device", "run", "board", str(bundle), "--results", str(tmp_path), "-q"]) == 0
    assert (tmp_path / "there").is_dir()
    assert run(["device", "remove", "board"]) == 0
    assert not (tmp_path / "there").exists()
    inventory.add(replace(board, python="python9"))
    assert run(["device", "doctor", "board"]) == 3
    assert "python9" in capsys.readouterr().out


def test_operators_are_compared_over_ssh(board: Device, bundle: Path, tmp_path: Path) -> None:
    inventory.add(board)
    found = edgepipe.compare(["host:reference", "board"], bundle, results=tmp_path, latency=False)
    floats = next(pair for pair in found.pairs if pair.model == "model_float32.tflite")
    assert floats.other == "board" and floats.layers is not None
    assert floats.layers.first is not None and floats.layers.note == ""
    assert not list((tmp_path / "there").glob("run-*"))


def test_only_what_changed_of_a_bundle_goes_over(
    subject: Converted, bundle: Path, board: Device, tmp_path: Path
) -> None:
    (first,) = run_all([board], bundle, Asked(latency=False), tmp_path / "a", nothing)
    assert first.sent > bundle.stat().st_size
    (again,) = run_all([board], bundle, Asked(latency=False), tmp_path / "a", nothing)
    assert again.sent == 0 and again.document is not None


def test_a_bundle_in_pieces_is_the_bundle(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(5):
            archive.writestr(f"member {number}", bytes([number]) * 200_000)
    parts = pieces.cut(path)
    assert len(parts) > 2
    content = path.read_bytes()
    assert b"".join(content[one.start : one.start + one.size] for one in parts) == content
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(5):
            archive.writestr(f"member {number}", bytes([number]) * (200_000 + (number == 4)))
    same = {one.sha256 for one in parts} & {one.sha256 for one in pieces.cut(path)}
    assert len(same) >= len(parts) - 1


def test_one_board_that_is_gone_stops_no_other(bundle: Path, board: Device, tmp_path: Path) -> None:
    gone = replace(board, name="gone", port=1)
    results = run_all([gone, board], bundle, Asked(latency=False), tmp_path, nothing)
    assert isinstance(results[0].error, DeviceUnreachable)
    assert results[1].document is not None and results[1].document["verdict"] == "passed"
    rows = [merging.entry(result) for result in results]
    assert rows[0]["verdict"] == "failed" and "can't be reached" in rows[0]["error"]
    assert "failed" in tables.rows(rows)[0]
    assert any("can't be reached" in note for note in tables.notes(rows))


def test_a_gate_that_is_broken_on_a_board_ends_with_5(
    subject: Converted, bundle: Path, tmp_path: Path
) -> None:
    tight = subject.bundle(
        tmp_path / "tight.edgebundle", samples=10, gates=["min-sqnr=190"]
    ).path  # fmt: skip
    words = ["--results", str(tmp_path / "results"), "-q"]
    assert run(["device", "run", "host", str(bundle), *words]) == 0
    assert run(["device", "run", "host", str(tight), *words]) == 5


def test_a_board_without_a_runtime_says_so(bundle: Path, tmp_path: Path) -> None:
    import sys

    bare = Device("bare", "local", python=sys.executable)
    (result,) = run_all([bare], bundle, Asked(), tmp_path, nothing)
    assert result.exit_code == 3
    notes = tables.notes([merging.entry(result)])
    assert any("runtime" in note and "pip install" in note for note in notes), notes


def test_an_encrypted_bundle_runs_with_the_key_that_is_passed(
    subject: Converted, tmp_path: Path, board: Device
) -> None:
    pytest.importorskip("cryptography")
    sealing.make_keys(tmp_path)
    key = tmp_path / "model.key"
    sealed = subject.bundle(tmp_path / "s.edgebundle", samples=5, encrypt=True, key=key).path
    asked = Asked(latency=False, key=key)
    secret = asked.secrets()["EDGEPIPE_BUNDLE_KEY"]
    assert secret and secret not in " ".join(asked.words(board))
    (result,) = run_all([board], sealed, asked, tmp_path / "r", nothing)
    told = json.dumps(merging.entry(result))
    assert secret not in told
    # The toolchain has no `cryptography`; what counts is that the key came there.
    assert "cryptography" in told or result.exit_code == 0


def test_a_sweep_goes_over_delegates_and_threads(bundle: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    words = ["device", "run", "host", str(bundle), "--sweep", "--first", "3", "-q"]
    words += ["--over", "threads=1,2", "--over", "delegate=none,reference"]
    assert run([*words, "--results", str(results)]) == 0
    found = sorted(path.parts[-3] for path in results.glob("*/*/out/result.json"))
    assert found == ["none-1", "none-2", "reference-1", "reference-2"]
    document = json.loads((results / "host/reference-2/out/result.json").read_text())
    assert (document["settings"]["delegate"], document["settings"]["threads"]) == ("reference", 2)


def test_an_emulated_board_is_swept_over_delegates_alone() -> None:
    arm = Device("pi", "emulated", machine="aarch64")
    found = sweeping.variants(arm, Asked(), {})
    assert [(each.delegate, each.threads) for each in found] == [
        ("xnnpack", 0), ("none", 0), ("reference", 0),
    ]  # fmt: skip
    assert "--no-latency" in found[0].words(arm)
    assert len(sweeping.variants(Device("me", "local"), Asked(), {})) == 9
    for wrong in ("threads=0", "threads=", "speed=1", "threads=a"):
        with pytest.raises(OptionError, match="--over takes"):
            sweeping.read([wrong])


def test_no_latency_is_shown_of_an_emulated_board() -> None:
    entry = {
        "name": "pi", "emulated": True, "settings": {"delegate": "auto", "threads": 0},
        "board": {"governor": "performance"},
        "models": [{"model": "m", "outputs": {}, "checks": [], "memory": None}],
    }  # fmt: skip
    head, rows = tables.table([entry])
    assert "delegate" not in head and rows[0][head.index("p50 ms")] == "-"
    assert any("emulated" in note for note in tables.notes([entry]))


def test_what_goes_wrong_before_a_board_is_reached(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "no.edgebundle").write_text("none")
    assert run(["device", "run", "host", str(tmp_path / "no.edgebundle")]) == 2
    assert run(["device", "run", "nobody", str(bundle)]) == 2
    assert run(["device", "run", "host", str(bundle), "--data", "x"]) == 2
    assert run(["device", "run", "host", str(tmp_path)]) == 2
    assert run(["device", "run", "host", str(bundle), "--over", "threads=1"]) == 2


def test_from_python(bundle: Path, tmp_path: Path) -> None:
    found: list[Result] = edgepipe.run_on_devices(
        ["host:reference"], bundle, results=tmp_path, latency=False, limit=3
    )
    (result,) = found
    assert result.document is not None
    assert result.document["settings"]["delegate"] == "reference"
