"""Which targets suit a model: verdicts on real conversions, in a table and in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from int8_models import saved
from tflite_models import Maker

import edgepipe
from edgepipe import advice
from edgepipe.advice import FITS, NO, PARTLY
from edgepipe.cli.main import run
from edgepipe.errors import MissingError, OptionError, UnknownName
from edgepipe.report.target_row import TargetRow

DIGITS = Path(__file__).parents[1] / "examples" / "digits_keras"
MODEL = DIGITS / "digits.h5"
DATA = DIGITS / "calibration.npz"
needs_all = pytest.mark.toolchain("keras", "onnx2tf", "edge", "openvino", "vela")
COLUMNS = 100


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("EDGETPU_COMPILER", raising=False)


@needs_all
@pytest.mark.usefixtures("without_compiler")
def test_small_network_fits_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["advise", str(MODEL), "--data", str(DATA), "-q", "-o", str(tmp_path / "out")]
    assert run(words) == 0
    table = capsys.readouterr().out.splitlines()[: 1 + len(advice.TARGETS)]
    assert max(map(len, table)) <= COLUMNS
    assert [line.split()[:2] for line in table[1:]] == [[name, FITS] for name in advice.TARGETS]
    assert (tmp_path / "out" / "tflite" / "model_int8.tflite").is_file()

    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert sorted(found["fitting"]) == sorted(advice.TARGETS)
    rows = {row["target"]: row for row in found["targets"]}
    latencies = [rows[name]["latency_ms"] for name in found["fitting"]]
    assert latencies == sorted(latencies)
    assert [line for line in found["words"] if line.startswith("edgetpu: its mapping is foretold")]


@needs_all
@pytest.mark.usefixtures("without_compiler")
def test_operator_that_keeps_a_chip_from_fitting_is_named(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    made = Maker(1, 4, 8)
    weights = random.normal(size=(8, 8)).astype(np.float32)
    dense = made.op("FULLY_CONNECTED", made.x, weights, shape=(1, 4, 8), keep_num_dims=True)
    bent = made.op("BATCH_MATMUL", dense, made.x, shape=(1, 4, 4), adj_y=True)
    model = saved(made.model(bent), tmp_path / "attention.tflite")
    data = tmp_path / "data.npy"
    np.save(data, random.normal(size=(40, 4, 8)).astype(np.float32))
    found = edgepipe.advise(model, data, targets=["tflite", "edgetpu"])
    verdicts = {one.target: one for one in found.verdicts}
    assert verdicts["edgetpu"].verdict == PARTLY
    assert any("BATCH_MATMUL" in line for line in verdicts["edgetpu"].why)
    assert not any("BATCH_MATMUL" in line for line in verdicts["tflite"].why)
    assert "edgetpu" not in [one.target for one in found.fitting]


@needs_all
def test_limits_that_a_chip_misses_are_a_verdict(tmp_path: Path) -> None:
    found = edgepipe.advise(MODEL, DATA, targets=["tflite", "ethos-u55-256"], max_sram="1K")
    tflite, ethosu = found.verdicts
    assert (tflite.verdict, ethosu.verdict) == (FITS, NO)
    assert "1.0 KiB" in " ".join(ethosu.why)


@needs_all
def test_random_data_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["advise", str(MODEL), "--data", "random", "--limit", "8", "--target", "tflite", "-q"]
    assert run(words) == 0
    assert "random data: agreement with float means nothing" in capsys.readouterr().out


def test_what_is_missing_for_all_targets_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPIPE_CACHE", str(tmp_path))
    with pytest.raises(MissingError):
        edgepipe.advise(MODEL, DATA, targets=["tflite", "openvino"])


def test_samples_and_targets_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="needs samples"):
        edgepipe.advise(MODEL)
    with pytest.raises(UnknownName, match="openvimo"):
        edgepipe.advise(MODEL, DATA, targets=["openvimo"])


def _row(**facts: Any) -> TargetRow:
    return TargetRow("tflite", "int8", "done", 0, size=1, **facts)


@pytest.mark.parametrize(
    ("only_float", "only_int8", "words"),
    [
        (30, 5, "int8 loses accuracy: 90.0% right before, 87.5% after"),
        (25, 0, "int8 loses accuracy: 90.0%"),
        (220, 195, "int8 may lose accuracy, too few samples to tell"),
        (5, 30, ""),
        (8, 0, ""),  # surely lost, and less than what may be
    ],
)
def test_lost_answers_are_told_from_chance(only_float: int, only_int8: int, words: str) -> None:
    after = 0.9 - (only_float - only_int8) / 1000
    found = advice._lost(
        _row(
            accuracy={
                "samples": 1000,
                "float": 0.9,
                "quantized": after,
                "only_float_right": only_float,
                "only_quantized_right": only_int8,
            }
        )
    )
    assert [line.startswith(words) for line in found] == ([True] if words else [])


def test_changed_answers_count_where_nothing_is_labelled() -> None:
    assert advice._lost(_row(argmax_agreement=0.97)) == []
    assert "91.0%" in advice._lost(_row(argmax_agreement=0.91))[0]
