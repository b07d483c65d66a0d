"""TFLite files that OpenVINO's reader can't take as they are, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepipe.artifact import Artifact
from edgepipe.tflite import reader

Build = Callable[[str, str], Path]
MakeArtifact = Callable[..., Artifact]
RunStage = Callable[..., Artifact]
Infer = Callable[[Artifact, dict[str, Any]], dict[str, Any]]

MODEL = """
import tensorflow as tf
@tf.function(input_signature=[tf.TensorSpec([1, 5, 6, 3], tf.float32, name="x")])
def run(x):
    padded = tf.pad(x, [[0, 0], [1, 2], [0, 3], [0, 0]], constant_values=-7.5)
    once = tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, 1]], constant_values=2.0)
    return {"a": tf.nn.max_pool2d(padded, 3, 2, "VALID"), "b": padded, "c": once}
module = tf.Module()
module.run = run
converter = tf.lite.TFLiteConverter.from_concrete_functions([run.get_concrete_function()], module)
open("pads.tflite", "wb").write(converter.convert())
"""


@pytest.mark.toolchain("edge", "openvino", "keras")
def test_padding_with_a_value_is_read(
    build: Build, artifact: MakeArtifact, run_stage: RunStage, infer: Infer
) -> None:
    path = build("keras", MODEL) / "pads.tflite"
    assert reader.read(path).ops()["PADV2"] == 2
    given = artifact(path)
    made = run_stage("openvino_from_tflite", given)
    (port,) = given.ends().inputs
    drawn = np.random.default_rng(0).normal(size=(1, 5, 6, 3)).astype(np.float32)
    feeds = {port.name: drawn}
    wanted, received = infer(given, feeds), infer(made, feeds)
    assert list(wanted) == list(received)
    for name, array in wanted.items():
        np.testing.assert_array_equal(received[name], array)
    padded = max(received.values(), key=lambda array: array.size)
    assert (padded == -7.5).any()
