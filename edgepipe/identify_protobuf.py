"""Protocol buffers have no signature: ONNX and others are told by their outermost fields."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgepipe.artifact import Format
from edgepipe.identify_sample import Sample, damaged, unsupported

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MOST_FIELDS = 20_000
NEWEST_IR = 100
GRAPH = 7
# onnx.proto: ModelProto and GraphProto, field -> wire type
ONNX_MODEL = {1: VARINT, 5: VARINT} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), BYTES)
ONNX_GRAPH = (1, 2, 5, 10, 11, 12, 13, 14, 15, 16)
# Core ML's Model.proto: version, description, isUpdatable; the model is a field from 200 on
COREML_MODEL = {1: VARINT, 2: BYTES, 10: VARINT}
COREML_TYPES = range(200, 4000)
NEWEST_COREML = 100


@dataclass
class Walk:
    """Outermost fields: number -> wire type, and the first value (of bytes: place, length)."""

    kinds: dict[int, int] = field(default_factory=dict)
    first: dict[int, tuple[int, int]] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    stopped: str = ""
    """Why the walk did not reach the end; empty if it did."""


def recognise(sample: Sample) -> Format | None:
    fields = walk(sample)
    if _looks_like_onnx(fields):
        return _onnx(sample, fields)
    if _is_graph_def(sample, fields):
        raise unsupported(
            sample.path,
            "a frozen TensorFlow 1 graph (GraphDef)",
            "convert it to a SavedModel with its inputs and outputs named, or to ONNX: "
            "`python -m tf2onnx.convert --graphdef FILE --inputs x:0 --outputs y:0 --output FILE`.",
        )
    if fields.stopped:
        return None
    if set(fields.kinds) == {1, 2} and fields.kinds == {1: VARINT, 2: BYTES}:
        raise unsupported(
            sample.path,
            "the graph of a TensorFlow SavedModel, which needs the folder around it",
            f"give the folder: {sample.path.absolute().parent}",
        )
    if _is_coreml(fields):
        raise unsupported(
            sample.path, "a Core ML model", "convert the model that it was made from."
        )
    return None


def walk(sample: Sample) -> Walk:
    """Step over the outermost fields without reading what is in them."""
    fields = Walk()
    at = 0
    while at < sample.size and not fields.stopped and len(fields.order) < MOST_FIELDS:
        at = _step(sample, fields, at)
    return fields


def _step(sample: Sample, fields: Walk, start: int) -> int:
    data = sample.at(start, 20)
    tag, used = _varint(data, 0)
    number, wire = tag >> 3, tag & 7
    value, behind = _varint(data, used) if wire in (VARINT, BYTES) else (0, used)
    if not used or not number or not behind or wire not in (VARINT, FIXED64, BYTES, FIXED32):
        fields.stopped = f"no field at byte {start:,}"
        return start
    end = start + behind + {VARINT: 0, FIXED64: 8, BYTES: value, FIXED32: 4}[wire]
    fields.order.append(number)
    fields.kinds.setdefault(number, wire)
    fields.first.setdefault(number, (start + behind, value))
    if end > sample.size:
        fields.stopped = f"it should have at least {end:,} bytes and has {sample.size:,}"
    return end


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number and the place behind it; a place of 0 says that there is none."""
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at + shift + 1
    return 0, 0


def _looks_like_onnx(fields: Walk) -> bool:
    version = fields.first.get(1, (0, 0))[1]
    plausible = fields.kinds.get(1) == VARINT and 0 < version <= NEWEST_IR
    if fields.stopped:
        # Any bytes begin with some field, and behind a damaged place anything may seem to follow:
        # every writer of ONNX puts the version first.
        second = fields.order[1] if len(fields.order) > 1 else 0
        known = ONNX_MODEL.get(second) == fields.kinds.get(second, BYTES)
        return plausible and fields.order[0] == 1 and known and GRAPH in fields.kinds
    if any(ONNX_MODEL.get(number) != wire for number, wire in fields.kinds.items()):
        return False
    if 1 in fields.kinds and not plausible:
        return False
    return GRAPH in fields.kinds or {1, 8} <= set(fields.kinds)


def _onnx(sample: Sample, fields: Walk) -> Format:
    if fields.stopped:
        raise damaged(sample.path, "an ONNX model", fields.stopped)
    if GRAPH not in fields.kinds:
        raise damaged(sample.path, "an ONNX model", "it has no graph")
    place, length = fields.first[GRAPH]
    tag, used = _varint(sample.at(place, 10), 0)
    if not length or not used or tag & 7 != BYTES or tag >> 3 not in ONNX_GRAPH:
        raise damaged(sample.path, "an ONNX model", "its graph is empty or unreadable")
    return Format.ONNX


def _is_graph_def(sample: Sample, fields: Walk) -> bool:
    """`node { name, op }` first, and nothing but nodes, functions and versions behind it."""
    if fields.order[:1] != [1] or fields.kinds.get(1) != BYTES:
        return False
    place, length = fields.first[1]
    node = sample.at(place, min(length, 1000))
    name_length, name = _varint(node, 1)
    op_length, op = _varint(node, name + name_length + 1)
    word = node[op : op + op_length]
    return (
        node[:1] == b"\x0a"
        and node[name + name_length : name + name_length + 1] == b"\x12"
        and 0 < len(word) == op_length
        and word.replace(b"_", b"").isalnum()
    )


def _is_coreml(fields: Walk) -> bool:
    if fields.order[:2] != [1, 2] or not 0 < fields.first[1][1] <= NEWEST_COREML:
        return False
    types = [number for number in fields.kinds if number in COREML_TYPES]
    known = COREML_MODEL | dict.fromkeys(types, BYTES)
    return len(types) == 1 and all(known.get(n) == wire for n, wire in fields.kinds.items())
