"""Keras to integers by TFLiteConverter, and the choice between it and ai-edge-quantizer."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepipe
from edgepipe.errors import NoRouteLeft
from edgepipe.tflite import reader

pytestmark = pytest.mark.toolchain("keras", "edge")

Build = Callable[[str, str], Path]
ROUTE = "tflite-converter-quant"
MODELS = """
import keras
from keras import layers as L
keras.utils.set_random_seed(1)
z, a = keras.Input((4,), name="z"), keras.Input((8, 8, 3), name="a")
y = L.GlobalAveragePooling2D()(L.Conv2D(8, 3, activation="relu")(a))
y = L.Dense(5, name="scores")(L.Concatenate()([y, L.Dense(4)(z)]))
keras.Model([z, a], [y, L.Dense(2, name="box")(z)]).save("two.keras")
s = keras.Input((6, 3), name="s")
y = L.Bidirectional(L.GRU(5, return_sequences=True))(s)
keras.Model(s, L.Dense(2)(L.LSTM(5)(y))).save("recurrent.keras")
x = keras.Input((8, 8, 3), name="x")
y = L.Dense(5)(L.GlobalAveragePooling2D()(L.Conv2D(8, 3, activation="relu")(x)))
keras.Model(x, y).save("cnn.keras")
keras.Model(x, keras.ops.sin(y)).save("sine.keras")
ids = keras.Input((24,), dtype="int32", name="ids")
y = L.Embedding(200, 16)(ids)
y = L.LayerNormalization()(y + L.MultiHeadAttention(2, 8)(y, y))
y = L.Conv1D(16, 3, padding="causal", dilation_rate=2, activation="elu")(y)
keras.Model(ids, L.Dense(1)(L.GlobalMaxPooling1D()(y))).save("text.keras")
"""


@pytest.fixture(scope="module")
def models(build: Build) -> Path:
    return build("keras", MODELS)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second input is a hundred times the first: fed the wrong way round, all is lost."""
    path = tmp_path_factory.mktemp("data") / "two.npz"
    random = np.random.default_rng(0)
    z = random.normal(size=(40, 4)).astype(np.float32)
    a = 100 * random.normal(size=(40, 8, 8, 3)).astype(np.float32)
    np.savez(path, z=z, a=a)
    return path


def ends_of(path: Path) -> list[str]:
    main = reader.read(path).main
    return [main.tensors[index].dtype for index in (*main.inputs, *main.outputs)]


@pytest.mark.parametrize(
    ("precision", "io", "ends"),
    [
        ("int8", "", "int8"),
        ("int8", "uint8", "uint8"),
        ("int16x8", "", "int16"),
        ("float16", "", "float32"),
    ],
)
def test_each_scheme_with_inputs_by_name(
    models: Path, two: Path, tmp_path: Path, precision: str, io: str, ends: str
) -> None:
    result = edgepipe.convert(
        models / "two.keras",
        precision=precision,
        io=io,
        calibration=two,
        route=ROUTE,
        out=tmp_path,
    )
    assert set(ends_of(result.model)) == {ends}
    assert result.sqnr_db is not None and result.sqnr_db > 25
    ports = result.report["outputs"][-1]["signature"]
    assert [port["name"] for port in ports["inputs"]] == ["z", "a"]


def test_a_file_that_nothing_was_quantized_in_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(NoRouteLeft, match=r"dynamic was asked for, and nothing .* is quantized"):
        edgepipe.convert(models / "two.keras", precision="dynamic", route=ROUTE, out=tmp_path)


def test_per_tensor_weights_have_one_scale(models: Path, two: Path, tmp_path: Path) -> None:
    for stage, route in (
        ("tflite_quantized_from_keras", ROUTE),
        ("tflite_quantize", "tflite-converter+aeq"),
    ):
        result = edgepipe.convert(
            models / "two.keras",
            precision="int8",
            calibration=two,
            options={stage: {"dense_weights": "per-tensor"}},
            out=tmp_path / stage,
            route=route,
        )
        main = reader.read(result.model).main
        scales = {
            op.name: len(main.tensors[op.inputs[1]].quantization.scales)  # type: ignore[union-attr]
            for op in main.operators
            if op.name in ("FULLY_CONNECTED", "CONV_2D")
        }
        assert scales == {"FULLY_CONNECTED": 1, "CONV_2D": 8}


def test_images_calibrate_a_toolchain_that_reads_none(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        write_png(folder / f"{number}.png", random.integers(0, 256, (8, 8, 3), np.uint8))
    result = edgepipe.convert(
        models / "cnn.keras", precision="int8", calibration=folder, route=ROUTE, out=tmp_path / "o"
    )
    chosen = next(item for item in result.report["routes"] if item["status"] == "chosen")
    assert "calibrated on 10 samples (TFLiteConverter's min-max)" in chosen["steps"][-1]["notes"]


@pytest.mark.parametrize("route", [ROUTE, "tflite-converter+aeq"])
def test_recurrent_layers_become_integers_step_by_step(
    models: Path, tmp_path: Path, route: str
) -> None:
    arguments: dict[str, Any] = {"calibration": "random", "route": route, "out": tmp_path}
    result = edgepipe.convert(models / "recurrent.keras", precision="int8", min_sqnr=1, **arguments)
    ops = reader.read(result.model).ops()
    assert "WHILE" not in ops and ops["FULLY_CONNECTED"] >= 18


@pytest.mark.toolchain("onnx2tf")
@pytest.mark.parametrize("route", ["tf2onnx+onnx2tf+aeq", "tflite-converter+aeq"])
def test_a_network_for_text_is_integers_from_its_embedding_on(
    models: Path, tmp_path: Path, route: str
) -> None:
    """ELU and the maximum behind it have no rule in the quantizer: one's scale is calibrated."""
    result = edgepipe.convert(
        models / "text.keras", precision="int8", calibration="random", route=route, out=tmp_path
    )
    assert result.sqnr_db is not None and result.sqnr_db > 25
    ops = reader.read(result.model).ops()
    assert ops["ELU"] == ops["REDUCE_MAX"] == 1 and "DEQUANTIZE" not in ops


def test_an_operator_without_integers_is_refused(models: Path, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"precision": "int8", "calibration": "random", "route": ROUTE}
    with pytest.raises(NoRouteLeft, match=r"(?i)sin"):
        edgepipe.convert(models / "sine.keras", **arguments, out=tmp_path)
    result = edgepipe.convert(
        models / "sine.keras", **arguments, allow_float=True, min_sqnr=10, out=tmp_path
    )
    assert result.model.exists()


@pytest.mark.toolchain("onnx2tf")
def test_explore_keeps_what_is_nearest_to_the_float_model(
    models: Path, two: Path, tmp_path: Path
) -> None:
    result = edgepipe.convert(
        models / "two.keras", precision="int8", calibration=two, explore=True, out=tmp_path
    )
    proven = {
        item["route"]: item["end_to_end"] or item["steps"][-1]["proof"]
        for item in result.report["routes"]
        if item["status"] in ("chosen", "proven")
    }
    assert {ROUTE, "tflite-converter+aeq"} <= set(proven)
    best = max(proof["sqnr_db"] for proof in proven.values())
    assert proven[result.route]["sqnr_db"] > best - 4


def write_png(path: Path, image: Any) -> None:
    """Eight bits, RGB, no filter: enough for any reader."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checked

    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
