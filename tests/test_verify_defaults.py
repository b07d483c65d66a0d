"""That the default samples and tolerances catch what converters break, on small nets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepipe.artifact import Port, Signature
from edgepipe.proof import Proof, Tolerance
from edgepipe.samples import SampleSource
from edgepipe.verify import compare

Array = NDArray[Any]
Samples = list[dict[str, Array]]


def prove(reference: Samples, candidate: Samples) -> Proof:
    ends = Signature((), (Port("y", (1, 10), "float32"),))
    return compare(reference, candidate, ends, Tolerance())


INPUTS: dict[str, tuple[Callable[[np.random.Generator], Array], float, float]] = {
    "standardized": (lambda random: random.standard_normal((400, 192)), 1, 0),
    "unit": (lambda random: random.random((400, 192)), 1, 0),
    "symmetric": (lambda random: 2 * random.random((400, 192)) - 1, 1, 0),
    "pixels": (lambda random: 255 * random.random((400, 192)), 1 / 127.5, -1),
}
"""What a net was trained on, and the scaling inside of it."""


@dataclasses.dataclass
class Broken:
    """What a converter does to a net: the layer without its ReLU6, or the dropout left on."""

    layer: int = -1
    dropout: np.random.Generator | None = None


def trained_net(inputs: str, seed: int) -> Callable[[Array, Broken], Array]:
    """Four normalised layers of 64 with ReLU6 and a softmax, their statistics those of data."""
    random = np.random.default_rng(seed)
    make, scale, shift = INPUTS[inputs]
    x = make(random) * scale + shift
    layers = []
    for _ in range(4):
        weights = random.standard_normal((x.shape[1], 64)) / math.sqrt(x.shape[1])
        y = x @ weights
        gain = (0.5 + 0.5 * random.random(64)) / y.std(0)
        bias = 0.3 * random.standard_normal(64) - y.mean(0) * gain
        layers.append((weights, gain, bias))
        x = np.clip(y * gain + bias, 0, 6)
    head = random.standard_normal((64, 10)) / 8

    def run(given: Array, broken: Broken) -> Array:
        x = given * scale + shift
        for number, (weights, gain, bias) in enumerate(layers):
            y = x @ weights * gain + bias
            x = np.maximum(y, 0) if number == broken.layer else np.clip(y, 0, 6)
            if broken.dropout is not None:
                x = x * (broken.dropout.random(x.shape) > 0.05) / 0.95
        raised = np.exp(x @ head - (x @ head).max())
        probabilities: Array = (raised / raised.sum()).astype(np.float32)
        return probabilities

    return run


def outputs_of(net: Callable[[Array, Broken], Array], broken: Broken) -> Samples:
    signature = Signature((Port("x", (1, 192), "float32"),), ())
    feeds = [sample["x"].astype(np.float64) for sample in SampleSource().make(signature)]
    return [{"y": net(x, broken)} for x in (*feeds, feeds[0])]


@pytest.mark.parametrize("inputs", INPUTS)
def test_defaults_catch_a_dropped_activation(inputs: str) -> None:
    missed = 0
    for seed in range(10):
        net = trained_net(inputs, seed)
        for layer in range(4):
            missed += prove(
                outputs_of(net, Broken()), outputs_of(net, Broken(layer))
            ).proven  # fmt: skip
    assert missed <= 1, f"{missed} of 40"


@pytest.mark.parametrize("inputs", INPUTS)
def test_defaults_catch_a_dropout_left_on(inputs: str) -> None:
    net = trained_net(inputs, 0)
    still = outputs_of(net, Broken())
    random = outputs_of(net, Broken(dropout=np.random.default_rng(1)))
    assert prove(still, still).proven
    assert "something random was left" in prove(still, random).why()
    assert "the model itself is random" in prove(random, still).why()
