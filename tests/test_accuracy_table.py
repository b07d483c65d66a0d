"""`make accuracy` and the int8 table of the zoo: their figures and their failures."""

from __future__ import annotations

from pathlib import Path

import accuracy
import numpy as np
import pytest
import raw_tools
import trained
import zoo_int8

ROW = accuracy.Row("model", "way", 4)


def test_counts_on_which_samples_only_one_of_both_is_right() -> None:
    plain = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    integers = np.eye(3, dtype=np.float32)[[0, 2, 2, 1]]
    row = accuracy.compare(ROW, plain, integers, np.array([0, 1, 2, 1]))
    assert (row.accuracy, row.drop) == (75, 0)
    assert (row.float_only, row.integers_only) == (1, 1)
    assert row.agreement == 50


def test_signal_to_noise_is_in_decibels() -> None:
    plain = np.ones((2, 2), np.float32)
    assert accuracy.sqnr(plain, plain * np.float32(0.9)) == pytest.approx(20, abs=1e-4)


def test_outputs_that_hardly_vary_are_told_by_the_second_figure() -> None:
    plain = np.array([[100.0, 1], [100, -1]], np.float32)
    row = zoo_int8.compare(
        zoo_int8.Row("network", "way", 0), plain, plain * np.array([[1, 0.5]], np.float32)
    )
    assert row.sqnr_db is not None and row.sqnr_db > 40
    assert row.varying_db == pytest.approx(6.02, abs=0.01)


@pytest.mark.parametrize(
    ("own", "raw", "within"),
    [(0.4, 1.0, True), (0.6, 2.0, False), (0.4, 0.5, False), (0.0, -0.1, True), (-0.1, 0.0, True)],
)
def test_the_bound_is_half_a_point_or_half_of_the_best_raw_tool(
    own: float, raw: float, within: bool
) -> None:
    rows = [
        accuracy.Row("model", accuracy.EDGEPIPE, 9, accuracy=90, drop=own),
        accuracy.Row("model", "other", 9, said="it failed"),
        accuracy.Row("model", "another", 9, accuracy=90, drop=raw),
    ]
    assert accuracy.reached(rows) is within


def test_a_model_that_edgepipe_can_not_make_is_not_within_the_bound() -> None:
    assert not accuracy.reached([accuracy.Row("model", accuracy.EDGEPIPE, 9, said="failed")])


def test_a_drop_is_told_with_what_chance_alone_could_make_of_it() -> None:
    row = accuracy.Row(
        "model", accuracy.EDGEPIPE, 10_000, accuracy=80, drop=0.39, float_only=65, integers_only=26
    )
    assert row.chance == pytest.approx(0.19, abs=0.005)
    assert "+0.39 ± 0.19" in row.cells()


def test_absent_packages_are_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["accuracy.py", str(tmp_path), "watch-gru"])
    monkeypatch.setenv("EDGEPIPE_STORE", str(tmp_path))
    assert accuracy.main() == 1
    assert "pip download --no-deps seglearn==1.2.5" in capsys.readouterr().out


@pytest.mark.toolchain("edge")
def test_the_last_error_of_a_raw_tool_is_kept(tmp_path: Path) -> None:
    script = "import sys; print('chatter', file=sys.stderr); raise ValueError('no such scale')"
    with pytest.raises(raw_tools.ToolFailed, match="ValueError: no such scale"):
        raw_tools.call("edge", script, tmp_path / "in", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.toolchain("keras", "onnx2tf", "edge")
def test_digits_keep_their_accuracy_beside_the_raw_tools(
    tmp_path: Path, session_cache: Path
) -> None:
    digits = next(model for model in trained.MODELS if model.name == "digits")
    rows = accuracy.measure(digits, tmp_path, tmp_path / "digits")
    assert [row.way for row in rows] == [
        "float", "edgepipe", "onnx2tf + ai-edge-quantizer", "TFLiteConverter",
    ]  # fmt: skip
    assert all(row.accuracy is not None and row.accuracy > 99 for row in rows)
    assert accuracy.reached(rows)
    assert rows[1].sqnr_db > 40
