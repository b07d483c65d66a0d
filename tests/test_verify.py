"""The comparator: each of its numbered cases, and figures that JSON knows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepipe.artifact import Port, Signature
from edgepipe.errors import OptionError
from edgepipe.figures import relative_error, sqnr_db
from edgepipe.proof import PERFECT_DB, WORST_ERROR, Proof, Tolerance
from edgepipe.verify import compare, without_overflows

Array = NDArray[Any]
Samples = list[dict[str, Array]]


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def runs(*columns: Array, names: Sequence[str] = ("y",)) -> Samples:
    """One array an output, its first axis the samples; the first sample comes again at the end."""
    count = len(columns[0])
    samples = [dict(zip(names, (c[index] for c in columns), strict=True)) for index in range(count)]
    return [*samples, {name: array.copy() for name, array in samples[0].items()}]


def ends(samples: Samples) -> Signature:
    ports = (Port(name, array.shape, str(array.dtype)) for name, array in samples[0].items())
    return Signature((), tuple(ports))


def prove(reference: Samples, candidate: Samples, **tolerance: float) -> Proof:
    return compare(reference, candidate, ends(reference), Tolerance(**tolerance))


def refused(reference: Samples, candidate: Samples, words: str) -> bool:
    proof = prove(reference, candidate)
    assert words in proof.why()
    return not proof.proven


def test_proves_what_float_rounding_leaves() -> None:
    y = noise(4, 1, 10)
    proof = prove(runs(y), runs(y * np.float32(1 + 1e-6)))
    assert proof.proven
    assert proof.why() == ""
    assert proof.samples == 4
    assert 110 < proof.sqnr_db < 130
    (output,) = proof.outputs
    assert output.relative_error == pytest.approx(1e-6, rel=0.2)
    assert output.argmax_agreement == 1


# (1) names and order


def test_swapped_names_are_told_from_other_names() -> None:
    a, b = noise(3, 1, 4), noise(3, 1, 4, seed=1)
    reference = runs(a, b, names=("boxes", "scores"))
    assert refused(reference, runs(b, a, names=("scores", "boxes")), "in another order")
    assert refused(reference, runs(a, b, names=("boxes", "probs")), "under other names")
    assert refused(reference, runs(a, names=("boxes",)), "under other names")


def test_swapped_outputs_under_the_right_names_are_caught() -> None:
    a, b = noise(3, 1, 4), noise(3, 1, 4, seed=1)
    names = ("boxes", "scores")
    proof = prove(runs(a, b, names=names), runs(b, a, names=names))
    assert [bool(output.failures) for output in proof.outputs] == [True, True]
    assert proof.why().startswith("output 'boxes': ")


def test_output_that_the_signature_leaves_out_does_not_go_unproven() -> None:
    samples = runs(noise(2, 3), noise(2, 3, seed=1), names=("a", "b"))
    signature = Signature((), (Port("a", (3,), "float32"),))
    proof = compare(samples, samples, signature, Tolerance())
    assert not proof.proven
    assert "expected ['a', 'b'], received ['a']" in proof.why()


@pytest.mark.parametrize("samples", [[], runs(noise(1, 2))[:1], [{}, {}]])
def test_comparing_nothing_proves_nothing(samples: Samples) -> None:
    proof = compare(samples, samples, Signature((), ()), Tolerance())
    assert not proof.proven
    assert "nothing to compare" in proof.why()


def test_missing_samples_are_no_proof() -> None:
    reference = runs(noise(4, 3))
    assert refused(reference, reference[:3], "it ran on 3 samples of 5")


# (2) shapes, layouts, types


def test_other_shape_is_named() -> None:
    y = noise(2, 1, 3, 4)
    assert refused(runs(y), runs(y.reshape(2, 1, 12)), "shape [1, 12], expected [1, 3, 4]")
    assert refused(runs(noise(2)), runs(noise(2).reshape(2, 1)), "shape [1], expected []")


def test_other_layout_under_the_same_shape_is_caught() -> None:
    y = noise(2, 1, 4, 4, 4)
    assert refused(runs(y), runs(y.transpose(0, 1, 4, 2, 3)), "dB, expected at least 50 dB")


@pytest.mark.parametrize(
    ("wanted", "received", "proven"),
    [
        ("int64", "int32", True),
        ("int64", "uint8", True),
        ("float64", "float32", True),
        ("float32", "float16", True),
        ("bool", "bool", True),
        ("int64", "float32", False),
        ("float32", "int32", False),
        ("bool", "int8", False),
        ("int8", "bool", False),
    ],
)
def test_width_of_a_type_may_change_and_its_kind_not(
    wanted: str, received: str, proven: bool
) -> None:
    y = np.array([[0, 1, 1, 0], [1, 1, 0, 0]])
    proof = prove(runs(y.astype(wanted)), runs(y.astype(received)))
    assert proof.proven is proven
    assert proven or f"type {received}, expected {wanted}" in proof.why()


def layout_case(y: Array) -> tuple[Samples, Samples, Signature]:
    """The tool wrote NHWC and said nothing: the runner hands it on as it is in the file."""
    reference, candidate = runs(y), runs(y.transpose(0, 1, 3, 4, 2))
    return reference, candidate, ends(candidate)


def test_layout_that_the_tool_left_open_is_settled_by_value() -> None:
    reference, candidate, signature = layout_case(noise(3, 1, 4, 4, 4))
    guesses = {"y": [None, (0, 3, 1, 2), (0, 2, 3, 1)]}
    proof = compare(reference, candidate, signature, Tolerance(), guesses)
    assert proof.proven
    assert proof.permutations == {"y": (0, 2, 3, 1)}
    assert Proof.from_json(json.loads(json.dumps(proof.to_json()))) == proof


def test_layout_is_settled_by_the_samples_that_tell() -> None:
    y = noise(3, 1, 4, 4, 4)
    y[0] = 0  # Under every layout the same.
    reference, candidate, signature = layout_case(y)
    guesses = {"y": [None, (0, 2, 3, 1)]}
    proof = compare(reference, candidate, signature, Tolerance(), guesses)
    assert proof.proven
    assert proof.permutations == {"y": (0, 2, 3, 1)}


def test_first_guess_stands_where_no_value_tells() -> None:
    y = np.ones((3, 1, 4, 4, 4), np.float32)
    guesses = {"y": [(0, 2, 3, 1), None]}
    proof = compare(runs(y), runs(y), ends(runs(y)), Tolerance(), guesses)
    assert proof.permutations == {"y": (0, 2, 3, 1)}


def test_no_layout_makes_a_wrong_output_right() -> None:
    reference, candidate, signature = layout_case(noise(3, 1, 4, 4, 4))
    wrong = [{"y": sample["y"] * 2} for sample in candidate]
    for guesses in ([None, (0, 2, 3, 1)], [(1, 0)]):
        assert not compare(reference, wrong, signature, Tolerance(), {"y": guesses}).proven


# (3) NaN and infinity


@pytest.mark.parametrize("special", [math.nan, math.inf, -math.inf])
def test_special_value_where_the_model_gives_numbers(special: float) -> None:
    y = noise(3, 1, 50)
    broken = y.copy()
    broken[1, 0, 7] = special
    assert refused(runs(y), runs(broken), "NaN or infinity where the model gives numbers")


def test_masks_of_minus_infinity_are_part_of_the_output() -> None:
    y = noise(3, 1, 8)
    y[:, 0, 2] = -math.inf
    assert prove(runs(y), runs(y)).proven
    for other in (math.inf, math.nan, -3.4e38):
        changed = np.where(np.isinf(y), np.float32(other), y)
        assert refused(runs(y), runs(changed), "or the other way round")


def test_samples_that_the_model_itself_fails_on_are_left_out_and_noted() -> None:
    y = noise(4, 1, 8)
    reference, candidate = y.copy(), y.copy()
    reference[2] = math.nan
    candidate[2] = 5
    proof = prove(runs(reference), runs(candidate))
    assert proof.proven
    assert "1 samples on which the model gives NaN" in proof.notes[0]
    candidate[1] = 5
    assert not prove(runs(reference), runs(candidate)).proven


def test_model_that_gives_only_nan_proves_nothing() -> None:
    y = np.full((3, 1, 4), math.nan, np.float32)
    assert refused(runs(y), runs(y), "nothing but NaN or infinity in output 'y'")


@pytest.mark.parametrize(("far", "left"), [([], 4), ([2, 3], 3), ([0, 1], 4)])
def test_only_far_samples_may_overflow(far: list[int], left: int) -> None:
    y = noise(4, 1, 8)
    broken = y.copy()
    broken[3, 0, 1] = math.inf
    reference, candidate, notes = without_overflows(runs(y), runs(broken), far)
    assert len(reference) - 1 == len(candidate) - 1 == left
    assert prove(reference, candidate).proven is (left == 3)
    assert bool(notes) is (left == 3)


def test_far_samples_that_overflow_on_both_sides_are_left_to_the_comparison() -> None:
    y = noise(4, 1, 8)
    y[3, 0, 1] = math.inf
    reference, candidate, notes = without_overflows(runs(y), runs(y), [3])
    assert (len(reference), len(candidate), notes) == (5, 5, ())


# (4) noise and error


def test_small_change_in_one_place_is_an_error_though_the_noise_is_low() -> None:
    y = noise(2, 100_000)
    changed = y.copy()
    changed[1, 5] += 0.5
    (output,) = prove(runs(y), runs(changed)).outputs
    assert output.sqnr_db > 50
    assert "of its range, expected 0.02" in output.failures[0]


def test_tolerances_are_what_is_measured_against() -> None:
    y = noise(4, 1, 1000)
    candidate = y + 1e-2 * noise(4, 1, 1000, seed=1)
    assert not prove(runs(y), runs(candidate)).proven
    assert prove(runs(y), runs(candidate), sqnr_db=35, argmax_agreement=0).proven
    assert not prove(
        runs(y), runs(candidate), sqnr_db=35, argmax_agreement=0, relative_error=1e-4
    ).proven


@pytest.mark.parametrize("name", ["sqnr_db", "relative_error", "argmax_agreement"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -500, 201])
def test_tolerance_that_nothing_can_fail_is_refused(name: str, value: float) -> None:
    with pytest.raises(OptionError, match=name):
        Tolerance(**{name: value})


def test_saturated_sample_is_measured_against_the_range_of_the_output() -> None:
    y = np.array([[[0.4]], [[0.9]], [[2e-22]], [[1e-39]], [[0.0]]], np.float32)
    other = np.array([[[0.4]], [[0.9]], [[3e-22]], [[0.0]], [[1e-9]]], np.float32)
    assert prove(runs(y), runs(other)).proven
    other[2] = 0.01
    assert not prove(runs(y), runs(other)).proven


def test_output_of_zeros() -> None:
    zeros = np.zeros((3, 1, 4), np.float32)
    proof = prove(runs(zeros), runs(zeros))
    assert proof.proven
    assert proof.sqnr_db == PERFECT_DB
    assert "is the same on every sample, which proves little" in proof.notes[0]
    assert not prove(runs(zeros), runs(noise(3, 1, 4))).proven
    assert not prove(runs(noise(3, 1, 4)), runs(zeros)).proven


def test_lost_channel_is_found_beside_much_larger_ones() -> None:
    """Boxes in pixels and scores in one output, the sigmoid of the scores dropped."""
    boxes, logits = 300 + 100 * noise(3, 1, 200, 4), noise(3, 1, 200, 2, seed=1)
    scores = 1 / (1 + np.exp(-logits))
    reference = runs(np.concatenate([boxes, scores], -1))
    candidate = runs(np.concatenate([boxes, 0.5 + logits / 4], -1))
    (output,) = prove(reference, candidate).outputs
    assert output.sqnr_db > 50
    assert output.failures == ("index 4 of axis 2 is lost beside larger ones",)


@pytest.mark.parametrize("rows", [1, 2, 7, 31])
def test_few_boxes_do_not_hide_their_scores(rows: int) -> None:
    """`[1, N, 6]`, and one row of it alone: garbage, swapped or unsquashed scores."""
    boxes = 300 + 100 * noise(5, 1, rows, 4)
    scores = 1 / (1 + np.exp(-noise(5, 1, rows, 2, seed=1)))
    reference = np.concatenate([boxes, scores], -1)
    for other in (1 - scores, scores[..., ::-1], np.abs(noise(5, 1, rows, 2, seed=2)) / 3):
        broken = np.concatenate([boxes, other], -1)
        assert refused(runs(reference), runs(broken), "is lost beside larger ones")
        assert refused(runs(reference[:, :, 0]), runs(broken[:, :, 0]), "is lost beside larger")
    assert prove(runs(reference), runs(reference * np.float32(1 + 1e-5))).proven


def test_an_element_that_hardly_moves_is_measured_by_what_it_does() -> None:
    y = np.float32(100) + noise(5, 1, 6) / 10
    y[..., 5] = 110
    assert refused(runs(y), runs(y[..., [1, 0, 2, 3, 4, 5]]), "index 0 of axis 1 is lost")
    assert prove(runs(y), runs(y + 0.015 * noise(5, 1, 6, seed=3))).proven


@pytest.mark.parametrize("rows", [1, 31, 300])
def test_small_scores_are_not_hidden_by_large_boxes(rows: int) -> None:
    """Scores of random samples are all near zero: garbage is 80 dB below the boxes."""
    boxes, scores = 640 * np.abs(noise(5, 1, rows, 4)), 0.03 * np.abs(noise(5, 1, rows, 2, seed=1))
    reference = runs(np.concatenate([boxes, scores], -1))
    for other in (0 * scores, scores[..., ::-1]):
        assert refused(reference, runs(np.concatenate([boxes, other], -1)), "is lost beside larger")


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1, 1), (1, 50, 64)])
def test_what_is_the_same_on_all_samples_hides_no_change(shape: tuple[int, ...]) -> None:
    table, change = 300 * (1 + np.abs(noise(*shape))), 0.3 * noise(5, *shape, seed=1)
    reference, candidate = runs(table + change), runs(table + 0 * change)
    assert refused(reference, candidate, "what the samples change in it is lost")
    assert prove(runs(table + change), runs((table + change) * np.float32(1 + 1e-5))).proven


def test_what_passes_but_loses_more_than_float_does_is_noted() -> None:
    y = noise(4, 1, 100)
    proof = prove(runs(y), runs(y + 5e-4 * noise(4, 1, 100, seed=1)), argmax_agreement=0)
    assert proof.proven
    assert "keeps 66 dB, where float32 usually keeps 90 and more" in proof.notes[0]
    assert prove(runs(y), runs(y * np.float32(1 + 1e-6))).notes == ()


def test_noise_of_rounding_loses_no_small_channel() -> None:
    y = noise(3, 1, 200, 6)
    y[..., 3] *= 1e-6
    candidate = y + 1e-6 * noise(3, 1, 200, 6, seed=1)
    assert prove(runs(y), runs(candidate)).proven


def test_empty_output_is_compared_by_shape() -> None:
    empty = np.zeros((2, 1, 0, 4), np.float32)
    assert prove(runs(empty), runs(empty)).proven
    assert not prove(runs(empty), runs(np.zeros((2, 1, 3, 4), np.float32))).proven


@pytest.mark.parametrize("shape", [(), (1,), (7,), (1, 1)])
def test_small_outputs_are_compared_by_value(shape: tuple[int, ...]) -> None:
    y = noise(3, *shape)
    assert prove(runs(y), runs(y)).proven
    assert not prove(runs(y), runs(y + np.float32(0.1))).proven


# (5) the largest element, and integers


def test_other_largest_element_is_caught_below_the_tolerance_of_noise() -> None:
    y = np.tile(np.linspace(0, 1, 10, dtype=np.float32), (2, 1, 1))
    y[0, 0, 8] = y[0, 0, 9] - 0.007
    candidate = y.copy()
    candidate[0, 0, 8] += 0.004
    candidate[0, 0, 9] -= 0.0035
    assert refused(runs(y), runs(candidate), "the same largest element, or integer, in only 0.5")
    y[0, 0, 8] = y[0, 0, 9] - 1e-5  # A tie, nearly: rounding decides it.
    candidate = y.copy()
    candidate[0, 0, 8] += 3e-5
    assert prove(runs(y), runs(candidate)).proven


@pytest.mark.parametrize("dtype", ["int64", "uint16", "bool"])
def test_integers_are_compared_exactly(dtype: str) -> None:
    """Class 986 for class 987 is noise of 60 dB, and another animal."""
    ids = np.array([[987], [12], [0]]).astype(dtype)
    other = ids.copy()
    other[0] = 0 if dtype == "bool" else 986
    assert prove(runs(ids), runs(ids)).proven
    assert refused(runs(ids), runs(other), "or integer, in only 0.6667 of all places")


# (6) randomness


def test_random_model_is_blamed_on_the_model() -> None:
    y = noise(3, 1, 8)
    reference = runs(y)
    reference[-1]["y"] = reference[-1]["y"] * np.float32(1.001)
    assert refused(reference, runs(y), "the model itself is random: output 'y'")


def test_random_model_is_seen_beside_a_nan_of_its_own() -> None:
    y = noise(3, 1, 8)
    y[:, 0, 0] = math.nan
    reference = runs(y)
    reference[-1]["y"][0, 3] += 1
    assert refused(reference, runs(y), "the model itself is random")


def test_nan_that_comes_and_goes_is_random() -> None:
    reference = runs(noise(3, 1, 8))
    reference[-1]["y"][0, 3] = math.nan
    assert refused(reference, runs(noise(3, 1, 8)), "the model itself is random")


def test_random_output_is_blamed_on_the_converter() -> None:
    y = noise(3, 1, 8)
    candidate = runs(y)
    candidate[-1]["y"] = candidate[-1]["y"] * np.float32(1.001)
    assert refused(runs(y), candidate, "something random was left")


def test_order_of_parallel_sums_is_no_randomness() -> None:
    y = noise(3, 1, 8)
    reference, candidate = runs(y), runs(y)
    for samples in (reference, candidate):
        samples[-1]["y"] = samples[-1]["y"] * np.float32(1 + 1e-6)
    assert prove(reference, candidate).proven


# Figures


def test_figures_are_what_they_say() -> None:
    a, b = np.array([3.0, 4.0]), np.array([3.0, 4.5])
    assert sqnr_db(a, b) == pytest.approx(20)
    assert relative_error(a, b) == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("wanted", "received"),
    [
        ([0.0, 0.0], [1.0, 0.0]),
        ([1e-40, 0.0], [1e38, 0.0]),
        ([1e300, 0.0], [-1e300, 0.0]),
        ([math.nan, 1.0], [1.0, math.inf]),
        ([], []),
    ],
)
def test_every_figure_is_a_number_that_json_knows(
    wanted: list[float], received: list[float]
) -> None:
    a, b = np.array(wanted), np.array(received)
    figures = [sqnr_db(a, b), relative_error(a, b)]
    assert all(math.isfinite(figure) for figure in figures)
    assert abs(figures[0]) <= PERFECT_DB
    assert 0 <= figures[1] <= WORST_ERROR


@pytest.mark.parametrize(
    "candidate",
    [
        runs(noise(3, 1, 8)),
        runs(np.zeros((3, 1, 8), np.float32)),
        runs(noise(3, 8)),
        runs(np.full((3, 1, 8), math.nan, np.float32)),
        runs(noise(3, 1, 8), names=("z",)),
    ],
)
def test_proof_survives_strict_json(candidate: Samples) -> None:
    proof = prove(runs(noise(3, 1, 8)), candidate)
    text = json.dumps(proof.to_json(), allow_nan=False)
    assert Proof.from_json(json.loads(text)) == proof
    assert json.loads(text)["proven"] is proof.proven
