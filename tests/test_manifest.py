"""manifest.json of a result: what it lists, what verify finds, what the store brings back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import edgepipe
from edgepipe import manifest
from edgepipe.artifact import digest_file
from edgepipe.cli.main import run
from edgepipe.errors import PathError, UsageError

DIGITS = Path(__file__).parents[1] / "examples" / "digits_keras" / "digits.h5"
needs_all = pytest.mark.toolchain("keras", "onnx2tf", "edge")


@needs_all
def test_result_is_verified_and_repaired_from_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    result = edgepipe.convert(DIGITS, out=out)
    listed = json.loads((out / "manifest.json").read_text())["files"]
    assert set(listed) == {path.name for path in out.iterdir()} - {"manifest.json"}
    assert set(listed) == {"model.onnx", "model_float32.tflite", "report.html", "report.json"}
    for name, file in listed.items():
        assert file["sha256"] == digest_file(out / name)
        assert file["size"] == (out / name).stat().st_size
    assert run(["verify", str(out)]) == 0
    assert "4 of 4 files" in capsys.readouterr().out

    whole = result.model.read_bytes()
    result.model.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))  # One bit of the last byte.
    (out / "model.onnx").unlink()
    (out / "notes.txt").write_text("mine")
    assert run(["verify", str(out)]) == 5
    told = capsys.readouterr().out
    assert "changed: model_float32.tflite, the store has it whole" in told
    assert "missing: model.onnx" in told and "added: notes.txt" in told
    assert "2 of 4 files" in told

    assert run(["verify", str(out), "--repair", "--allow-added"]) == 0
    assert result.model.read_bytes() == whole
    assert run(["verify", str(out), "--json"]) == 5
    document = json.loads(capsys.readouterr().out.split("as they were written\n")[-1])
    assert (document["added"], document["changed"], document["missing"]) == (["notes.txt"], [], [])


@needs_all
def test_folders_and_several_targets_are_listed_file_by_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    edgepipe.convert_targets(DIGITS, ["onnx", "tflite"], out=out)
    files = manifest.read(out)
    assert {"report.json", "onnx/manifest.json", "onnx/model.onnx", "tflite/report.json"} <= set(
        files
    )
    assert manifest.verify(out).whole
    (out / "onnx" / "model.onnx").write_bytes(b"no model")
    assert manifest.verify(out).changed == ("onnx/model.onnx",)
    assert manifest.verify(out / "tflite").whole


def test_lost_store_is_said(tmp_path: Path, fresh_store: Path) -> None:
    (tmp_path / "model").write_bytes(b"bytes")
    manifest.write(tmp_path, ["model"], {"model": "0" * 64})
    assert manifest.verify(tmp_path).kept == {"model": "gone"}
    (tmp_path / "model").unlink()
    found = manifest.verify(tmp_path, repair=True)
    assert (found.missing, found.restored) == (("model",), ())


def test_later_files_are_added(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    assert manifest.add(tmp_path, ["b"]) is None, "no run left a manifest here"
    manifest.write(tmp_path, ["a"])
    assert manifest.verify(tmp_path).added == ("b",)
    manifest.add(tmp_path, ["b"])
    assert manifest.verify(tmp_path).added == ()


def _document(**files: Any) -> str:
    return json.dumps({"schema": 1, "edgepipe": "0", "files": files})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("no json", "damaged"),
        ("[]", "damaged"),
        ('{"schema": 9, "files": {}}', "schema 9, expected 1"),
        (_document(a=3), "damaged"),
        (_document(a={"sha256": "", "size": 0, "store": "../../key"}), "the store's key"),
        (_document(**{"../a": {"sha256": "", "size": 0}}), "outside of its folder"),
    ],
)
def test_damaged_manifest_is_one_clear_error(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UsageError, match=words):
        manifest.verify(tmp_path)


def test_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(PathError, match=r"no manifest\.json"):
        manifest.verify(tmp_path)
    with pytest.raises(PathError, match="is no folder"):
        manifest.verify(tmp_path / "none")
