"""The TFLite reader and what it says of a converter's work, on files made here."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepipe.artifact import Port
from edgepipe.errors import UnknownFormat
from edgepipe.tflite import quality, reader
from edgepipe.tflite.names import ACTIVATIONS, DTYPES, OPERATORS

_ARITHMETIC_OPTIONS = {"ADD": 11, "MUL": 21, "SUB": 28, "DIV": 29}
"""BuiltinOptions of operators whose options hold the fused activation in field 0."""


@dataclass
class Op:
    name: str
    inputs: list[int]
    outputs: list[int]
    activation: str = "NONE"
    custom: str = ""
    version: int = 1


@dataclass
class T:
    name: str
    shape: tuple[int, ...] = (1, 4)
    data: Any = None
    dtype: str = "float32"
    signature: tuple[int, ...] = ()
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()


@dataclass
class Model:
    tensors: list[T]
    ops: list[Op]
    inputs: list[int]
    outputs: list[int]
    signature: dict[str, dict[str, int]] = field(default_factory=dict)
    description: str = "a test"


class _Writer:
    def __init__(self) -> None:
        self.builder: Any = import_module("flatbuffers").Builder(1024)

    def numbers(self, values: Any, dtype: str) -> int:
        return int(self.builder.CreateNumpyVector(np.asarray(values, dtype)))

    def offsets(self, found: list[int]) -> int:
        self.builder.StartVector(4, len(found), 4)
        for offset in reversed(found):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def table(self, count: int, fields: dict[int, tuple[str, int]]) -> int:
        self.builder.StartObject(count)
        for slot, (kind, value) in fields.items():
            if kind == "offset":
                self.builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            else:
                getattr(self.builder, f"Prepend{kind}Slot")(slot, value, 0)
        return int(self.builder.EndObject())


def write(model: Model) -> bytes:
    """The file's bytes."""
    w = _Writer()
    buffers = [w.table(3, {})]
    tensors = [_tensor(w, tensor, buffers) for tensor in model.tensors]
    codes: list[tuple[str, str, int]] = []
    ops = [_operator(w, op, codes) for op in model.ops]
    graph = w.table(
        6,
        {
            0: ("offset", w.offsets(tensors)),
            1: ("offset", w.numbers(model.inputs, "<i4")),
            2: ("offset", w.numbers(model.outputs, "<i4")),
            3: ("offset", w.offsets(ops)),
            4: ("offset", w.builder.CreateString("main")),
        },
    )
    opcodes = [_opcode(w, *code) for code in codes]
    fields = {
        0: ("Uint32", 3),
        1: ("offset", w.offsets(opcodes)),
        2: ("offset", w.offsets([graph])),
        3: ("offset", w.builder.CreateString(model.description)),
        4: ("offset", w.offsets(buffers)),
    }
    if model.signature:
        fields[7] = ("offset", w.offsets([_signature(w, model.signature)]))
    root = w.table(8, fields)
    w.builder.Finish(root, file_identifier=b"TFL3")
    return bytes(w.builder.Output())


def _tensor(w: _Writer, tensor: T, buffers: list[int]) -> int:
    buffer = 0
    if tensor.data is not None:
        data = np.ascontiguousarray(np.asarray(tensor.data, tensor.dtype))
        vector = w.numbers(np.frombuffer(data.tobytes(), np.uint8), "u1")
        buffer = len(buffers)
        buffers.append(w.table(3, {0: ("offset", vector)}))
    fields = {
        0: ("offset", w.numbers(tensor.shape, "<i4")),
        1: ("Int8", DTYPES.index(tensor.dtype)),
        2: ("Uint32", buffer),
        3: ("offset", w.builder.CreateString(tensor.name)),
    }
    if tensor.scales:
        scales = w.numbers(tensor.scales, "<f4")
        zeros = w.numbers(tensor.zero_points, "<i8")
        fields[4] = ("offset", w.table(7, {2: ("offset", scales), 3: ("offset", zeros)}))
    if tensor.signature:
        fields[7] = ("offset", w.numbers(tensor.signature, "<i4"))
    return w.table(10, fields)


def _operator(w: _Writer, op: Op, codes: list[tuple[str, str, int]]) -> int:
    code = (op.name, op.custom, op.version)
    if code not in codes:
        codes.append(code)
    fields = {
        0: ("Uint32", codes.index(code)),
        1: ("offset", w.numbers(op.inputs, "<i4")),
        2: ("offset", w.numbers(op.outputs, "<i4")),
    }
    if op.name in _ARITHMETIC_OPTIONS:
        options = w.table(2, {0: ("Int8", ACTIVATIONS.index(op.activation))})
        fields |= {3: ("Uint8", _ARITHMETIC_OPTIONS[op.name]), 4: ("offset", options)}
    return w.table(13, fields)


def _opcode(w: _Writer, name: str, custom: str, version: int) -> int:
    number = OPERATORS.index(name)
    fields = {0: ("Int8", min(number, 127)), 2: ("Int32", version), 3: ("Int32", number)}
    if custom:
        fields[1] = ("offset", w.builder.CreateString(custom))
    return w.table(4, fields)


def _signature(w: _Writer, ends: dict[str, dict[str, int]]) -> int:
    maps = {
        side: w.offsets(
            [
                w.table(2, {0: ("offset", w.builder.CreateString(name)), 1: ("Uint32", index)})
                for name, index in ends[side].items()
            ]
        )
        for side in ("inputs", "outputs")
    }
    key = w.builder.CreateString("serving_default")
    fields = {0: ("offset", maps["inputs"]), 1: ("offset", maps["outputs"]), 2: ("offset", key)}
    return w.table(5, fields)


def small() -> Model:
    return Model(
        tensors=[
            T("x", (1, 4)),
            T("weights", (2, 4), np.arange(8).reshape(2, 4)),
            T("y", (1, 2), signature=(-1, 2)),
            T("q", (1, 2), dtype="int8", scales=(0.5,), zero_points=(-3,)),
        ],
        ops=[Op("FULLY_CONNECTED", [0, 1, -1], [2], version=3), Op("QUANTIZE", [2], [3])],
        inputs=[0],
        outputs=[3],
        signature={"inputs": {"image": 0}, "outputs": {"scores": 3}},
    )


def test_reads_ends_by_their_signature_names_and_tensor_names() -> None:
    signature = reader.read_bytes(write(small())).signature()
    assert signature.inputs == (Port("image", (1, 4), "float32", tensor="x"),)
    assert signature.outputs == (Port("scores", (1, 2), "int8", tensor="q"),)


def test_reads_operators_with_versions_and_inputs_left_out() -> None:
    first, second = reader.read_bytes(write(small())).main.operators
    assert (first.name, first.version, first.inputs, first.outputs) == (
        "FULLY_CONNECTED", 3, (0, 1, -1), (2,),
    )  # fmt: skip
    assert second.name == "QUANTIZE"


def test_reads_constants_quantization_and_open_dimensions() -> None:
    model = reader.read_bytes(write(small()))
    _, weights, y, q = model.main.tensors
    values = model.constant(weights)
    assert values is not None
    np.testing.assert_array_equal(values, np.arange(8, dtype=np.float32).reshape(2, 4))
    assert y.port_shape() == (None, 2)
    assert q.quantization is not None
    assert (q.quantization.scales, q.quantization.zero_points) == ((0.5,), (-3,))
    assert model.parameters() == 8


def test_reads_operators_above_127() -> None:
    model = Model([T("x"), T("y")], [Op("GELU", [0], [1])], [0], [1])
    assert reader.read_bytes(write(model)).ops() == {"GELU": 1}


def test_names_custom_operators() -> None:
    model = Model([T("x"), T("y")], [Op("CUSTOM", [0], [1], custom="FlexErf")], [0], [1])
    assert reader.read_bytes(write(model)).ops() == {"CUSTOM:FlexErf": 1}


def test_finds_tensors_that_nothing_makes() -> None:
    model = Model([T("x"), T("lost"), T("y")], [Op("ADD", [0, 1], [2])], [0], [2])
    assert reader.read_bytes(write(model)).never_made() == ["lost"]
    assert reader.read_bytes(write(small())).never_made() == []


def test_a_file_cut_anywhere_is_an_unknown_format_or_still_whole() -> None:
    data = write(small())
    refused = 0
    for length in range(len(data)):
        try:
            reader.read_bytes(data[:length])
        except UnknownFormat:
            refused += 1
    assert refused > len(data) * 0.9


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_never_raise_anything_else(seed: int) -> None:
    data = write(small())
    chance = random.Random(seed)
    for _ in range(1000):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            damaged[chance.randrange(8, len(data))] = chance.choice((0, 1, 127, 128, 255))
        try:
            model = reader.read_bytes(bytes(damaged))
            quality.assess(model)
            model.signature()
        except UnknownFormat:
            pass


def test_a_vector_larger_than_the_file_is_refused() -> None:
    data = bytearray(write(small()))
    root = int.from_bytes(data[0:4], "little")
    vtable = root - int.from_bytes(data[root : root + 4], "little", signed=True)
    subgraphs = root + int.from_bytes(data[vtable + 8 : vtable + 10], "little")
    vector = subgraphs + int.from_bytes(data[subgraphs : subgraphs + 4], "little")
    data[vector : vector + 4] = (0x3FFFFFFF).to_bytes(4, "little")
    with pytest.raises(UnknownFormat, match="does not fit the file"):
        reader.read_bytes(bytes(data))


def test_a_file_that_refers_to_one_table_endlessly_is_refused() -> None:
    names = [T("x" * 4000)] * 1
    model = Model([*names, T("y")], [Op("ABS", [0], [1])], [0], [1])
    data = bytearray(write(model))
    # A subgraph vector of many entries that all lead to the one subgraph.
    root = int.from_bytes(data[0:4], "little")
    vtable = root - int.from_bytes(data[root : root + 4], "little", signed=True)
    field = root + int.from_bytes(data[vtable + 8 : vtable + 10], "little")
    vector = field + int.from_bytes(data[field : field + 4], "little")
    graph = vector + 4 + int.from_bytes(data[vector + 4 : vector + 8], "little")
    count = 200_000
    shift = len(data)
    entries = count.to_bytes(4, "little") + b"".join(
        ((graph - (shift + 4 + 4 * i)) % (1 << 32)).to_bytes(4, "little") for i in range(count)
    )
    data[field : field + 4] = (shift - field).to_bytes(4, "little")
    with pytest.raises(UnknownFormat):
        reader.read_bytes(bytes(data) + entries)


def test_the_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"\x00\x00\x00\x00TFL3" + b"\xff" * 64)
    with pytest.raises(UnknownFormat, match=r"broken\.tflite is no TFLite model"):
        reader.read(path)
    path.write_bytes(b"")
    with pytest.raises(UnknownFormat, match="empty"):
        reader.read(path)


def scalar(name: str, value: float) -> T:
    return T(name, (1,), [value])


def assess(tensors: list[T], ops: list[Op]) -> quality.Quality:
    model = Model(tensors, ops, [0], [len(tensors) - 1])
    return quality.assess(reader.read_bytes(write(model)))


def test_counts_transposes_custom_and_flex_operators() -> None:
    found = assess(
        [T(name) for name in "abcde"],
        [
            Op("TRANSPOSE", [0], [1]),
            Op("CUSTOM", [1], [2], custom="ONNX_LAYERNORM"),
            Op("CUSTOM", [2], [3], custom="FlexErf"),
            Op("CUSTOM", [3], [4], custom="TFLite_Detection_PostProcess"),
        ],
    )
    assert (found.transposes, found.custom, found.flex, found.inserted) == (1, 1, 1, 3)


def test_finds_hard_swish_in_pieces() -> None:
    tensors = [T("x"), scalar("3", 3), scalar("sixth", 1 / 6), T("a"), T("b"), T("y")]
    ops = [
        Op("ADD", [0, 1], [3], activation="RELU6"),
        Op("MUL", [3, 2], [4]),
        Op("MUL", [0, 4], [5]),
    ]
    assert assess(tensors, ops).split_activations == {"HARD_SWISH": 1}


def test_a_hard_sigmoid_alone_is_not_counted() -> None:
    tensors = [T("x"), scalar("3", 3), scalar("sixth", 1 / 6), T("a"), T("y")]
    ops = [Op("ADD", [0, 1], [3], activation="RELU6"), Op("MUL", [3, 2], [4])]
    assert assess(tensors, ops).inserted == 0


def test_finds_leaky_relu_in_pieces() -> None:
    tensors = [T("x"), scalar("slope", 0.1), T("a"), T("y")]
    ops = [Op("MUL", [0, 1], [2]), Op("MAXIMUM", [0, 2], [3])]
    assert assess(tensors, ops).split_activations == {"LEAKY_RELU": 1}


def test_finds_gelu_in_pieces_by_its_tanh_and_by_its_polynomial() -> None:
    tensors = [T("x"), scalar("c", 0.044715), T("a"), T("b"), scalar("p", 0.3275911), T("y")]
    ops = [Op("MUL", [0, 1], [2]), Op("TANH", [2], [3]), Op("MUL", [3, 4], [5])]
    assert assess(tensors, ops).split_activations == {"GELU": 2}


def test_finds_relu6_in_pieces() -> None:
    tensors = [T("x"), scalar("0", 0), scalar("6", 6), T("a"), T("y")]
    ops = [Op("MAXIMUM", [0, 1], [3]), Op("MINIMUM", [3, 2], [4])]
    assert assess(tensors, ops).split_activations == {"RELU6": 1}


def test_a_normalization_is_counted_but_not_as_inserted() -> None:
    tensors = [T(name) for name in "xmsvry"]
    ops = [
        Op("MEAN", [0], [1]),
        Op("SQUARED_DIFFERENCE", [0, 1], [2]),
        Op("MEAN", [2], [3]),
        Op("RSQRT", [3], [4]),
        Op("MUL", [0, 4], [5]),
    ]
    found = assess(tensors, ops)
    assert (found.normalizations, found.inserted) == (1, 0)
