"""ONNX to TFLite by onnx2tf: layouts, names, what it can't do, and that nothing is inserted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepipe.artifact import Artifact
from edgepipe.errors import InputError, StageError
from edgepipe.tflite import quality, reader

pytestmark = pytest.mark.toolchain("onnx2tf", "edge")

Build = Callable[[str, str], Path]
MakeArtifact = Callable[..., Artifact]
RunStage = Callable[..., Artifact]
Infer = Callable[[Artifact, dict[str, Any]], dict[str, Any]]

MODELS = """
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
rng = np.random.default_rng(0)
n = h.make_node
def floats(*shape): return rng.normal(size=shape).astype(np.float32)
def save(path, nodes, ins, outs, weights={}, opset=17):
    ends = [[h.make_tensor_value_info(name, T.FLOAT, shape) for name, shape in side.items()]
            for side in (ins, outs)]
    held = [nh.from_array(np.asarray(values), name) for name, values in weights.items()]
    graph = h.make_graph(nodes, "g", *ends, held)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
w = {"w": floats(5, 3, 3, 3)}

save("nchw.onnx", [n("Conv", ["x", "w"], ["a"]), n("Relu", ["a"], ["y"])],
     {"x": [1, 3, 8, 9]}, {"y": [1, 5, 6, 7]}, w)
save("nhwc.onnx", [n("Sub", ["x", "m"], ["s"]), n("Transpose", ["s"], ["t"], perm=[0, 3, 1, 2]),
     n("Conv", ["t", "w"], ["a"]), n("Transpose", ["a"], ["y"], perm=[0, 2, 3, 1])],
     {"x": [1, 8, 9, 3]}, {"y": [1, 6, 7, 5]}, {**w, "m": floats(3)})
save("sequence.onnx", [n("MatMul", ["x", "w"], ["a"]), n("Add", ["a", "b"], ["c"]),
     n("Relu", ["c"], ["y"])], {"x": [1, 9, 7]}, {"y": [1, 9, 4]},
     {"w": floats(7, 4), "b": floats(4)})
save("video.onnx", [n("Conv", ["x", "w"], ["y"])], {"x": [1, 2, 4, 5, 6]}, {"y": [1, 3, 3, 4, 5]},
     {"w": floats(3, 2, 2, 2, 2)})
save("ends.onnx", [n("Conv", ["image", "w"], ["c"]), n("Sigmoid", ["c"], ["map"]),
     n("GlobalAveragePool", ["c"], ["p"]), n("Flatten", ["p"], ["f"]),
     n("Mul", ["f", "gain"], ["score"])], {"gain": [1, 5], "image": [1, 3, 8, 9]},
     {"score": [1, 5], "map": [1, 5, 6, 7]}, w)

# what left 119 transposes in a DenseNet, and a broken file of an EdgeNeXt
dense, weights, width = [n("Conv", ["x", "w"], ["d0"], pads=[1] * 4)], dict(w), 5
for i in range(1, 5):
    weights |= {f"k{i}": floats(2, width, 3, 3), f"s{i}": floats(1, width, 1, 1)}
    dense += [n("Mul", [f"d{i-1}", f"s{i}"], [f"m{i}"]), n("Relu", [f"m{i}"], [f"r{i}"]),
              n("Conv", [f"r{i}", f"k{i}"], [f"c{i}"], pads=[1] * 4),
              n("Concat", [f"d{i-1}", f"c{i}"], [f"d{i}"], axis=1)]
    width += 2
save("dense.onnx", [*dense, n("GlobalAveragePool", ["d4"], ["g"]), n("Flatten", ["g"], ["y"])],
     {"x": [1, 3, 8, 8]}, {"y": [1, width]}, weights)

save("norm.onnx", [n("Conv", ["x", "w"], ["a"]), n("Transpose", ["a"], ["t"], perm=[0, 2, 3, 1]),
     n("LayerNormalization", ["t", "g", "b"], ["l"], axis=-1, epsilon=1e-6),
     n("Transpose", ["l"], ["u"], perm=[0, 3, 1, 2]), n("GlobalAveragePool", ["u"], ["p"]),
     n("Flatten", ["p"], ["y"])], {"x": [1, 3, 8, 9]}, {"y": [1, 5]},
     {**w, "g": floats(5), "b": floats(5)})
save("det.onnx", [n("Det", ["x"], ["y"])], {"x": [1, 4, 4]}, {"y": [1]})
save("scalar.onnx", [n("Mul", ["x", "k"], ["y"])], {"x": [1, 6], "k": []}, {"y": [1, 6]})
"""

NAMES = ["nchw", "nhwc", "sequence", "video", "ends", "dense", "norm", "scalar"]


@pytest.fixture
def models(build: Build) -> Path:
    return build("edge", MODELS)


def agree(infer: Infer, before: Artifact, after: Artifact) -> None:
    chance = np.random.default_rng(1)
    feeds: dict[str, Any] = {
        port.name: np.asarray(
            chance.normal(size=[size or 1 for size in port.shape or ()]), np.float32
        )
        for port in before.ends().inputs
    }
    wanted, received = infer(before, feeds), infer(after, feeds)
    assert list(wanted) == list(received)
    for name, array in wanted.items():
        np.testing.assert_allclose(received[name], array, rtol=1e-4, atol=1e-5)


def assess(made: Artifact) -> quality.Quality:
    return quality.assess(reader.read(made.path))


@pytest.mark.parametrize("keep_layout", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_names_order_and_numbers_stay(
    models: Path,
    artifact: MakeArtifact,
    run_stage: RunStage,
    infer: Infer,
    name: str,
    keep_layout: bool,
) -> None:
    given = artifact(models / f"{name}.onnx")
    made = run_stage("tflite_from_onnx", given, keep_layout=keep_layout)
    agree(infer, given, made)
    if keep_layout:
        assert all(port.permutation is None for port in made.ends().inputs)


@pytest.mark.parametrize("name", ["nchw", "nhwc", "sequence", "dense", "norm"])
def test_no_transposes_are_inserted(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, name: str
) -> None:
    assert assess(run_stage("tflite_from_onnx", artifact(models / f"{name}.onnx"))).inserted == 0


def test_a_product_with_weights_and_bias_is_one_dense_layer(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    made = run_stage("tflite_from_onnx", artifact(models / "sequence.onnx"))
    assert reader.read(made.path).ops() == {"FULLY_CONNECTED": 1}


def test_without_placing_them_anew_onnx2tf_leaves_transposes(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    given = artifact(models / "dense.onnx")
    made = run_stage("tflite_from_onnx", given, place_transposes=False)
    assert assess(made).transposes > 0


def test_images_go_channels_last_and_the_port_says_so(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    port = run_stage("tflite_from_onnx", artifact(models / "nchw.onnx")).ends().inputs[0]
    assert (port.shape, port.permutation) == ((1, 8, 9, 3), (0, 2, 3, 1))
    assert port.given_shape() == (1, 3, 8, 9)


def test_what_is_channels_last_already_stays(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    port = run_stage("tflite_from_onnx", artifact(models / "nhwc.onnx")).ends().inputs[0]
    assert (port.shape, port.permutation) == ((1, 8, 9, 3), None)


def test_the_tensorflow_back_end_agrees_too(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, infer: Infer, toolchain: Any
) -> None:
    toolchain("onnx2tf-tensorflow")
    for name in ("nchw", "nhwc", "ends"):
        given = artifact(models / f"{name}.onnx")
        agree(infer, given, run_stage("tflite_from_onnx.tensorflow", given))


def test_an_operator_that_tflite_lacks_fails_with_its_name(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    with pytest.raises(StageError, match="Det"):
        run_stage("tflite_from_onnx", artifact(models / "det.onnx"))


def test_the_runner_names_shape_and_type_of_what_it_refuses(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, infer: Infer
) -> None:
    made = run_stage("tflite_from_onnx", artifact(models / "sequence.onnx"))
    with pytest.raises(InputError, match="received int64"):
        infer(made, {"x": np.zeros((1, 9, 7), np.int64)})
    with pytest.raises(InputError, match=r"takes the shape \(1, 9, 7\), received \(1, 2, 7\)"):
        infer(made, {"x": np.zeros((1, 2, 7), np.float32)})


QUANTIZED = """
from ai_edge_quantizer import quantizer, recipe
import numpy as np
source = SOURCE
q = quantizer.Quantizer(source)
q.load_quantization_recipe(recipe.static_wi8_ai8())
data = {"serving_default": [{"x": np.random.default_rng(i).normal(size=(1, 9, 7)).astype("float32")}
        for i in range(8)]}
q.quantize(q.calibrate(data)).export_model("int8.tflite")
"""


def test_a_quantized_file_takes_and_gives_floats(
    models: Path, build: Build, artifact: MakeArtifact, run_stage: RunStage, infer: Infer
) -> None:
    given = artifact(models / "sequence.onnx")
    made = run_stage("tflite_from_onnx", given)
    folder = build("edge", QUANTIZED.replace("SOURCE", repr(str(made.path))))
    quantized = artifact(folder / "int8.tflite")
    feeds = {"x": np.random.default_rng(3).uniform(-0.3, 0.3, (1, 9, 7)).astype(np.float32)}
    wanted = infer(made, feeds)["y"]
    received = next(iter(infer(quantized, feeds).values()))
    assert received.dtype == np.float32
    graph = reader.read(quantized.path).main
    scale = graph.tensors[graph.outputs[0]].quantization
    assert scale is not None
    assert np.abs(received - wanted).max() < 4 * scale.scales[0]
    assert np.abs(wanted).max() > 20 * scale.scales[0]
