"""The TFLite graph library: what it reads, changes and writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tflite_models import chain, constant, conv, dense, model_of

from edgepipe.errors import UnknownFormat, UnknownName, UnsupportedModel
from edgepipe.tflite import edit, loading, reader, saving
from edgepipe.tflite.encode import encode
from edgepipe.tflite.flatbuffer import Reader
from edgepipe.tflite.fold import fold
from edgepipe.tflite.graph import Graph, Model, Op, Quantization, Tensor
from edgepipe.tflite.op_versions import lowest_version
from edgepipe.tflite.record import Record, decode
from edgepipe.tflite.schema import TABLES, UNIONS, options_of


def again(model: Model) -> Model:
    return loading.parse(saving.to_bytes(model))


# Reading and writing


def test_everything_comes_back_as_it_was_written() -> None:
    model = again(dense())
    first, second = model.main.ops
    assert (first.name, first.activation, first.version) == ("FULLY_CONNECTED", "RELU6", 1)
    assert second.outputs[0].quantization == Quantization((0.5,), (-3,))
    assert [tensor.name for tensor in first.inputs if tensor] == ["x", "w", "b"]
    assert first.outputs[0].signature == (-1, 2)
    assert first.outputs[0].dynamic
    weights = first.inputs[1]
    assert weights is not None
    assert weights.array().tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert model.metadata == [("min_runtime_version", b"1.5.0\0")]
    assert model.description == "a test"
    assert model.signatures[0].inputs == [("x", model.main.inputs[0])]
    assert model.signatures[0].graph is model.main


@pytest.mark.parametrize("model", [dense(), conv(), conv(per_channel=False)])
def test_bytes_are_the_same_each_time_and_after_reading(model: Model) -> None:
    data = saving.to_bytes(model)
    assert saving.to_bytes(model) == data
    assert saving.to_bytes(again(model)) == data


def test_the_checked_reader_agrees() -> None:
    model = reader.read_bytes(saving.to_bytes(conv()))
    (op,) = model.main.operators
    assert (op.name, op.version, op.inputs) == ("CONV_2D", 3, (0, 1, 2))
    weights = model.main.tensors[1]
    assert weights.quantization is not None
    assert weights.quantization.scales == pytest.approx((0.01, 0.02, 0.03))


@pytest.mark.parametrize("kind", [*UNIONS["BuiltinOptions"][1:], *UNIONS["BuiltinOptions2"][1:]])
def test_every_table_of_options_comes_back(kind: str) -> None:
    filled = {field.name: _some(field) for field in TABLES[kind]}
    record = Record(kind, **filled)
    data = b"".join(encode(record, b"TFL3"))
    found = Reader(data)
    assert decode(found, found.follow(0), kind) == record


def _some(field: Any) -> Any:
    if field.kind == "number":
        return {"?": True, "f": 0.5}.get(field.of, 7)
    if field.kind == "numbers":
        return np.arange(3, dtype=np.uint8) if field.of == "B" else (1, 0, 1)
    return {"enum": field.default, "text": "word"}[field.kind]


def test_options_are_checked_against_the_schema() -> None:
    with pytest.raises(UnknownName, match="strides"):
        Op.make("CONV_2D", [], [], strides=2)
    op = Op.make("CONV_2D", [], [], padding="VALID")
    assert op.option("dilation_w_factor") == 1
    assert Op("CONV_2D", [], []).option("padding") == "SAME"
    with pytest.raises(UnknownName, match=r"Conv2DOptions .stride"):
        op.option("stride")


def test_every_operator_with_options_finds_its_table() -> None:
    known = set(UNIONS["BuiltinOptions"][1:]) | set(UNIONS["BuiltinOptions2"][1:])
    assert options_of("MAX_POOL_2D") == "Pool2DOptions"
    assert options_of("BATCH_MATMUL") == "BatchMatMulOptions"
    assert options_of("STABLEHLO_DOT_GENERAL") == "StablehloDotGeneralOptions"
    assert options_of("TANH") == ""
    assert all(name in TABLES for name in known)


def test_bytes_behind_the_flatbuffer_come_inside() -> None:
    values = np.arange(6, dtype=np.float32)
    behind = values.tobytes()
    plain = Record(
        "Model",
        version=3,
        operator_codes=[Record("OperatorCode", builtin_code=0)],
        buffers=[Record("Buffer"), Record("Buffer", offset=2, size=len(behind))],
        subgraphs=[
            Record(
                "SubGraph",
                tensors=[
                    Record("Tensor", shape=(6,), name="x"),
                    Record("Tensor", shape=(6,), name="c", buffer=1),
                    Record("Tensor", shape=(6,), name="y"),
                ],
                inputs=(0,),
                outputs=(2,),
                operators=[Record("Operator", inputs=(0, 1), outputs=(2,))],
            )
        ],
    )
    size = len(b"".join(encode(plain, b"TFL3")))
    plain.buffers[1].offset = size
    model = loading.parse(b"".join(encode(plain, b"TFL3")) + behind)
    written = saving.to_bytes(model)
    second = loading.parse(written).main.ops[0].inputs[1]
    assert second is not None
    assert second.array().tolist() == values.tolist()
    assert written.find(behind) % 16 == 0


def test_buffers_are_aligned_and_equal_ones_kept_once() -> None:
    values = np.linspace(0, 1, 100, dtype=np.float32)
    x = Tensor("x", (100,))
    tensors = [Tensor(f"t{i}", (100,)) for i in range(3)]
    sources = [x, *tensors]
    ops = [Op.make("ADD", [sources[i], constant(f"c{i}", values)], [tensors[i]]) for i in range(3)]
    data = saving.to_bytes(model_of(ops, [x], [tensors[2]]))
    assert data.count(values.tobytes()) == 1
    assert data.find(values.tobytes()) % 16 == 0


def test_packed_and_half_constants_can_be_read() -> None:
    packed = Tensor("c", (3,), "int4", data=np.array([0x2F, 0x08], np.uint8))
    assert packed.array().tolist() == [-1, 2, -8]
    wide = Tensor("b", (2,), "bfloat16", data=np.array([0x80, 0x3F, 0x00, 0xC0], np.uint8))
    assert wide.array().tolist() == [1.0, -2.0]
    scaled = Tensor.constant("s", [10, -10], "int8", Quantization((0.5,), (2,)))
    assert scaled.real().tolist() == [4.0, -6.0]


def test_saving_over_the_file_that_was_read_keeps_its_constants(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    saving.save(dense(), path)
    before = path.read_bytes()
    saving.save(loading.load(path), path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["model.tflite"]


# What is refused


def test_a_field_that_the_schema_lacks_is_refused_not_lost() -> None:
    with pytest.raises(UnsupportedModel, match="AddOptions has field 2"):
        _decode_as("FullyConnectedOptions", "AddOptions", keep_num_dims=True)


def _decode_as(kind: str, other: str, **values: Any) -> Record:
    data = b"".join(encode(Record(kind, **values), b"TFL3"))
    return decode(Reader(data), Reader(data).follow(0), other)


def test_unknown_numbers_are_refused() -> None:
    data = b"".join(encode(Record("OperatorCode", builtin_code=999), b"TFL3"))
    record = decode(Reader(data), Reader(data).follow(0), "OperatorCode")
    root = Record("Model", version=3, operator_codes=[record], subgraphs=[Record("SubGraph")])
    with pytest.raises(UnsupportedModel, match="operator code 999"):
        loading.parse(b"".join(encode(root, b"TFL3")))


def test_weights_in_other_files_are_refused() -> None:
    root = Record("Model", version=3, external_buffers=[Record("ExternalBuffer", id=1)])
    with pytest.raises(UnsupportedModel, match="other files"):
        loading.parse(b"".join(encode(root, b"TFL3")))


def test_more_than_two_gigabytes_are_refused_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "large.tflite"
    with path.open("wb") as file:
        file.write(b"\x10\0\0\0TFL3")
        file.truncate(2**31 + 100)
    with pytest.raises(UnsupportedModel, match=r"2\.1 GB.*at most 2 GB"):
        loading.load(path)
    x = Tensor("x", (1,))
    # Never touched, so they take no memory; of two sizes, so nothing compares them.
    halves = [np.zeros(2**30 + 16 * i, np.uint8) for i in range(2)]
    tensors = [Tensor(f"c{i}", half.shape, "uint8", data=half) for i, half in enumerate(halves)]
    graph = Graph("main", [x, *tensors], [], [x], [x])
    with pytest.raises(UnsupportedModel, match=r"2\.1 GB.*at most 2 GB"):
        saving.save(Model([graph]), tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()


@pytest.mark.parametrize("cut", [0, 5, 15, 40, 200])
def test_a_truncated_file_is_a_clear_error(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(saving.to_bytes(conv())[:cut])
    with pytest.raises(UnknownFormat, match=r"cut\.tflite is no TFLite model, or damaged"):
        loading.load(path)


# Versions


def _op(name: str, kinds: str, shape: tuple[int, ...] = (1, 4, 4, 2), **options: Any) -> Op:
    """`kinds`: types of inputs > type of the output."""
    sources, _, target = kinds.partition(">")
    inputs = [Tensor(f"i{n}", shape, kind) for n, kind in enumerate(sources.split())]
    op = Op.make(name, inputs, [Tensor("o", shape, target.strip())], **options)
    op.version = 9
    return op


@pytest.mark.parametrize(
    ("op", "version"),
    [
        (_op("ADD", "float32 float32 > float32"), 1),
        (_op("ADD", "int8 int8 > int8"), 2),
        (_op("CONV_2D", "int8 int8 int32 > int8"), 3),
        (_op("CONV_2D", "float32 float32 > float32"), 1),
        (_op("FULLY_CONNECTED", "int8 int8 int32 > int8"), 4),
        (_op("FULLY_CONNECTED", "int8 int8 int32 > int8", keep_num_dims=True), 5),
        (_op("FULLY_CONNECTED", "float32 float32 > float32"), 6),
        (_op("TRANSPOSE", "int8 int32 > int8", (1, 2, 3, 4, 5)), 4),
        (_op("STRIDED_SLICE", "float32 > float32", new_axis_mask=1), 6),
        (_op("RESIZE_BILINEAR", "int8 int32 > int8", half_pixel_centers=True), 3),
        (_op("TRANSPOSE_CONV", "int32 int8 int8 > int8"), 2),
        (_op("QUANTIZE", "float32 > int8"), 1),
        (_op("SPLIT", "int32 int8 > int8"), 2),
        (_op("SOFTMAX", "int16 > int16"), 3),
        (_op("BROADCAST_TO", "float32 int32 > float32"), 2),
        (_op("CONV_2D", "float16 float16 > float16"), 9),  # rare: that of the file stays
        (_op("MATRIX_DIAG", "float32 > float32"), 9),  # not in the table
    ],
    ids=lambda value: value.name if isinstance(value, Op) else str(value),
)
def test_version_is_the_lowest_that_the_features_need(op: Op, version: int) -> None:
    assert lowest_version(op) == version


def test_grouped_and_dilated_convolutions_need_more() -> None:
    grouped = conv()
    grouped.main.inputs[0].shape = (1, 5, 5, 8)
    assert lowest_version(grouped.main.ops[0]) == 6
    kinds = "float32 float32 > float32"
    assert lowest_version(_op("DEPTHWISE_CONV_2D", kinds, dilation_w_factor=2)) == 2


# Editing


def _row() -> Model:
    return chain(
        Tensor("x", (1, 2)),
        ("MUL", (1, 2), ["x", [2.0, 3.0]], {}),
        ("ADD", (1, 2), ["x", [1.0, 1.0]], {}),
        ("RELU", (1, 2), [], {}),
    )


def test_replace_keeps_the_name_of_an_output() -> None:
    model = _row()
    graph = model.main
    add, relu = graph.ops[1:]
    edit.replace(model, graph, relu.outputs[0], add.outputs[0])
    edit.remove(graph, [relu])
    assert [tensor.name for tensor in graph.outputs] == ["t2"]
    assert model.signatures[0].outputs == [("t2", add.outputs[0])]
    assert len({tensor.name for tensor in graph.all_tensors()}) == len(graph.all_tensors())


def test_what_is_still_read_cannot_be_removed() -> None:
    graph = _row().main
    with pytest.raises(UnsupportedModel, match="'t0' is still read"):
        edit.remove(graph, [graph.ops[0]])


def test_insert_and_sort_keep_the_order_runnable() -> None:
    graph = _row().main
    new = Tensor("new", (1, 2))
    add = graph.ops[1]
    edit.insert(graph, [Op.make("ABS", [graph.ops[0].outputs[0]], [new])], before=add)
    add.inputs[0] = new
    assert [op.name for op in graph.ops] == ["MUL", "ABS", "ADD", "RELU"]
    graph.ops.reverse()
    edit.sort(graph)
    assert [op.name for op in graph.ops] == ["MUL", "ABS", "ADD", "RELU"]
    graph.ops[0].inputs[0] = graph.ops[-1].outputs[0]
    with pytest.raises(UnsupportedModel, match="wait for each other"):
        edit.sort(graph)


def test_two_tensors_cannot_have_one_name() -> None:
    graph = _row().main
    edit.rename(graph, graph.find("t0"), "scaled")
    assert graph.ops[1].inputs[0] is graph.find("scaled")
    with pytest.raises(UnsupportedModel, match="'x'"):
        edit.rename(graph, graph.find("scaled"), "x")


def test_tensors_of_one_name_are_told_apart_and_ends_keep_theirs() -> None:
    model = _row()
    for tensor in model.main.all_tensors()[1:]:
        tensor.name = "t2"
    assert edit.name_apart(model) == 4
    names = [tensor.name for tensor in model.main.all_tensors()]
    assert sorted(names) == ["t2", "t2_1", "t2_2", "t2_3", "t2_4", "x"]
    assert model.main.outputs[0].name == "t2"
    assert edit.name_apart(model) == 0


def test_prune_drops_what_nobody_reads_and_its_bytes() -> None:
    model = _row()
    unread = constant("unread", np.arange(500, dtype=np.float32))
    model.main.ops.append(Op.make("ADD", [model.main.inputs[0], unread], [Tensor("dead", (500,))]))
    model = again(model)
    before = len(saving.to_bytes(model))
    assert edit.prune(model.main) == 1
    assert before - len(saving.to_bytes(model)) > 2000


def test_constants_are_folded_and_open_shapes_are_not() -> None:
    fixed, free = Tensor("a", (2, 3)), Tensor("b", (2, 3), signature=(-1, 3))
    for source, left in ((fixed, ["RESHAPE"]), (free, ["SHAPE", "GATHER", "RESHAPE"])):
        shape, first = Tensor("shape", (2,), "int32"), Tensor("first", (1,), "int32")
        ops = [
            Op.make("SHAPE", [source], [shape], out_type="int32"),
            Op.make("GATHER", [shape, constant("one", [1])], [first]),
            Op.make("RESHAPE", [source, first], [Tensor("out", (6,))]),
        ]
        graph = model_of(ops, [source], ops[-1].outputs).main
        fold(graph)
        assert [op.name for op in graph.ops] == left
    assert graph.ops[-1].inputs[1] is first


def test_extract_makes_a_model_of_its_own() -> None:
    model = _row()
    graph = model.main
    add = graph.ops[1]
    part = edit.extract(model, [add], [graph.find("t0")], [graph.find("t1")])
    assert [op.name for op in part.main.ops] == ["ADD"]
    assert [tensor.name for tensor in part.main.inputs] == ["t0"]
    assert len(again(part).main.tensors) == 3
    part.main.ops[0].name = "SUB"
    assert add.name == "ADD"
    with pytest.raises(UnsupportedModel, match=r"ADD reads 't0'.*no input"):
        edit.extract(model, [add], [graph.find("x")], [graph.find("t1")])


def test_a_copy_can_be_changed_alone() -> None:
    model = dense()
    twin = edit.copy(model)
    assert saving.to_bytes(twin) == saving.to_bytes(model)
    twin.main.ops[0].options.fused_activation_function = "NONE"  # type: ignore[union-attr]
    twin.main.inputs[0].name = "other"
    assert model.main.ops[0].activation == "RELU6"
    assert model.signatures[0].inputs[0][1].name == "x"
