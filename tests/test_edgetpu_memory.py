"""Memory foretold for the Edge TPU: parameters by layer, what is streamed, activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgetpu_files import PAIRS, needs_pairs, pair
from legalise_cases import one, real
from tflite_models import model_of

from edgepipe.targets.edgetpu import memory
from edgepipe.targets.edgetpu.preflight import of_model
from edgepipe.tflite import loading
from edgepipe.tflite.graph import Model, Op, Quantization, Tensor

CONVOLUTIONS = {"CONV_2D", "DEPTHWISE_CONV_2D"}
SMALL = 2_000
"""Bytes below which what other operators take counts for more than 2 %."""


def layer(name: str, shape: tuple[int, ...], scales: int = 1, bias: int = 0, **options: Any) -> Op:
    known = Quantization((0.1,) * scales, (0,) * scales, len(shape) - 1 if name[0] == "D" else 0)
    weights = Tensor.constant("w", np.zeros(shape, np.int8), quantization=known)
    count = shape[-1] if name[0] == "D" else shape[0]
    biases = Tensor.constant("b", np.full(count, bias, np.int32))
    return Op.make(name, [real("x", (1, 8, 8, shape[-1])), weights, biases],
                   [real("y", (1, 8, 8, 8))], **options)  # fmt: skip


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        # Sizes of single layers in real compiled files of posenet, N33 and mobilenet_v1.
        (layer("CONV_2D", (33, 3, 3, 3), 33), 2112),
        (layer("CONV_2D", (64, 3, 3, 32), 64), 18944),
        (layer("CONV_2D", (100, 3, 3, 100), 100), 128 * 908),
        (layer("CONV_2D", (32, 1, 1, 16), bias=7), 32 * 20),
        (layer("CONV_2D", (48, 1, 1, 24), 48, bias=7), 1728),
        (layer("CONV_2D", (34, 1, 1, 384), 34, bias=7), 19008),
        (layer("DEPTHWISE_CONV_2D", (1, 3, 3, 24), 24, bias=7, depth_multiplier=1), 1152),
        (layer("DEPTHWISE_CONV_2D", (1, 1, 1, 1360), 1360, depth_multiplier=1), 16320),
        (layer("DEPTHWISE_CONV_2D", (1, 7, 7, 8), 8, depth_multiplier=8), 3200),
        (layer("FULLY_CONNECTED", (256, 256), 256), 67584),
        (layer("FULLY_CONNECTED", (1, 256)), 16 * 256),
    ],
)
def test_parameters_of_a_layer(op: Op, expected: int) -> None:
    assert memory.parameters(op) == expected


def test_what_does_not_fit_is_streamed_between_two_bounds() -> None:
    def of(outputs: int) -> memory.Forecast:
        weights = Tensor.constant("w", np.zeros((outputs, 4096), np.int8),
                                  quantization=Quantization((0.1,), (0,)))  # fmt: skip
        op = Op.make("FULLY_CONNECTED", [real("x", (1, 4096)), weights], [real("y", (1, outputs))])
        return of_model(model_of([op], op.inputs[:1], op.outputs)).memory  # type: ignore[arg-type]

    small, between, large = of(1024), of(1792), of(4096)
    assert (small.streamed_least, small.streamed_most) == (0, 0)
    assert "all cached" in small.words()[0]
    assert between.streamed_least == 0 < between.streamed_most
    assert 0 < large.streamed_least < large.streamed_most < large.parameters
    assert "streamed at every inference" in large.words()[0]


def test_only_mapped_operators_count() -> None:
    built: Model = one("HARD_SWISH", (1, 512, 512, 16), (1, 512, 512, 16))()
    assert of_model(built).memory.peak_activations == 0
    built = one("RELU", (1, 512, 512, 16), (1, 512, 512, 16))()
    found = of_model(built).memory
    assert found.peak_activations == 2 * 512 * 512 * 16
    assert found.pressure > 1 and "has to cut layers" in found.words()[1]


@needs_pairs
@pytest.mark.parametrize("entry", PAIRS, ids=lambda entry: str(entry["compiled"])[:40])
def test_parameters_are_those_of_the_compiled_file(entry: dict[str, Any]) -> None:
    """Within 2 %, for convolutional networks."""
    graph = loading.load(pair("source", entry)).main
    kinds = {op[1] for op in entry["ops"]}
    if not kinds & CONVOLUTIONS or entry["cached"] < SMALL:
        pytest.skip("no convolutional network, or one of a few hundred bytes")
    mapped = [op for op, fate in zip(graph.ops, entry["ops"], strict=True) if fate[2] == "TPU"]
    found = memory.forecast(graph, mapped).parameters
    assert found == pytest.approx(entry["cached"] + entry["streamed"], rel=0.02)
