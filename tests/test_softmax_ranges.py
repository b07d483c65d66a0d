"""The range of what a softmax reads, chosen by what the softmax makes of it."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_net import SIZE, Net

import edgepipe
from edgepipe.tflite import loading
from edgepipe.tflite.graph import Tensor

ranges: Any = importlib.import_module("edgepipe.quantization.softmax_ranges")


def logits(count: int, classes: int = 10, seed: int = 0) -> np.ndarray[Any, Any]:
    """Mostly far apart; of one row in ten the two largest are close."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, classes)) * 5
    close = random.random(count) < 0.1
    largest = np.argsort(rows, -1)
    rows[np.arange(count), largest[:, -2]] = np.where(
        close, rows.max(-1) - random.random(count) * 0.3, rows[np.arange(count), largest[:, -2]]
    )
    return rows.astype(np.float32)


def range_of(rows: Any, beta: float = 1.0) -> Any:
    kept = ranges.Rows()
    for row in rows:
        kept.add(row[None])
    return kept.range(beta)


def stored(rows: Any, low: float, high: float) -> Any:
    scale = (high - low) / 255
    return np.clip(np.rint(rows / scale) + round(-low / scale), 0, 255)


def tied(rows: Any, low: float, high: float) -> int:
    integers = stored(rows, low, high)
    return int((np.sum(integers == integers.max(-1, keepdims=True), -1) > 1).sum())


def test_fewer_classes_get_the_same_integer() -> None:
    low, high = range_of(logits(500))
    others = logits(4000, seed=1)
    assert 2 * tied(others, low, high) < tied(others, float(others.min()), float(others.max()))


def test_what_is_close_everywhere_keeps_its_whole_range() -> None:
    rows = np.random.default_rng(0).uniform(-1, 1, (300, 5)).astype(np.float32)
    low, high = range_of(rows)
    assert low == pytest.approx(rows.min()) and high == pytest.approx(rows.max())


def test_beta_makes_differences_larger() -> None:
    """With ten times the beta, what lies a tenth as far below counts as little."""
    wide = range_of(logits(300))
    assert range_of(logits(300) / 10, beta=10.0) == pytest.approx([end / 10 for end in wide])


def test_memory_stays_flat_and_rows_come_from_all_samples() -> None:
    kept = ranges.Rows()
    for number in range(20_000):
        kept.add(np.full((40, 16), number, np.float32))
    values = np.concatenate(kept.kept)
    assert values.size <= ranges.MOST_NUMBERS
    assert values.min() < 1000 and values.max() > 19_000
    assert len(np.unique(values[values < 10_000])) > 100


@pytest.mark.parametrize(
    "rows", [np.zeros((3, 4)), np.full((3, 4), np.nan), np.full((2, 3), -np.inf), np.zeros((0, 4))]
)
def test_rows_without_a_choice_leave_the_method_its_range(rows: Any) -> None:
    kept = ranges.Rows()
    if len(rows):
        kept.add(rows.astype(np.float32))
    assert kept.range(1.0) is None


def classifier(folder: Path, *, read_twice: bool = False) -> Path:
    net = Net()
    net.input.shape = (1, SIZE)
    shape = Tensor.constant("shape", np.array([1, SIZE], np.int32))
    scores = net.op("RESHAPE", "scores", net.dense("d", net.input, 8.0), shape, size=SIZE)
    answer = net.op("SOFTMAX", "y", scores, beta=1.0)
    return net.save(folder / "float.tflite", *([answer, scores] if read_twice else [answer]))


def scale_of(model: Path, kind: str) -> float:
    (op,) = loading.load(model).main.operators(kind)
    assert op.inputs[0] is not None and op.inputs[0].quantization is not None
    return op.inputs[0].quantization.scales[0]


def convert(model: Path, **more: Any) -> edgepipe.Result:
    data = np.random.default_rng(1).normal(size=(300, 1, SIZE)).astype(np.float32)
    np.savez(model.with_name("data.npz"), x=data)
    return edgepipe.convert(
        model,
        precision="int8",
        calibration=model.with_name("data.npz"),
        out=model.with_name("out"),
        repair="off",
        **more,
    )


@pytest.mark.toolchain("edge")
def test_a_classifier_gains_and_can_be_left_as_it_was(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    off = {"tflite_quantize": {"softmax_ranges": False}}
    before = convert(model, options=off)
    coarse = scale_of(before.model, "SOFTMAX")
    after = convert(model)
    assert scale_of(after.model, "SOFTMAX") < 0.7 * coarse
    assert before.sqnr_db is not None and after.sqnr_db is not None
    assert after.sqnr_db > before.sqnr_db + 2


@pytest.mark.toolchain("edge")
def test_scores_that_are_an_output_too_keep_their_range(tmp_path: Path) -> None:
    model = classifier(tmp_path, read_twice=True)
    coarse = scale_of(
        convert(model, options={"tflite_quantize": {"softmax_ranges": False}}).model, "SOFTMAX"
    )
    assert scale_of(convert(model).model, "SOFTMAX") == coarse


@pytest.mark.toolchain("edge")
def test_a_bias_is_not_corrected_for_what_a_range_cuts_off(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    plain = convert(model).sqnr_db
    corrected = convert(model, options={"tflite_quantize": {"bias_correction": True}}).sqnr_db
    assert plain is not None and corrected is not None
    assert corrected > plain - 3


def test_rows_of_another_length_are_passed_over() -> None:
    """How many positions a model looks at may depend on its data."""
    rows, same = ranges.Rows(), ranges.Rows()
    first = np.random.default_rng(0).normal(0, 4, (4, 10)).astype(np.float32)
    for one in (rows, same):
        one.add(first)
    rows.add(np.ones((4, 12), np.float32))
    assert rows.range(1.0) == same.range(1.0) is not None
