"""The comparison of integers with floats: what it counts, what it fails on, what it notes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgepipe import quantized_verify
from edgepipe.artifact import Port, Signature
from edgepipe.proof import QUANTIZED, Proof

RANDOM = np.random.default_rng(0)


def compare(wanted: Any, received: Any, dtype: str = "int8", labels: Any = ()) -> Proof:
    """Of one output; the first sample is run again at the end."""
    ends = Signature((), (Port("y", wanted[0].shape, dtype),))
    both = [[{"y": one} for one in (*side, side[0])] for side in (wanted, received)]
    return quantized_verify.compare(both[0], both[1], ends, QUANTIZED, labels)


def rows(count: int, size: int) -> Any:
    return RANDOM.normal(size=(count, 1, size)).astype(np.float32)


def test_noise_and_signal_are_summed_over_all_samples() -> None:
    wanted = rows(50, 8)
    wanted[7] = 0  # alone it would have no signal at all
    noise = 0.05 * RANDOM.normal(size=wanted.shape).astype(np.float32)
    proof = compare(wanted, wanted + noise)
    expected = 10 * np.log10(np.square(wanted).sum() / np.square(noise).sum())
    assert proof.sqnr_db == pytest.approx(expected, abs=1e-3)
    assert proof.proven and proof.samples == 50
    assert proof.outputs[0].cosine == pytest.approx(1, abs=0.01)


def test_less_than_the_limit_fails() -> None:
    wanted = rows(50, 8)
    proof = compare(wanted, wanted + 0.3 * RANDOM.normal(size=wanted.shape).astype(np.float32))
    assert not proof.proven and "expected at least 20 dB" in proof.why()


@pytest.mark.parametrize("change", ["nan", "shape", "random", "name"])
def test_what_no_measure_would_excuse_fails(change: str) -> None:
    wanted = rows(5, 8)
    received = wanted.copy()
    if change == "nan":
        received[2, 0, 3] = np.nan
    if change == "shape":
        received = received.reshape(5, 8, 1)
    ends = Signature((), (Port("y", (1, 8), "int8"),))
    reference = [{"y": one} for one in (*wanted, wanted[0])]
    last = received[0] + (change == "random")
    name = "z" if change == "name" else "y"
    candidate = [{name: one} for one in (*received, last)]
    assert not quantized_verify.compare(reference, candidate, ends, QUANTIZED).proven


def test_accuracy_counts_both_on_the_same_samples() -> None:
    labels = [0, 1, 2, 3, -1]
    wanted = np.eye(4, dtype=np.float32)[[0, 1, 2, 0, 0]][:, None]
    received = np.eye(4, dtype=np.float32)[[0, 1, 3, 3, 0]][:, None]
    assert compare(wanted, received, labels=labels).accuracy == {
        "samples": 4,
        "float": 0.75,
        "quantized": 0.75,
        "only_float_right": 1,
        "only_quantized_right": 1,
    }
    assert compare(wanted, received).accuracy is None


def test_classes_that_are_integers_must_mostly_agree() -> None:
    wanted = RANDOM.integers(0, 9, (100, 1)).astype(np.int32)
    received = wanted.copy()
    received[:5] += 1
    assert compare(wanted, received, "int32").proven
    received[:30] += 1
    assert "same integer" in compare(wanted, received, "int32").why()


def test_probabilities_that_no_longer_sum_to_one_are_noted() -> None:
    logits = 4 * rows(20, 10)
    wanted = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    proof = compare(wanted, 3 * wanted)
    assert any("sums to 1 in the float model" in note for note in proof.notes)
    assert not any("sums to 1" in note for note in compare(wanted, wanted).notes)


def test_probabilities_below_the_step_of_int8_are_named_as_that() -> None:
    wanted = np.full((5, 1, 1000), 1e-3, np.float32)
    why = compare(wanted, np.zeros_like(wanted)).why()
    assert "exact ones would have 0.0 dB in steps of 0.00390625" in why
    large = np.zeros((5, 1, 4), np.float32)
    large[..., 1] = 1
    assert "exact ones" not in compare(large, large[..., ::-1]).why()


def test_columns_of_unlike_ranges_are_noted() -> None:
    wanted = rows(40, 4) * np.asarray([640, 640, 640, 1], np.float32)
    notes = compare(wanted, wanted).notes
    assert any("index 3 of axis 1" in note for note in notes)
    assert not compare(rows(40, 4), rows(40, 4)).notes
