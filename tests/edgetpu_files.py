"""Compiled Edge TPU files made here, and where the pairs of real ones lie."""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tflite_models import model_of

from edgepipe.tflite.graph import Model, Op, Quantization, Tensor

GOLDEN = Path(
    os.environ.get("EDGEPIPE_GOLDEN", Path(__file__).parents[2] / "shared" / "edgetpu")
)  # fmt: skip
"""Models with the files that the real compiler made of them; they are no part of the project."""


def manifest() -> list[dict[str, Any]]:
    path = GOLDEN / "pairs" / "manifest.json"
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    return found


PAIRS = manifest()
needs_pairs = pytest.mark.skipif(
    not PAIRS, reason="no pairs of real files here; set EDGEPIPE_GOLDEN to the folder with them"
)


def pair(field: str, entry: dict[str, Any]) -> Path:
    return GOLDEN / "pairs" / str(entry[field])


def package(
    executables: list[dict[str, Any]], runtime: int = 14, inside: list[bytes] | None = None
) -> bytes:
    """A package; an executable: kind, parameters, instructions, cycles, cycles64, token, tile."""
    builder = _builder()
    multi = _multi([_executable(one) for one in executables]) if executables else b""
    data = builder.CreateByteVector(multi)
    parts = []
    for one in inside or []:
        vector = builder.CreateByteVector(one)
        builder.StartObject(1)
        builder.PrependUOffsetTRelativeSlot(0, vector, 0)
        parts.append(builder.EndObject())
    chips = _offsets(builder, parts) if parts else 0
    words = builder.CreateString("a compiler")
    builder.StartObject(8)
    builder.PrependInt32Slot(0, runtime, 0)
    builder.PrependUOffsetTRelativeSlot(1, data, 0)
    builder.PrependUOffsetTRelativeSlot(4, words, 0)
    if chips:
        builder.PrependUOffsetTRelativeSlot(6, chips, 0)
    builder.Finish(builder.EndObject(), file_identifier=b"DWN1")
    return bytes(builder.Output())


def options(*packages: bytes) -> bytes:
    """A compiled operator's options, written by the FlatBuffers library itself."""
    flex: Any = import_module("flatbuffers.flexbuffers").Builder()
    with flex.Map():
        flex.Key("1")
        flex.UInt(1)
        flex.Key("4")
        flex.Blob(packages[0])
        flex.Key("5")
        flex.UInt(1)
        if packages[1:]:
            flex.Key("7")
            with flex.Vector():
                for one in packages[1:]:
                    flex.Blob(one)
    return bytes(flex.Finish())


def compiled(custom_options: bytes, rest: bool = True) -> Model:
    """A compiled operator, and a SOFTMAX that was left."""
    x, y, z = (_tensor(name, (1, 4)) for name in "xyz")
    chip = Op("CUSTOM", [x], [y], custom="edgetpu-custom-op", custom_options=custom_options)
    left = Op.make("SOFTMAX", [y], [z], beta=1.0)
    return model_of([chip, left] if rest else [chip], [x], [z if rest else y])


def source() -> Model:
    """What `compiled` was made of: RELU on the chip."""
    x, y, z = (_tensor(name, (1, 4)) for name in "xyz")
    ops = [Op.make("RELU", [x], [y]), Op.make("SOFTMAX", [y], [z], beta=1.0)]
    return model_of(ops, [x], [z])


def cached() -> list[dict[str, Any]]:
    """Two executables as the compiler writes them where all parameters fit."""
    return [
        {"kind": 2, "instructions": 48, "tile": 832, "cycles64": 1000, "token": 7},
        {"kind": 1, "parameters": 640, "instructions": 16, "token": 7},
    ]


def _tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    return Tensor(name, shape, "int8", quantization=Quantization((0.5,), (0,)))


def _builder() -> Any:
    return import_module("flatbuffers").Builder(256)


def _offsets(builder: Any, found: list[int]) -> int:
    builder.StartVector(4, len(found), 4)
    for one in reversed(found):
        builder.PrependUOffsetTRelative(one)
    return int(builder.EndVector())


def _multi(executables: list[bytes]) -> bytes:
    builder = _builder()
    vector = _offsets(builder, [builder.CreateString(one) for one in executables])
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _executable(facts: dict[str, Any]) -> bytes:
    builder = _builder()
    parameters = builder.CreateByteVector(bytes(facts.get("parameters", 0)))
    stream = builder.CreateByteVector(bytes(facts.get("instructions", 0)))
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, stream, 0)
    streams = _offsets(builder, [builder.EndObject()])
    layers = _offsets(builder, [_layer(builder, "x")])
    builder.StartObject(17)
    builder.PrependUOffsetTRelativeSlot(5, streams, 0)
    builder.PrependUOffsetTRelativeSlot(6, parameters, 0)
    builder.PrependUOffsetTRelativeSlot(8, layers, 0)
    builder.PrependInt32Slot(11, facts.get("cycles", 0), 0)
    builder.PrependInt32Slot(12, facts.get("tile", 0), 0)
    builder.PrependInt16Slot(13, facts.get("kind", 0), 0)
    builder.PrependUint64Slot(14, facts.get("token", 0), 0)
    builder.PrependInt64Slot(16, facts.get("cycles64", 0), 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _layer(builder: Any, name: str) -> int:
    words = builder.CreateString(name)
    builder.StartObject(2)
    builder.PrependInt32Slot(0, -3, 0)
    builder.PrependFloat32Slot(1, 0.5, 0.0)
    numerics = builder.EndObject()
    builder.StartObject(12)
    builder.PrependUOffsetTRelativeSlot(0, words, 0)
    for slot, value in ((1, 64), (2, 1), (3, 1), (4, 4)):
        builder.PrependInt32Slot(slot, value, 0)
    builder.PrependUOffsetTRelativeSlot(5, numerics, 0)
    builder.PrependInt16Slot(6, 8, 0)
    return int(builder.EndObject())
