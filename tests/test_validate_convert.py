"""Validation of what `convert` made: its report says the model, and what was calibrated on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from validated_nets import dense, labelled

import edgepipe
from edgepipe.cli.main import run
from edgepipe.errors import ModelNotFound, OptionError, PathError, SamplesError

pytestmark = pytest.mark.toolchain("edge")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a float model, data for both purposes, and `int8`, what was made of them."""
    folder = tmp_path_factory.mktemp("converted")
    labelled(folder, 60, 3, "learn.npz")
    labelled(folder, 90)
    edgepipe.convert(dense(folder, "float.tflite"), out=folder / "int8", **said(folder))
    return folder


def said(folder: Path) -> dict[str, Any]:
    calibration = folder / "learn.npz"
    return {"precision": "int8", "calibration": calibration, "labels": "labels", "min_sqnr": 10}


@pytest.fixture
def folder(converted: Path, tmp_path: Path) -> Path:
    shutil.copytree(converted / "int8", tmp_path / "int8")
    return tmp_path


def test_folder_of_convert_says_what_it_was_made_of(converted: Path, folder: Path) -> None:
    found = edgepipe.validate(folder / "int8", data=converted / "data.npz")
    assert found.path == folder / "int8" / "validation.json"
    assert found.report["candidate"]["format"] == "tflite-quantized"
    assert found.report["baseline"]["file"] == str(converted / "float.tflite")
    assert {one.metric for one in found.validation.scores} >= {"top1", "agreement", "sqnr"}


def test_file_from_such_a_folder_is_known_too(converted: Path, folder: Path) -> None:
    model = next((folder / "int8").glob("*int8.tflite"))
    found = edgepipe.validate(model, data=converted / "data.npz", out=folder / "out")
    assert found.report["baseline"]["file"] == str(converted / "float.tflite")


def test_changed_file_is_no_longer_what_the_report_tells_of(converted: Path, folder: Path) -> None:
    model = next((folder / "int8").glob("*int8.tflite"))
    shutil.copy(converted / "float.tflite", model)
    with pytest.raises(PathError, match="was changed"):
        edgepipe.validate(folder / "int8", data=converted / "data.npz")
    model.unlink()
    with pytest.raises(ModelNotFound, match="not there"):
        edgepipe.validate(folder / "int8", data=converted / "data.npz")


def test_changed_float_model_is_refused(converted: Path, folder: Path) -> None:
    path = folder / "int8" / "report.json"
    report = json.loads(path.read_text())
    report["source"]["path"] = str(dense(folder, "changed.tflite", 0.3))
    path.write_text(json.dumps(report))
    with pytest.raises(PathError, match=r"changed\.tflite is not the model"):
        edgepipe.validate(folder / "int8", data=converted / "data.npz")
    (folder / "changed.tflite").unlink()
    found = edgepipe.validate(folder / "int8", data=converted / "data.npz")
    assert "can't be opened" in found.validation.absent["baseline"]


def test_samples_that_were_calibrated_on_are_refused(converted: Path, folder: Path) -> None:
    with pytest.raises(SamplesError, match=r"48 of 60 samples .* calibrated on: sample") as error:
        edgepipe.validate(folder / "int8", data=converted / "learn.npz")
    assert "--allow-leak" in error.value.hint
    found = edgepipe.validate(folder / "int8", data=converted / "learn.npz", allow_leak=True)
    assert any("48 of 60" in note for note in found.validation.notes)


def test_one_leaked_sample_among_others_is_named(converted: Path, folder: Path) -> None:
    with np.load(converted / "learn.npz") as learnt, np.load(converted / "data.npz") as other:
        report = json.loads((folder / "int8" / "report.json").read_text())
        assert len(report["calibration"]["prints"]) == 48  # A fifth of 60 is held out.
        mixed = np.concatenate([other["x"], learnt["x"]])
        labels = np.concatenate([other["labels"], learnt["labels"]])
    np.savez(folder / "mixed.npz", x=mixed[:100], labels=labels[:100])
    with pytest.raises(SamplesError) as error:
        edgepipe.validate(folder / "int8", data=folder / "mixed.npz")
    leaked = error.value.details["leaked"]
    assert 0 < len(leaked) <= 10
    assert all(int(name.split()[1]) >= 90 for name in leaked)


def test_validate_of_convert_adds_to_its_report(converted: Path, tmp_path: Path) -> None:
    result = edgepipe.convert(
        converted / "float.tflite",
        out=tmp_path / "out",
        validate=converted / "data.npz",
        limit=50,
        **said(converted),
    )
    told = json.loads(result.report_path.read_text())
    assert told == result.report
    assert told["validation"]["verdict"] == "passed"
    assert told["validation"]["data"]["samples"] == 90, "the limit is about calibration"
    assert told["outputs"] and told["routes"]


def test_command_shows_what_was_lost(
    converted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", str(converted / "float.tflite"), "-o", str(tmp_path / "out")]
    words += ["--precision", "int8", "--calibration", str(converted / "learn.npz")]
    words += ["--labels", "labels", "--min-sqnr", "10", "--validate", str(converted / "data.npz")]
    assert run(words) == 0
    assert "top1" in capsys.readouterr().out


def test_several_targets_are_validated_each(converted: Path, tmp_path: Path) -> None:
    found = edgepipe.convert_targets(
        converted / "float.tflite",
        ["tflite"],
        out=tmp_path / "out",
        validate=converted / "data.npz",
        **said(converted),
    )
    assert found.results["tflite"].report["validation"]["data"]["samples"] == 90


def test_words_about_a_validation_need_one(converted: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--gate: of use with --validate only"):
        edgepipe.convert(converted / "float.tflite", out=tmp_path / "out", gates={"a": "1"})


@pytest.mark.toolchain("vela")
def test_model_before_the_compiler_stands_in_for_a_chip(converted: Path, tmp_path: Path) -> None:
    target = {**said(converted), "target": "ethos-u55-128"}
    edgepipe.convert(converted / "float.tflite", out=tmp_path / "out", **target)
    found = edgepipe.validate(tmp_path / "out", data=converted / "data.npz")
    assert found.report["candidate"]["file"].endswith("model_int8.tflite")
    assert any("stand-in for model_vela.tflite" in note for note in found.validation.notes)
    shutil.copy(tmp_path / "out" / "model_vela.tflite", tmp_path / "lone.tflite")
    with pytest.raises(OptionError, match="compiled for a chip, and nothing here runs it"):
        edgepipe.validate(tmp_path / "lone.tflite", data=converted / "data.npz")


def test_document_says_what_was_asked(converted: Path, folder: Path) -> None:
    found = edgepipe.validate(folder / "int8", data=converted / "data.npz", worst=3, seed=4)
    assert found.report["asked"] == {
        "artifact": str(folder / "int8"),
        "data": str(converted / "data.npz"),
        "worst": 3,
        "seed": 4,
    }


@pytest.mark.parametrize("how", ["table", "file"])
def test_preprocessing_of_the_conversion_is_taken(tmp_path: Path, how: str) -> None:
    """A float conversion without samples: nothing but its request tells of the preprocessing."""
    with np.load(labelled(tmp_path, 40)) as file:
        np.savez(tmp_path / "raw.npz", x=file["x"] * 10 + 3, labels=file["labels"])
    table = tmp_path / "steps.toml"
    table.write_text("[preprocessing]\nmean = 3.0\nstd = 10.0\n")
    said: Any = {"mean": 3.0, "std": 10.0} if how == "table" else table
    source = dense(tmp_path, "float.tflite")
    result = edgepipe.convert(
        source, out=tmp_path / "out", preprocessing=said, validate=tmp_path / "raw.npz"
    )
    (then,) = [one for one in result.report["validation"]["scores"] if one["metric"] == "top1"]
    found = edgepipe.validate(tmp_path / "out", data=tmp_path / "raw.npz")
    (now,) = [one for one in found.report["scores"] if one["metric"] == "top1"]
    assert then["candidate"]["value"] == now["candidate"]["value"] == pytest.approx(90.0)


def test_validation_of_another_model_goes_when_it_is_converted_anew(
    converted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    edgepipe.convert(converted / "float.tflite", out=out, **said(converted))
    document = edgepipe.validate(out, data=converted / "data.npz").path
    edgepipe.convert(converted / "float.tflite", out=out, **said(converted))
    assert document.exists(), "the same model: it still holds"
    assert run(["verify", str(out)]) == 0
    edgepipe.convert(dense(tmp_path, "new.tflite", 0.4), out=out, **said(converted))
    assert not document.exists()
    assert run(["verify", str(out)]) == 0
    document.write_text("[]")
    edgepipe.convert(converted / "float.tflite", out=out, **said(converted))
    assert document.read_text() == "[]", "it may be anybody's"
