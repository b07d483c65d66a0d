"""OpenVINO: the IR that is made of ONNX, what its runner computes, folders that are no IR."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepipe
from edgepipe.artifact import Artifact, Format
from edgepipe.dataset import DataSource
from edgepipe.errors import BrokenOutput, EdgepipeError, StageFailed, UnknownFormat
from edgepipe.identify import identify
from edgepipe.learning import Learning
from edgepipe.runner import Description
from edgepipe.session import Session

pytestmark = pytest.mark.toolchain("edge", "openvino")

Build = Callable[[str, str], Path]
MakeArtifact = Callable[..., Artifact]
RunStage = Callable[..., Artifact]
Describe = Callable[[Artifact], Description]
Infer = Callable[[Artifact, dict[str, Any]], dict[str, Any]]

MODELS = """
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
rng = np.random.default_rng(0)
def value(name, shape, kind=T.FLOAT): return h.make_tensor_value_info(name, kind, shape)
def array(name, values): return nh.from_array(np.asarray(values), name)
def floats(*shape): return rng.normal(size=shape).astype(np.float32)
def save(path, nodes, ins, outs, weights=(), **saving):
    graph = h.make_graph(nodes, "g", ins, outs, list(weights))
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, path, **saving)
n = h.make_node
save("heads.onnx", [n("MatMul", ["x", "q"], ["a"]), n("Transpose", ["x"], ["k"], perm=[0, 2, 1]),
     n("MatMul", ["a", "k"], ["s"]), n("Softmax", ["s"], ["p"], axis=-1),
     n("MatMul", ["p", "x"], ["y"])], [value("x", [1, 6, 8])], [value("y", [1, 6, 8])],
     [array("q", floats(8, 8))])
save("conv.onnx", [n("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]), n("Relu", ["c"], ["r"]),
     n("GlobalAveragePool", ["r"], ["z"]), n("Flatten", ["z"], ["a"])],
     [value("x", ["batch", 3, 8, 8])], [value("r", ["batch", 4, 8, 8]), value("a", ["batch", 4])],
     [array("w", floats(4, 3, 3, 3)), array("b", floats(4))])
save("table.onnx", [n("Gather", ["t", "rows"], ["g"]), n("Mul", ["g", "x"], ["y"])],
     [value("x", [2, 4]), value("rows", [2], T.INT64)], [value("y", [2, 4])],
     [array("t", floats(5, 4))])
save("beside.onnx", [n("MatMul", ["x", "w"], ["y"])], [value("x", [1, 64])],
     [value("y", [1, 64])], [array("w", floats(64, 64))],
     save_as_external_data=True, location="beside.data", size_threshold=0)
save("strange.onnx", [n("Frobnicate", ["x"], ["y"], domain="made.up")], [value("x", [1, 4])],
     [value("y", [1, 4])])
"""

FEEDS: dict[str, dict[str, Any]] = {
    "conv": {"x": np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)},
    "table": {
        "x": np.random.default_rng(2).normal(size=(2, 4)).astype(np.float32),
        "rows": np.array([4, 1]),
    },
    "beside": {"x": np.random.default_rng(3).normal(size=(1, 64)).astype(np.float32)},
}


@pytest.fixture(scope="module")
def models(build: Build) -> Path:
    return build("edge", MODELS)


@pytest.fixture(scope="module")
def made(models: Path, artifact: MakeArtifact, run_stage: RunStage) -> Artifact:
    """The IR of `conv`."""
    return run_stage("openvino_from_onnx", artifact(models / "conv.onnx", inputs="1x3x8x8"))


@pytest.mark.parametrize("name", FEEDS)
def test_the_ir_computes_what_the_onnx_model_does(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, infer: Infer, name: str
) -> None:
    shape = {"inputs": "1x3x8x8"} if name == "conv" else {}
    given = artifact(models / f"{name}.onnx", **shape)
    after = run_stage("openvino_from_onnx", given)
    assert after.format is Format.OPENVINO
    assert after.ends().inputs[0].shape == FEEDS[name]["x"].shape
    wanted, received = infer(given, FEEDS[name]), infer(after, FEEDS[name])
    assert list(wanted) == list(received)
    for output, array in wanted.items():
        assert received[output].dtype == array.dtype
        np.testing.assert_allclose(received[output], array, rtol=1e-5, atol=1e-6)


def test_weights_stay_float32(made: Artifact, describe: Describe) -> None:
    parameters = 4 * 3 * 3 * 3 + 4
    assert describe(made).parameters == parameters
    assert (made.path / "model.bin").stat().st_size >= 4 * parameters


@pytest.fixture(scope="module")
def tensorflows(build: Build) -> Path:
    """One model of two inputs and two outputs, as SavedModel and as TFLite."""
    return build(
        "keras",
        """
import keras, tensorflow as tf
keras.utils.set_random_seed(0)
image, more = keras.Input((8, 8, 3), name="zb"), keras.Input((4,), name="aa")
x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(image)
x = keras.layers.GlobalAveragePooling2D()(x)
both = keras.layers.Concatenate()([x, more])
model = keras.Model([image, more], [keras.layers.Dense(5)(x), keras.layers.Dense(2)(both)])
model.export("saved", verbose=False)
converter = tf.lite.TFLiteConverter.from_saved_model("saved")
open("model.tflite", "wb").write(converter.convert())
""",
    )


@pytest.mark.toolchain("edge", "openvino", "keras")
@pytest.mark.parametrize(
    ("stage", "name"),
    [("openvino_from_tflite", "model.tflite"), ("openvino_from_saved_model", "saved")],
)
def test_openvinos_own_readers_compute_the_same(
    tensorflows: Path,
    artifact: MakeArtifact,
    run_stage: RunStage,
    infer: Infer,
    stage: str,
    name: str,
) -> None:
    given = artifact(tensorflows / name)
    rng = np.random.default_rng(6)
    feeds = {}
    pinned = []
    for port in given.ends().inputs:
        shape = tuple(size or 1 for size in port.shape or ())
        pinned.append(f"{port.name}={'x'.join(map(str, shape))}")
        feeds[port.name] = rng.normal(size=shape).astype(np.float32)
    given = artifact(tensorflows / name, inputs=tuple(pinned))
    after = run_stage(stage, given)
    assert after.format is Format.OPENVINO
    assert all(port.fixed for port in after.ends().outputs)
    wanted, received = infer(given, feeds), infer(after, feeds)
    assert list(wanted) == list(received)
    assert len(wanted) == 2
    for output, array in wanted.items():
        np.testing.assert_allclose(received[output], array, rtol=1e-4, atol=1e-5)


def test_an_xml_is_its_model_with_the_bin_beside_it(
    made: Artifact, tmp_path: Path, artifact: MakeArtifact, infer: Infer
) -> None:
    for name in ("first", "second"):  # The folder would be refused: it holds two.
        for end in (".xml", ".bin"):
            shutil.copy(made.path / f"model{end}", tmp_path / f"{name}{end}")
    result = edgepipe.convert(tmp_path / "second.xml", target="openvino", out=tmp_path / "out")
    assert {path.name for path in result.model.iterdir()} == {"second.xml", "second.bin"}
    given = artifact(tmp_path / "second.xml")
    assert edgepipe.inspect(tmp_path / "second.xml").size == edgepipe.inspect(result.model).size
    np.testing.assert_array_equal(
        infer(given, FEEDS["conv"])["a"], infer(artifact(result.model), FEEDS["conv"])["a"]
    )
    weights = tmp_path / "second.bin"
    digest = given.digest
    changed = bytearray(weights.read_bytes())
    changed[0] ^= 1
    weights.write_bytes(changed)
    assert artifact(tmp_path / "second.xml").digest != digest
    weights.write_bytes(bytes(100_000))
    with pytest.raises(UnknownFormat, match=r"second\.bin has 100,000: it belongs to another"):
        identify(tmp_path / "second.xml")
    weights.unlink()
    with pytest.raises(UnknownFormat, match=r"second\.bin with its weights is missing"):
        identify(tmp_path / "second.xml")


def test_an_op_that_openvino_lacks_is_named(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    with pytest.raises(EdgepipeError, match="Frobnicate"):
        run_stage("openvino_from_onnx", artifact(models / "strange.onnx"))


def test_converts_and_delivers_xml_and_bin(
    models: Path, tmp_path: Path, artifact: MakeArtifact, infer: Infer
) -> None:
    result = edgepipe.convert(
        models / "conv.onnx", target="openvino", inputs=("1x3x8x8",), out=tmp_path
    )
    assert result.model == tmp_path / "openvino"
    assert {path.name for path in result.model.iterdir()} == {"model.xml", "model.bin"}
    delivered = artifact(result.model)
    assert {port.name for port in delivered.ends().outputs} == {"r", "a"}
    wanted = infer(artifact(models / "conv.onnx", inputs="1x3x8x8"), FEEDS["conv"])
    received = infer(delivered, FEEDS["conv"])
    np.testing.assert_allclose(received["a"], wanted["a"], rtol=1e-5, atol=1e-6)

    # Another target into the same folder: nothing of the earlier run stays beside its report.
    edgepipe.convert(models / "conv.onnx", target="onnx", inputs=("1x3x8x8",), out=tmp_path)
    assert not result.model.exists()


def test_folders_that_are_no_whole_ir_are_refused(made: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "ir"
    shutil.copytree(made.path, folder)
    assert identify(folder) is Format.OPENVINO
    weights = folder / "model.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UnknownFormat, match=r"model\.bin has 100: it belongs to another model"):
        identify(folder)
    weights.unlink()
    with pytest.raises(UnknownFormat, match=r"model\.bin with its weights is missing"):
        identify(folder)
    shutil.copy(made.path / "model.bin", weights)
    graph = folder / "model.xml"
    text = graph.read_text()
    graph.write_text(text[:600])
    with pytest.raises(UnknownFormat, match="does not end with </net>"):
        identify(folder)
    graph.write_text(text)
    shutil.copy(graph, folder / "second.xml")
    with pytest.raises(UnknownFormat, match="2 OpenVINO models"):
        identify(folder)


def test_a_graph_that_openvino_cannot_read_is_told(
    made: Artifact, tmp_path: Path, artifact: MakeArtifact
) -> None:
    folder = tmp_path / "ir"
    shutil.copytree(made.path, folder)
    graph = folder / "model.xml"
    graph.write_text(graph.read_text().replace('type="Convolution"', 'type="Frobnicate"'))
    with pytest.raises(BrokenOutput, match="OpenVINO can't read"):
        artifact(folder)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "conv.npz"
    np.savez(path, x=np.random.default_rng(4).normal(size=(40, 3, 8, 8)).astype(np.float32))
    return path


@pytest.mark.parametrize(
    ("precision", "least", "element"), [("int8", 20, "i8"), ("float16", 50, "f16")]
)
def test_fewer_bits_are_smaller_and_stay_near(
    models: Path, samples: Path, tmp_path: Path, precision: str, least: float, element: str
) -> None:
    result = edgepipe.convert(
        models / "conv.onnx",
        target="openvino",
        precision=precision,
        inputs=("1x3x8x8",),
        calibration=str(samples),
        out=tmp_path,
    )
    assert result.model == tmp_path / f"openvino_{precision}"
    assert identify(result.model) is Format.OPENVINO_QUANTIZED
    db = result.sqnr_db
    assert db is not None
    assert least < db < 100  # As near as float32 it can't be.
    text = (result.model / "model.xml").read_text()
    assert ("FakeQuantize" in text) is (precision == "int8")
    assert re.search(rf'element_type="{element}" shape="4, 3, 3, 3"', text)


@pytest.fixture(scope="module")
def quantized_text(
    models: Path, session: Session, artifact: MakeArtifact, run_stage: RunStage
) -> Callable[..., str]:
    """The graph of `heads` in int8, with options."""

    def make(**options: Any) -> str:
        given = run_stage("openvino_from_onnx", artifact(models / "heads.onnx"))
        path = session.folder / "heads.npz"
        np.savez(path, x=np.random.default_rng(5).normal(size=(12, 6, 8)).astype(np.float32))
        before = session.learning
        session.learning = Learning.of(DataSource.of(path), None, 0.2)
        try:
            made = run_stage("openvino_quantize", given, **options)
        finally:
            session.learning = before
        return (made.path / "model.xml").read_text()

    return make


def test_attention_is_spared_as_of_a_transformer(quantized_text: Callable[..., str]) -> None:
    found, plain = quantized_text(), quantized_text(model_type="plain")
    assert '<model_type value="transformer" />' in found
    assert '<model_type value="transformer" />' not in plain


def test_layers_stay_in_float_by_type(quantized_text: Callable[..., str]) -> None:
    assert 'type="FakeQuantize"' in quantized_text(float_types="Softmax")
    with pytest.raises(StageFailed, match="nothing was quantized"):
        quantized_text(float_types="MatMul")


@pytest.fixture(scope="module")
def chain(build: Build) -> Path:
    """Eight products with a tanh between, and samples."""
    return build(
        "edge",
        MODELS.partition('save("heads')[0]
        + """
nodes = [n("MatMul", ["x", "m0"], ["p0"])]
for i in range(1, 8):
    nodes += [n("Tanh", [f"p{i - 1}"], [f"t{i}"]), n("MatMul", [f"t{i}", f"m{i}"], [f"p{i}"])]
save("chain.onnx", nodes, [value("x", [4, 16])], [value("p7", [4, 16])],
     [array(f"m{i}", floats(16, 16) / 3) for i in range(8)])
np.savez("chain.npz", x=floats(40, 4, 16))
""",
    )


def quantized_chain(
    chain: Path,
    artifact: MakeArtifact,
    session: Session,
    run_stage: RunStage,
    infer: Infer,
    **options: Any,
) -> tuple[float, str]:
    """Decibels of one batch, and the graph."""
    given = run_stage("openvino_from_onnx", artifact(chain / "chain.onnx"))
    before = session.learning
    session.learning = Learning.of(DataSource.of(chain / "chain.npz"), None, 0.2)
    try:
        made = run_stage("openvino_quantize", given, smooth_quant="-1", **options)
    finally:
        session.learning = before
    feeds = {"x": np.load(chain / "chain.npz")["x"][-1]}
    wanted, received = infer(given, feeds)["p7"], infer(made, feeds)["p7"]
    noise = float(np.square(wanted - received).sum())
    return 10 * np.log10(float(np.square(wanted).sum()) / noise), (
        made.path / "model.xml"
    ).read_text()


def test_what_int8_loses_too_much_of_is_left_in_float(
    chain: Path, artifact: MakeArtifact, session: Session, run_stage: RunStage, infer: Infer
) -> None:
    around = (chain, artifact, session, run_stage, infer)
    plain, text = quantized_chain(*around, repair="off")
    limit = str(round(plain + 2))
    repaired, spared = quantized_chain(*around, repair="auto", limit_db=limit)
    assert repaired > plain + 1
    count = 'type="FakeQuantize"'
    assert 0 < spared.count(count) < text.count(count)


@pytest.mark.toolchain("edge", "openvino", "keras")
def test_result_within_the_limit_is_not_made_slower(tmp_path: Path) -> None:
    examples = Path(__file__).parents[1] / "examples" / "digits_keras"

    def repairs(limit_db: float) -> list[str]:
        result = edgepipe.convert(
            examples / "digits.h5",
            target="openvino",
            precision="int8",
            calibration=examples / "calibration.npz",
            limit=20,  # No more than a try is judged on, so that both figures are of the same.
            options={
                "openvino_quantize": {
                    "limit_db": f"{limit_db:.2f}",
                    "ranges": "mean",  # What costs no time later is tried all the same.
                    "preset": "performance",
                }
            },
            out=tmp_path,
        )
        steps = result.report["routes"][0]["steps"]
        return [note for note in steps[-1]["notes"] if note.startswith("repair")]

    first = repairs(80.0)[0]
    plain = float(first.rpartition(": ")[2].split(" to ")[0])
    assert repairs(plain - 0.5) == []
    assert repairs(plain + 0.2) != []


@pytest.mark.toolchain("edge", "openvino", "keras")
def test_accuracy_control_keeps_what_it_promises(tmp_path: Path) -> None:
    examples = Path(__file__).parents[1] / "examples" / "digits_keras"
    said: dict[str, Any] = {
        "target": "openvino",
        "precision": "int8",
        "options": {"openvino_quantize": {"max_drop": "0.01"}},
        "out": tmp_path,
    }
    data = examples / "held_out.npz"
    result = edgepipe.convert(examples / "digits.h5", calibration=data, **said)
    notes = [note for step in result.report["routes"][0]["steps"] for note in step["notes"]]
    assert any("kept its promise of 1.00%" in note for note in notes)
    blind = examples / "calibration.npz"
    with pytest.raises(EdgepipeError, match="needs calibration samples with labels"):
        edgepipe.convert(examples / "digits.h5", calibration=blind, **said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"precision": "int8"}, "needs samples"),
        ({"precision": "int16x8"}, "unknown precision for target openvino"),
        ({"precision": "float16", "io": "int8"}, "openvino_quantize.io"),
        ({"precision": "float16", "calibration_method": "mse"}, "--calibration-method does not"),
        ({"precision": "float16", "repair": "always"}, "openvino_quantize.repair"),
    ],
)
def test_what_openvino_has_not_is_refused_at_once(
    models: Path, tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgepipeError, match=message):
        edgepipe.convert(models / "conv.onnx", target="openvino", out=tmp_path / "out", **said)
    assert not (tmp_path / "out").exists()


def test_an_alpha_out_of_range_is_refused(made: Artifact, run_stage: RunStage) -> None:
    with pytest.raises(EdgepipeError, match="from 0 to 1, or -1 for none, received 3"):
        run_stage("openvino_quantize", made, smooth_quant="3")
