"""Calibration: histograms of unknown range, the methods' ranges, what LiteRT shows of a model."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

histograms: Any = importlib.import_module("edgepipe.quantization.histograms")
methods: Any = importlib.import_module("edgepipe.quantization.calibration_methods")


def seen_of(*batches: Any) -> Any:
    seen = methods.Seen(histograms.Histogram())
    for batch in batches:
        seen.add(np.asarray(batch, np.float32))
    return seen


def test_a_histogram_counts_everything_while_its_range_grows() -> None:
    histogram = histograms.Histogram()
    random = np.random.default_rng(0)
    total, parts = 0, []
    for scale in (1e-3, 1.0, 50.0, 0.1, 700.0):
        values = (scale * random.normal(size=1000)).astype(np.float32)
        histogram.add(values, float(values.min()), float(values.max()))
        total += values.size
        parts.append(values)
    everything = np.concatenate(parts)
    assert histogram.counts.sum() == total
    width = histogram.span / histograms.BINS
    assert width < 4 * np.ptp(everything) / histograms.BINS
    below = np.cumsum(histogram.counts)
    for place in (-500.0, 0.0, 300.0):
        counted = below[int((place - histogram.low) / width) - 1]
        in_the_bins_beside = np.abs(everything - place) <= 2 * width
        assert abs(counted - (everything < place).sum()) <= in_the_bins_beside.sum()


def test_a_histogram_starts_at_a_constant() -> None:
    histogram = histograms.Histogram()
    histogram.add(np.zeros(4, np.float32), 0.0, 0.0)
    histogram.add(np.asarray([-3.0, 5.0], np.float32), -3.0, 5.0)
    assert histogram.counts.sum() == 6
    assert histogram.low <= -3 and histogram.low + histogram.span >= 5


def test_large_tensors_are_counted_in_part_with_every_channel() -> None:
    histogram = histograms.Histogram()
    channels = np.tile(np.arange(64, dtype=np.float32), 4096)
    histogram.add(channels, 0.0, 63.0)
    assert histogram.counts.sum() <= histograms.LARGEST_SAMPLE
    assert np.count_nonzero(histogram.counts) == 64


def test_min_max_and_moving_average_follow_their_definitions() -> None:
    seen = seen_of([-1.0, 2.0], [-3.0, 1.0], [0.0, 8.0])
    assert methods.range_of(seen, "min-max", 99.99) == (-3.0, 8.0)
    low, high = methods.range_of(seen, "moving-average", 99.99)
    assert low == pytest.approx(0.95 * (0.95 * -1 + 0.05 * -3) + 0.05 * 0)
    assert high == pytest.approx(0.95 * (0.95 * 2 + 0.05 * 1) + 0.05 * 8)


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_a_lone_outlier_is_cut_off(method: str) -> None:
    batches = np.random.default_rng(0).normal(size=(125, 8000))
    batches[60, 0] = 40.0
    low, high = methods.range_of(seen_of(*batches), method, 99.9)
    assert 2.5 < high < 20, high
    assert -5 < low < -0.5, low


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_even_values_keep_nearly_their_whole_range(method: str) -> None:
    values = np.random.default_rng(0).uniform(-1, 3, size=8000)
    low, high = methods.range_of(seen_of(values), method, 99.99)
    assert -1.0 <= low < -0.9 and 2.85 < high <= 3.0


@pytest.mark.parametrize("method", methods.METHODS)
def test_zero_after_a_relu_stays_an_end(method: str) -> None:
    values = np.maximum(np.random.default_rng(0).normal(size=8000), 0)
    low, _ = methods.range_of(seen_of(values), method, 99.0)
    assert low == 0.0


@pytest.mark.parametrize("size", [(4, 1000), (2, 100), (1, 3)])
def test_entropy_leaves_hardly_anything_outside(size: tuple[int, int]) -> None:
    """Few values on many bins: the narrower the range, the less uneven the counts seem."""
    values = np.maximum(np.random.default_rng(0).normal(size=size), 0)
    _, high = methods.range_of(seen_of(*values), "entropy", 99.99)
    assert (values > high + 1e-3).mean() <= 1e-3


def test_the_least_squared_error_is_found() -> None:
    """Against a search over the values themselves, not over a histogram of them."""
    values = np.random.default_rng(0).standard_t(2, size=8000).astype(np.float32)
    low, high = methods.range_of(seen_of(values), "mse", 99.99)

    def error(bottom: float, top: float) -> float:
        scale = (top - bottom) / 255
        stored = np.clip(np.rint(values / scale) + round(-bottom / scale), 0, 255)
        return float(np.mean(((stored - round(-bottom / scale)) * scale - values) ** 2))

    ends = float(values.min()), float(values.max())
    best = min(error(part * ends[0], part * ends[1]) for part in np.linspace(0.2, 1, 41))
    assert error(low, high) <= 1.05 * best


def test_values_that_are_no_numbers_are_left_out() -> None:
    seen = seen_of([1.0, np.nan, -np.inf, 3.0], [np.nan])
    assert (seen.least, seen.greatest) == (1.0, 3.0)


OBSERVE = """
import sys, types, json, resource, numpy as np
sys.path.insert(0, {root!r})
package = types.ModuleType("edgepipe.quantization")
package.__path__ = [{root!r} + "/quantization"]
import edgepipe
sys.modules["edgepipe.quantization"] = package
from pathlib import Path
from edgepipe.artifact import Artifact, Format
from edgepipe.quantization import calibration
from edgepipe.tflite import reader
path = Path({model!r})
ends = reader.read(path).signature()
random = np.random.default_rng(0)
def feeds(count):
    for _ in range(count):
        yield {{"x": random.normal(size=(1, 64, 64, 8)).astype(np.float32)}}
model = Artifact(path, Format.TFLITE, "", ends)
seen, count = calibration.observe(model, feeds(20), "mse")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
calibration.observe(model, feeds(400), "mse")
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
facts = {{name: [one.least, one.greatest] for name, one in seen.items()}}
json.dump([count, facts, after - before], open("seen.json", "w"))
"""
MODEL = """
import numpy as np, tensorflow as tf, keras
from keras import layers as L
keras.utils.set_random_seed(1)
x = keras.Input(batch_shape=(1, 64, 64, 8), name="x")
y = L.Conv2D(8, 3, activation="relu")(x)
y = L.Dense(3)(L.GlobalAveragePooling2D()(L.Conv2D(8, 3)(y)))
model = keras.Model(x, y)
open("net.tflite", "wb").write(tf.lite.TFLiteConverter.from_keras_model(model).convert())
"""


@pytest.mark.toolchain("keras", "edge")
def test_every_tensor_is_seen_and_memory_stays_flat(build: Any) -> None:
    import json

    model = build("keras", MODEL) / "net.tflite"
    root = str(Path(__file__).parents[1])
    folder = build("edge", OBSERVE.format(root=root, model=str(model)))
    count, facts, grown = json.loads((folder / "seen.json").read_text())
    assert count == 20
    assert len(facts) >= 5  # input, two convolutions, mean, dense
    assert all(low <= high for low, high in facts.values())
    assert min(low for low, _ in facts.values()) < -3 and 0.0 in [low for low, _ in facts.values()]
    assert grown < 4096, f"{grown} KiB more for 400 samples than for 20"
