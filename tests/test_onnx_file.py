"""The walk over an ONNX file's wire format, on bytes encoded here."""

from __future__ import annotations

import contextlib
import random
import tracemalloc
from pathlib import Path

import pytest

from edgepipe import onnx_file
from edgepipe.artifact import Port
from edgepipe.errors import ModelNotFound, UnknownFormat

FLOAT, INT64 = 1, 7


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, data: bytes | str) -> bytes:
    raw = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(raw)) + raw


def value_info(name: str, dtype: int, shape: list[int | str] | None) -> bytes:
    kind = number(1, dtype)
    if shape is not None:
        dims = [number(1, s) if isinstance(s, int) else block(2, s) for s in shape]
        kind += block(2, b"".join(block(1, dim) for dim in dims))
    return block(1, name) + block(2, block(1, kind))


def tensor(name: str, dims: list[int], dtype: int = FLOAT, raw: bytes = b"") -> bytes:
    packed = b"".join(varint(size) for size in dims)
    return block(1, packed) + number(2, dtype) + block(8, name) + block(9, raw)


def node(op: str, inputs: list[str], outputs: list[str], *more: bytes) -> bytes:
    ends = b"".join(block(1, one) for one in inputs) + b"".join(block(2, one) for one in outputs)
    return ends + block(4, op) + b"".join(more)


def graph(nodes: list[bytes], tensors: list[bytes], ins: list[bytes], outs: list[bytes]) -> bytes:
    parts = [(1, nodes), (5, tensors), (11, ins), (12, outs)]
    return b"".join(block(field, one) for field, many in parts for one in many)


def model(body: bytes, opset: int = 17) -> bytes:
    return number(1, 8) + block(2, "test") + block(7, body) + block(8, number(2, opset))


def small() -> bytes:
    return model(
        graph(
            [
                node("Conv", ["x", "w"], ["a"]),
                node("Gelu", ["a"], ["y"], block(7, "com.microsoft")),
            ],
            [tensor("w", [5, 3, 3, 3], raw=b"\0" * 540), tensor("shape", [4], INT64)],
            [value_info("x", FLOAT, ["batch", 3, 8, 8]), value_info("w", FLOAT, [5, 3, 3, 3])],
            [value_info("y", FLOAT, None)],
        )
    )


def test_reads_ends_ops_and_parameters() -> None:
    found = onnx_file.read_bytes(small())
    assert found.opsets == {"": 17}
    assert found.ops == {"Conv": 1, "com.microsoft:Gelu": 1}
    assert found.parameters == 135
    assert found.signature.outputs == (Port("y", None, "float32"),)


def test_leaves_initializers_out_of_the_inputs() -> None:
    assert onnx_file.read_bytes(small()).signature.inputs == (
        Port("x", (None, 3, 8, 8), "float32"),
    )


def test_tells_scalars_from_unknown_ranks_and_open_dimensions() -> None:
    ins = [value_info("s", FLOAT, []), value_info("u", FLOAT, None), value_info("n", FLOAT, [-1])]
    body = graph([node("Max", ["s", "u", "n"], ["y"])], [], ins, [value_info("y", FLOAT, [1])])
    shapes = [port.shape for port in onnx_file.read_bytes(model(body)).signature.inputs]
    assert shapes == [(), None, (None,)]


def test_counts_ops_and_parameters_inside_bodies() -> None:
    inner = graph([node("Add", ["x", "c"], ["b"])], [tensor("c", [7])], [], [])
    body = graph(
        [node("If", ["x"], ["y"], block(5, block(1, "then_branch") + block(6, inner)))],
        [],
        [value_info("x", 9, [])],
        [value_info("y", FLOAT, [7])],
    )
    found = onnx_file.read_bytes(model(body))
    assert (found.ops, found.parameters) == ({"If": 1, "Add": 1}, 7)


def test_bounds_integer_inputs_that_index_a_table() -> None:
    axis = block(5, block(1, "axis") + number(3, 0))
    body = graph(
        [node("Cast", ["ids"], ["i"]), node("Gather", ["table", "i"], ["y"], axis)],
        [tensor("table", [1000, 8])],
        [value_info("ids", INT64, [1, 5])],
        [value_info("y", FLOAT, [1, 5, 8])],
    )
    assert onnx_file.read_bytes(model(body)).signature.inputs[0].high == 1000


def external(location: str) -> bytes:
    entry = block(1, "location") + block(2, location)
    weights = number(1, 10) + number(2, FLOAT) + block(8, "w") + block(13, entry) + number(14, 1)
    outs = [value_info("y", FLOAT, [10])]
    return model(graph([node("Identity", ["w"], ["y"])], [weights], [], outs))


def test_finds_the_files_that_hold_weights_and_digests_them(tmp_path: Path) -> None:
    path, weights = tmp_path / "m.onnx", tmp_path / "m.data"
    path.write_bytes(external("m.data"))
    weights.write_bytes(b"\0" * 40)
    assert onnx_file.external_files(path) == [weights]
    before = onnx_file.digest(path)
    weights.write_bytes(b"\1" * 40)
    assert onnx_file.digest(path) != before


def test_missing_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(external("gone.data"))
    with pytest.raises(ModelNotFound, match=r"gone\.data"):
        onnx_file.external_files(path)


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "a/../../b"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(external(location))
    with pytest.raises(UnknownFormat, match="outside its own folder"):
        onnx_file.external_files(path)


def test_a_file_cut_anywhere_is_refused_or_whole() -> None:
    data = small()
    refused = 0
    for length in range(len(data)):
        try:
            onnx_file.read_bytes(data[:length])
        except UnknownFormat:
            refused += 1
    assert refused >= len(data) - 8  # the opset at the end may be cut to an older one


@pytest.mark.parametrize("seed", range(4))
def test_random_and_damaged_bytes_never_raise_anything_else(seed: int) -> None:
    chance = random.Random(seed)
    data = small()
    for _ in range(500):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 2, 8))):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        for candidate in (bytes(damaged), chance.randbytes(64)):
            with contextlib.suppress(UnknownFormat):
                onnx_file.read_bytes(candidate)


def test_another_protobuf_is_no_onnx(tmp_path: Path) -> None:
    path = tmp_path / "saved_model.onnx"
    path.write_bytes(number(1, 1) + block(2, block(1, "meta")))
    with pytest.raises(UnknownFormat, match=r"saved_model\.onnx is no ONNX model"):
        onnx_file.read(path)


def test_bodies_nested_without_end_are_refused() -> None:
    inner = graph([node("Abs", ["x"], ["y"])], [], [], [value_info("y", FLOAT, [1])])
    for _ in range(100):
        inner = graph([node("If", [], ["y"], block(5, block(6, inner)))], [], [], [])
    with pytest.raises(UnknownFormat, match="nested deeper"):
        onnx_file.read_bytes(model(inner))


def test_a_tensor_of_endless_dimensions_costs_no_memory() -> None:
    weights = block(1, b"\x01" * 5_000_000) + number(2, FLOAT) + block(8, "w")
    outs = [value_info("y", FLOAT, [1])]
    data = model(graph([node("Identity", ["w"], ["y"])], [weights], [], outs))
    tracemalloc.start()
    with pytest.raises(UnknownFormat, match="dimensions"):
        onnx_file.read_bytes(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_weights_of_400_mb_are_not_read(tmp_path: Path) -> None:
    size = 400 << 20
    head = number(1, 100 << 20) + number(2, FLOAT) + block(8, "w") + varint(9 << 3 | 2)
    weights = head + varint(size)
    outs = block(12, value_info("y", FLOAT, [1]))
    nodes = block(1, node("Identity", ["w"], ["y"]))
    body = nodes + outs + varint(5 << 3 | 2) + varint(len(weights) + size) + weights
    start = number(1, 8) + block(8, number(2, 17)) + varint(7 << 3 | 2) + varint(len(body) + size)
    path = tmp_path / "large.onnx"
    path.write_bytes(start + body)
    with path.open("r+b") as file:
        file.truncate(len(start) + len(body) + size)
    tracemalloc.start()
    found = onnx_file.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.parameters == 100 << 20
    assert peak < 1 << 20
