"""One model for several targets: a folder and a row for each, and one report on top."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import edgepipe
from edgepipe import errors, several_targets
from edgepipe.cli import target_table
from edgepipe.cli.main import run
from edgepipe.errors import BelowLimit, EdgepipeError, ModelNotFound, OptionError, UnknownName
from edgepipe.report.target_row import ESTIMATED, MEASURED

DIGITS = Path(__file__).parents[1] / "examples" / "digits_keras"
MODEL = DIGITS / "digits.h5"
DATA: dict[str, Any] = {
    "precision": "int8",
    "calibration": DIGITS / "calibration.npz",
    "samples": DIGITS / "held_out.npz",
}
needs_all = pytest.mark.toolchain("keras", "onnx2tf", "edge", "openvino", "vela")
COLUMNS = 100


@needs_all
def test_each_target_has_a_folder_and_a_row(
    tmp_path: Path, fresh_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("EDGETPU_COMPILER", raising=False)
    names = ["ethos-u55-256", "tflite", "openvino", "edgetpu"]
    found = edgepipe.convert_targets(MODEL, names, out=tmp_path / "out", max_sram="16K", **DATA)
    rows = {row.target: row for row in found.rows}
    assert list(rows) == names
    for name in ("ethos-u55-256", "tflite", "openvino"):
        model = found.results[name].model
        assert rows[name].model == f"{name}/{model.name}"
        assert model.parent == tmp_path / "out" / name
        assert (rows[name].status, rows[name].exit_code) == ("done", 0)
    for row in rows.values():
        assert row.size and row.precision == "int8"
        assert row.sqnr_db is not None and row.sqnr_db > 20
        assert row.argmax_agreement is not None and row.argmax_agreement > 0.95
        assert row.latency_ms is not None and row.latency_ms > 0
        assert row.accuracy is not None and row.accuracy["samples"] == 360

    assert rows["tflite"].latency_is == rows["openvino"].latency_is == MEASURED
    assert rows["edgetpu"].latency_is == rows["ethos-u55-256"].latency_is == ESTIMATED
    vela, tpu = rows["ethos-u55-256"], rows["edgetpu"]
    assert (vela.accelerated, vela.mapping) == (vela.ops, "compiled")
    assert vela.memory_bytes is not None and vela.memory_bytes <= 16 << 10
    assert (tpu.accelerated, tpu.mapping, tpu.streamed_bytes) == (tpu.ops, "foretold", 0)
    assert rows["openvino"].memory_of == "process"
    weights = found.results["openvino"].model / "model.bin"
    assert (rows["openvino"].memory_bytes or 0) > weights.stat().st_size
    assert rows["tflite"].accelerated is None
    assert rows["tflite"].notes == ("--max-sram is not for tflite and not used there",)

    # All but the compiler, which isn't here: the others are not stopped, and it is told.
    assert (tpu.status, tpu.exit_code, found.exit_code) == ("incomplete", 3, 3)
    with pytest.raises(errors.ToolMissing, match="1 of 4 targets"):
        found.check()
    assert json.loads(found.report_path.read_text()) == found.report
    assert [row["target"] for row in found.report["targets"]] == names

    steps = found.results["openvino"].report["routes"][0]["steps"]
    assert [step["status"] for step in steps[:2]] == ["kept", "kept"]
    table = target_table.lines(found.rows)
    assert max(map(len, table)) <= COLUMNS
    assert [line.split()[0] for line in table[1:]] == names


@needs_all
def test_target_that_fails_does_not_stop_the_next(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", str(MODEL), "--precision", "int8", "--max-sram", "1K"]
    words += ["--calibration", str(DATA["calibration"]), "-o", str(tmp_path / "out")]
    assert run([*words, "--target", "ethos-u55-256", "--target", "tflite"]) == 5
    told = capfd.readouterr()
    assert "1 of 2 targets didn't get to their end" in told.err
    row, other = [line for line in told.out.splitlines() if "int8" in line]
    assert row.split()[:3] == ["ethos-u55-256", "int8", "failed"]
    assert other.startswith("tflite") and "meas." in other
    assert (tmp_path / "out" / "tflite" / "model_int8.tflite").is_file()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["exit_code"] == 5
    assert report["targets"][0]["error"]["error"] == BelowLimit.__name__


@needs_all
def test_json_is_one_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", str(MODEL), "--json", "-o", str(tmp_path / "out")]
    assert run([*words, "--target", "onnx", "--target", "tflite"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["target"] for row in document["targets"]] == ["onnx", "tflite"]
    assert [row["precision"] for row in document["targets"]] == ["float32", "float32"]


@needs_all
def test_what_is_wrong_for_all_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(EdgepipeError) as caught:
        edgepipe.convert_targets(MODEL, ["onnx", "tflite"], inputs=["no=1x3"], out=tmp_path / "out")
    assert "of 2 targets" not in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("names", "arguments", "kind", "words"),
    [
        (["tflite", "openvino"], {"max_sram": "1M"}, OptionError, "--max-sram: for none of"),
        (["tflite", "tflite"], {}, OptionError, "named once"),
        ([], {}, OptionError, "received none"),
        (["tflite", "onnx"], {"route": "tf2onnx"}, OptionError, "--route"),
        (["tflite", "edgetpu"], {"precision": "int8"}, OptionError, "target tflite: .*samples"),
        (["tflite", "edgetpo"], {}, UnknownName, "edgetpo"),
        (["tflite", "edgetpu"], {"precision": "float32"}, UnknownName, "target edgetpu"),
    ],
)
def test_what_one_target_can_not_do_is_said_before_any_work(
    tmp_path: Path, names: list[str], arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        edgepipe.convert_targets(MODEL, names, out=tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_no_model_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        edgepipe.convert_targets(tmp_path / "no.h5", ["tflite", "onnx"], out=tmp_path / "out")


def test_convert_keeps_to_one_target() -> None:
    with pytest.raises(OptionError) as caught:
        edgepipe.convert(MODEL, target=["tflite", "onnx"])
    assert "convert_targets" in caught.value.hint


def test_every_exit_code_has_its_place_among_the_worst() -> None:
    codes = {kind.exit_code for kind in errors._by_name().values()}
    assert set(several_targets.WORST_FIRST) == codes | {0}


def test_dry_run_shows_the_routes_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["convert", str(MODEL), "--dry-run", "--target", "onnx", "--target", "tflite"]
    assert run(words) == 0
    told = capsys.readouterr().out
    assert "target onnx" in told and "target tflite" in told
    assert run([*words, "--json"]) == 2
