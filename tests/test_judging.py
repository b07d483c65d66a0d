"""What a repair learns from, what it is judged on, and when one file counts as nearer."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dense_net import SIZE, Net

judging: Any = importlib.import_module("edgepipe.quantization.judging")
sample_choice: Any = importlib.import_module("edgepipe.quantization.sample_choice")


def judged(noise: Any) -> Any:
    return judging.Judged(30.0, np.asarray(noise, np.float64))


def test_one_sample_that_goes_wrong_does_not_outweigh_all_others() -> None:
    before, after = np.full(100, 1.0), np.full(100, 0.5)
    after[3] = 60.0
    assert after.sum() > before.sum()
    gain, error = judged(after).gain_over(judged(before))
    assert gain > 2 and gain > error


def test_samples_without_noise_say_nothing() -> None:
    before, after = np.zeros(100), np.zeros(100)
    before[:10], after[:10] = 1.0, 0.5
    gain, _ = judged(after).gain_over(judged(before))
    assert gain == pytest.approx(10 * np.log10(1.001 / 0.501), rel=0.01)
    assert judged(np.zeros(9)).gain_over(judged(np.zeros(9))) == (0.0, 0.0)


def test_chance_is_told_by_its_error() -> None:
    random = np.random.default_rng(0)
    gain, error = judged(random.uniform(1, 2, 200)).gain_over(judged(random.uniform(1, 2, 200)))
    assert abs(gain) < 3 * error and error > 0


def test_what_is_nothing_to_a_softmax_is_none_to_the_judge() -> None:
    one = judging._below_the_largest(np.array([[3.0, -20.0, 2.0]]))
    other = judging._below_the_largest(np.array([[13.0, -90.0, 12.0]]))
    assert np.array_equal(one, other)


def model(folder: Path) -> Path:
    net = Net()
    return net.save(folder / "float.tflite", net.dense("d", net.input))


def numbers(samples: Any) -> list[int]:
    return [int(sample[0][0]) for sample in samples]


@pytest.mark.parametrize("count", [32, 50, 400, 5000])
def test_what_is_judged_on_was_not_learnt_from_and_lies_everywhere(
    tmp_path: Path, count: int
) -> None:
    given = ([np.array([number])] for number in range(count))
    chosen = sample_choice.choose(model(tmp_path), given, count)
    learnt, judged_on = numbers(chosen.learnt), numbers(chosen.judged)
    assert not set(learnt) & set(judged_on)
    assert min(len(learnt), len(judged_on)) >= 16
    assert len(judged_on) <= sample_choice.MOST_JUDGED
    for part in (learnt, judged_on, numbers(chosen.few)):
        assert min(part) < 0.2 * count and max(part) > 0.7 * count


def test_a_handful_of_samples_serves_for_both(tmp_path: Path) -> None:
    given = [[np.array([number])] for number in range(7)]
    chosen = sample_choice.choose(model(tmp_path), given, 7)
    assert numbers(chosen.learnt) == numbers(chosen.judged) == list(range(7))


def test_large_tensors_get_fewer_samples(tmp_path: Path) -> None:
    net = Net()
    net.input.shape = (1, 400_000, SIZE)
    path = net.save(tmp_path / "float.tflite", net.dense("d", net.input))
    chosen = sample_choice.choose(path, ([np.array([n])] for n in range(1000)), 1000)
    assert len(chosen.judged) == len(chosen.learnt) == 16
