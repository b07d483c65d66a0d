"""Metrics against figures worked out by hand, and what each of them refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgepipe import catalog
from edgepipe.artifact import Port
from edgepipe.errors import SamplesError, UnknownName
from edgepipe.validation.metrics import by_name
from edgepipe.validation.metrics.metric import Metric, Misfit


def rows(name: str, outputs: Any, truths: Any, references: Any = None) -> Any:
    metric = by_name.named(name)
    beside = references if references is not None else [None] * len(outputs)
    return np.stack(
        [
            metric.see(np.asarray(output)[None], truth, None if other is None else other[None])
            for output, truth, other in zip(outputs, truths, beside, strict=True)
        ]
    )


def figure(name: str, outputs: Any, truths: Any, references: Any = None) -> float:
    return by_name.named(name).figure(rows(name, outputs, truths, references))


SCORES = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4], [0.2, 0.5, 0.3]], np.float32)
LABELS = [0, 1, 1, 2]


def test_top1_is_the_share_of_largest_scores_at_the_label() -> None:
    assert figure("top1", SCORES, LABELS) == 50


def test_top2_counts_a_label_among_the_two_largest() -> None:
    # Of 0.3, 0.3, 0.4 the two largest are the last and, of the equals, the first: 1 is not among.
    assert figure("top2", SCORES, LABELS) == 75


def test_equal_scores_are_the_first_one_s_in_top1_and_in_topk() -> None:
    equal = np.array([[5, 5, 1]], np.int8)
    assert figure("top1", equal, [0]) == 100
    assert figure("top1", equal, [1]) == 0
    assert figure("top2", equal, [1]) == 100


def test_scores_that_are_no_number_are_wrong() -> None:
    assert figure("top1", np.array([[math.nan, 1.0]], np.float32), [1]) == 0
    assert figure("top2", np.array([[math.nan, 1.0, 0.0]], np.float32), [1]) == 0


def test_a_class_that_the_model_gives_itself_is_compared_as_it_is() -> None:
    assert figure("top1", np.array([[3], [4]], np.int64), [3, 3]) == 50


def test_macro_f1_is_the_mean_over_classes() -> None:
    # Class 0: 1. Class 1: 2·1 / (2 + 2) = ½. Class 2: 2·0 / (1 + 1) = 0.
    assert figure("f1", SCORES, LABELS) == pytest.approx(50)


def test_f1_of_yes_weighs_precision_and_recall() -> None:
    # Said yes: 0.9, 0.8, 0.6. True: 0.9, 0.6, 0.2. Precision 2/3, recall 2/3.
    scores = np.array([[0.9], [0.8], [0.6], [0.2], [0.1]], np.float32)
    assert figure("f1-binary", scores, [1, 0, 1, 1, 0]) == pytest.approx(200 / 3)
    assert figure("binary-accuracy", scores, [1, 0, 1, 1, 0]) == pytest.approx(60)


def test_one_number_below_zero_makes_all_of_them_logits() -> None:
    logits = np.array([[0.4], [-2.0], [3.0]], np.float32)
    assert figure("binary-accuracy", logits, [1, 0, 1]) == 100
    assert figure("binary-accuracy", logits[[0, 2]] / 10, [1, 1]) == 0


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    # Known from scikit-learn's own example: scores .1 .4 .35 .8 of 0 0 1 1 give 0.75.
    scores = np.array([[0.1], [0.4], [0.35], [0.8]], np.float32)
    assert figure("auc", scores, [0, 0, 1, 1]) == pytest.approx(75)
    assert figure("auc", np.array([[0.5], [0.5], [0.9]], np.float32), [0, 1, 1]) == pytest.approx(
        75
    )


def test_auc_of_more_classes_is_the_mean_of_each_against_the_rest() -> None:
    areas = []
    for label in range(3):
        yes = [score[label] for score, true in zip(SCORES, LABELS, strict=True) if true == label]
        no = [score[label] for score, true in zip(SCORES, LABELS, strict=True) if true != label]
        won = [(a > b) + 0.5 * (a == b) for a in yes for b in no]
        areas.append(sum(won) / len(won))
    assert areas == pytest.approx([1.0, 0.625, 1 / 3])
    assert figure("auc", SCORES, LABELS) == pytest.approx(100 * sum(areas) / 3)


def test_errors_of_numbers() -> None:
    said, true = np.array([[2.5], [0.0], [2.0], [8.0]], np.float32), [3.0, -0.5, 2.0, 7.0]
    assert figure("mae", said, true) == pytest.approx(0.5)
    assert figure("rmse", said, true) == pytest.approx(math.sqrt(1.5 / 4))
    # 1 - 1.5 / 29.1875, scikit-learn's own example.
    assert figure("r2", said, true) == pytest.approx(0.948608137)
    assert figure("pearson", said, true) == pytest.approx(np.corrcoef(said[:, 0], true)[0, 1])


def test_r2_of_several_targets_is_the_mean_of_each() -> None:
    said, true = np.array([[0, 2], [-1, 2], [8, -5]], np.float32), [[0.5, 1], [-1, 1], [7, -6]]
    assert figure("r2", said, true) == pytest.approx(0.9368, abs=1e-4)


def test_large_numbers_that_vary_little_keep_their_correlation() -> None:
    true = [1e8 + step for step in range(5)]
    said = np.array([[number + 3] for number in true], np.float64)
    assert figure("pearson", said, true) == pytest.approx(1)
    assert figure("r2", said, true) == pytest.approx(1 - 45 / 10)


def test_mean_iou_of_masks_in_either_layout() -> None:
    said = np.array([[0, 0, 1], [1, 1, 2]])
    true = np.array([[0, 1, 1], [1, 1, 255]])
    # Class 0: 1/2. Class 1: 3/4. Class 2 was said of a pixel that counts for nothing.
    channels_last = np.eye(3, dtype=np.float32)[said]
    for output in (channels_last, channels_last.transpose(2, 0, 1), said.astype(np.int64)):
        assert figure("miou", [output], [true]) == pytest.approx(62.5)
        assert figure("pixel-accuracy", [output], [true]) == pytest.approx(80)


def test_mask_of_one_score_a_pixel_is_a_yes_above_a_half() -> None:
    said, true = np.array([[[0.9], [0.2]], [[0.6], [0.4]]], np.float32), np.array([[1, 0], [0, 0]])
    assert figure("miou", [said], [true]) == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)


def test_likeness_needs_no_truth() -> None:
    reference = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    output = np.array([[4.0, 3.0], [1.0, 0.0]], np.float32)
    assert figure("agreement", output, [None] * 2, reference) == 50
    assert figure("sqnr", output, [None] * 2, reference) == pytest.approx(10 * math.log10(26 / 2))
    assert figure("cosine", output, [None] * 2, reference) == pytest.approx((24 / 25 + 1) / 2)


def test_noise_that_is_no_number_is_as_loud_as_the_signal() -> None:
    reference = np.array([[3.0, 4.0]], np.float32)
    assert figure(
        "sqnr", np.array([[math.nan, 4.0]], np.float32), [None], reference
    ) == pytest.approx(10 * math.log10(25 / 9))


HERE = [name for name in catalog.METRICS if not by_name.named(name).toolchain]
"""Not those that a library in a worker works out."""


@pytest.mark.parametrize("name", [*HERE, "top2"])
def test_weighing_a_row_twice_is_having_it_twice(name: str) -> None:
    random = np.random.default_rng(0)
    metric = by_name.named(name)
    count, classes = 40, 2 if "binary" in name else 3
    outputs, truths = some(metric, random, count, classes)
    references = [output + random.normal(0, 0.2, output.shape) for output in outputs]
    seen = rows(name, outputs, truths, references if metric.needs_reference else None)
    weights = random.integers(0, 4, (5, count)).astype(float)
    told = metric.weighted(seen, weights)
    for line, value in zip(weights, told, strict=True):
        again = np.repeat(seen, line.astype(int), axis=0)
        assert metric.figure(again) == pytest.approx(value, rel=1e-9)


def some(metric: Metric, random: Any, count: int, classes: int) -> tuple[Any, Any]:
    if metric.truth == "mask":
        masks = random.integers(0, classes, (count, 4, 4))
        return np.eye(classes)[masks] + random.normal(0, 0.5, (count, 4, 4, classes)), masks
    outputs = random.normal(0, 1, (count, classes))
    if metric.truth == "numbers":
        return outputs, outputs + random.normal(0, 0.3, outputs.shape)
    labels = random.integers(0, classes, count)
    return outputs + np.eye(classes)[labels], labels


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("top1", (1, 1), "one number, not a score for each class"),
        ("top5", (1, 4), "all of them are among the 5 largest"),
        ("top1", (1, 8, 8, 3), "no row of scores"),
        ("miou", (1, 10), "no mask"),
        ("auc", (1, 1000), "100 at most"),
        ("f1-binary", (1, 10), "no answer of yes or no"),
        ("agreement", (1, 1), "one number"),
        ("cosine", (1, 1), "one number"),
        ("r2", (1, 500), "64 at most"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_with_what_does(
    name: str, shape: tuple[int, ...], words: str
) -> None:
    port = Port("scores", shape, "float32")
    with pytest.raises(Misfit, match=words) as caught:
        by_name.check(by_name.named(name), port, labelled=True, compared=True)
    assert caught.value.exit_code == 2
    assert "can be measured: " in caught.value.hint
    fitting = caught.value.details["fitting"]
    assert name not in fitting
    for other in fitting:
        by_name.check(by_name.named(other), port, labelled=True, compared=True)


def test_labels_and_float_model_that_are_missing_are_named() -> None:
    port = Port("scores", (1, 10), "float32")
    with pytest.raises(SamplesError, match="top1 needs to know what is true") as caught:
        by_name.check(by_name.named("top1"), port, labelled=False, compared=True)
    assert "--labels" in caught.value.hint and "agreement" in caught.value.hint
    with pytest.raises(Misfit, match="there is none") as missing:
        by_name.check(by_name.named("sqnr"), port, labelled=True, compared=False)
    assert "--against" in missing.value.hint


def test_fewer_samples_than_classes_are_refused_where_classes_are_averaged() -> None:
    port = Port("scores", (1, 1000), "float32")
    with pytest.raises(SamplesError, match="8 samples can't hold all of 1000"):
        by_name.check(by_name.named("f1"), port, labelled=True, compared=True, samples=8)
    by_name.check(by_name.named("top1"), port, labelled=True, compared=True, samples=8)


def test_a_label_beyond_the_classes_is_named_with_both() -> None:
    with pytest.raises(Misfit, match="labelled 10, the output has 3 classes, 0 to 2"):
        rows("top1", SCORES[:1], [10])
    with pytest.raises(Misfit, match=r"the truth is 0\.5") as caught:
        rows("top1", SCORES[:1], [0.5])
    assert "mae" in caught.value.hint


def test_truth_of_another_size_is_refused() -> None:
    with pytest.raises(Misfit, match="has 2 numbers, the output has 3"):
        rows("mae", SCORES[:1], [[1.0, 2.0]])
    with pytest.raises(Misfit, match=r"output is \[1, 4, 4, 3\], the mask of a sample \[8, 8\]"):
        rows("miou", [np.zeros((4, 4, 3))], [np.zeros((8, 8), int)])
    with pytest.raises(Misfit, match="the float model's"):
        rows("sqnr", SCORES[:1], [None], [SCORES[0, :2]])


def test_unknown_metric_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown metric 'top-one'"):
        by_name.named("top-one")
    with pytest.raises(UnknownName) as caught:
        by_name.named("mious")
    assert "did you mean miou" in caught.value.hint


def test_defaults_follow_the_data() -> None:
    scores, number = Port("s", (1, 10), "float32"), Port("n", (1, 1), "float32")
    accuracy = ["top1", "agreement", "sqnr"]
    assert by_name.by_default(scores, labelled=True, compared=True) == accuracy
    assert by_name.by_default(scores, labelled=False, compared=True) == ["agreement", "sqnr"]
    assert by_name.by_default(number, labelled=False, compared=True) == ["sqnr"]
    assert by_name.by_default(number, labelled=True, compared=False) == ["binary-accuracy"]
