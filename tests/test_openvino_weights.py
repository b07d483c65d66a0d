"""Weights of an OpenVINO model in 8 and 4 bits: size, nearness, options, repair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgepipe
from edgepipe.artifact import Artifact, Format
from edgepipe.dataset import DataSource
from edgepipe.errors import OptionError, StageFailed
from edgepipe.identify import identify
from edgepipe.learning import Learning
from edgepipe.session import Session

pytestmark = pytest.mark.toolchain("edge", "openvino")

Build = Callable[[str, str], Path]
MakeArtifact = Callable[..., Artifact]
RunStage = Callable[..., Artifact]

MODEL = """
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
rng = np.random.default_rng(0)
def save(path, kinds):
    nodes, weights, last = [], [], "x"
    for i, kind in enumerate(kinds):
        weights.append(nh.from_array(rng.normal(size=(64, 64)).astype(np.float32) / 8, f"w{i}"))
        nodes += [h.make_node("MatMul", [last, f"w{i}"], [f"p{i}"]),
                  h.make_node(kind, [f"p{i}"], [f"a{i}"])]
        last = f"a{i}"
    value = h.make_tensor_value_info
    graph = h.make_graph(nodes, "g", [value("x", T.FLOAT, [1, 64])],
                         [value(last, T.FLOAT, [1, 64])], weights)
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), path)
save("chain.onnx", ["Relu"] * 5)
np.savez("data.npz", x=rng.normal(size=(30, 64)).astype(np.float32))
"""


@pytest.fixture(scope="module")
def folder(build: Build) -> Path:
    return build("edge", MODEL)


@pytest.fixture(scope="module")
def given(folder: Path, artifact: MakeArtifact, run_stage: RunStage) -> Artifact:
    return run_stage("openvino_from_onnx", artifact(folder / "chain.onnx"))


def weights(made: Artifact) -> int:
    return (made.path / "model.bin").stat().st_size


def test_fewer_bits_are_smaller(given: Artifact, run_stage: RunStage) -> None:
    eight = run_stage("openvino_quantize", given, scheme="int8-weights")
    four = run_stage("openvino_quantize", given, scheme="int4-weights")
    half = run_stage("openvino_quantize", given, scheme="int4-weights", ratio="0.5")
    assert 3.5 < weights(given) / weights(eight) < 4
    assert weights(four) < weights(half) < weights(eight)
    text = (four.path / "model.xml").read_text()
    assert 'element_type="u4"' in text
    plain = run_stage("openvino_quantize", given, scheme="int4-weights", symmetric="yes")
    assert 'element_type="i4"' in (plain.path / "model.xml").read_text()


def test_a_conversion_to_weights_of_8_bits_is_proven_and_known_as_such(
    folder: Path, tmp_path: Path
) -> None:
    result = edgepipe.convert(
        folder / "chain.onnx", target="openvino", precision="int8-weights", out=tmp_path
    )
    assert result.model == tmp_path / "openvino_int8-weights"
    assert identify(result.model) is Format.OPENVINO_QUANTIZED
    assert result.sqnr_db is not None
    assert 20 < result.sqnr_db < 60  # As near as float32 it can't be.
    step = result.report["routes"][0]["steps"][-1]
    assert "weights in 8 bits (100%)" in step["notes"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scheme": "int8-weights", "ratio": "0.5"}, "ratio: for --precision int4-weights"),
        ({"scheme": "int8", "group_size": "32"}, "group_size: for --precision int4-weights"),
        ({"scheme": "float16", "symmetric": "yes"}, "symmetric is for the weights"),
        ({"scheme": "int4-weights", "ratio": "1.5"}, "ratio takes a share"),
        ({"scheme": "int4-weights", "group_size": "0"}, "group_size takes a number of weights"),
        ({"scheme": "int4-weights", "scale_estimation": "yes"}, "scale_estimation needs samples"),
    ],
)
def test_options_that_mean_nothing_there_are_refused(
    given: Artifact, run_stage: RunStage, options: dict[str, str], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        run_stage("openvino_quantize", given, **options)


def test_a_group_that_does_not_divide_the_channels_is_told(
    given: Artifact, run_stage: RunStage
) -> None:
    with pytest.raises(StageFailed, match="group size") as caught:
        run_stage("openvino_quantize", given, scheme="int4-weights", group_size="7")
    assert "group_size=-1" in caught.value.hint
    made = run_stage("openvino_quantize", given, scheme="int4-weights", group_size="-1")
    assert weights(made) < weights(given) / 4


def test_nothing_to_compress_is_told(given: Artifact, run_stage: RunStage) -> None:
    with pytest.raises(StageFailed, match="no weight was compressed"):
        run_stage("openvino_quantize", given, scheme="int8-weights", float_types="MatMul")


def test_4_bits_that_lose_too_much_get_8_in_some_layers(
    folder: Path, given: Artifact, session: Session, run_stage: RunStage
) -> None:
    plain = run_stage("openvino_quantize", given, scheme="int4-weights")
    before = session.learning
    session.learning = Learning.of(DataSource.of(folder / "data.npz"), None, 0.2)
    try:
        how: dict[str, Any] = {"scheme": "int4-weights", "limit_db": "30"}
        repaired = run_stage("openvino_quantize", given, **how)
        left = run_stage("openvino_quantize", given, **how, repair="off")
    finally:
        session.learning = before
    assert weights(left) == weights(plain) < weights(repaired) < weights(given) / 2
