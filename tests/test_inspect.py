"""What `edgepipe inspect` counts: MACs by operator, bytes, peak memory, sizes, damaged files."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from test_onnx_file import FLOAT, INT64, block, graph, node, number, tensor, value_info
from test_onnx_file import model as onnx_model
from test_tflite_fuzz import damaged
from tflite_models import chain, conv, dense, model_of

from edgepipe import api
from edgepipe.cost import of_onnx, of_tflite, tally
from edgepipe.cost.tally import Cost
from edgepipe.errors import UnknownFormat, UnsupportedModel
from edgepipe.tflite import loading, saving
from edgepipe.tflite.graph import Graph, Model, Op, Tensor

PAIRS = Path(__file__).parents[2] / "shared" / "edgetpu" / "pairs"


def cost_of(made: Model) -> Cost:
    return tally.count(of_tflite.of(loading.parse(saving.to_bytes(made))))


def one_op(
    name: str, out: tuple[int, ...], *shapes: tuple[int, ...] | None, **options: Any
) -> Cost:
    """The cost of one operator on tensors of these shapes, the first its input."""
    ends: list[Tensor | None] = [
        None if shape is None else Tensor(f"i{place}", shape) for place, shape in enumerate(shapes)
    ]
    y = Tensor("y", out)
    given = [end for end in ends if end is not None]
    return cost_of(model_of([Op.make(name, ends, [y], **options)], given, [y]))


@pytest.mark.parametrize(
    ("name", "out", "shapes", "options", "macs"),
    [
        ("CONV_2D", (1, 8, 8, 5), ((1, 8, 8, 3), (5, 3, 3, 3)), {}, 64 * 5 * 27),
        ("CONV_2D", (1, 8, 8, 4), ((1, 8, 8, 4), (4, 3, 3, 2)), {}, 64 * 4 * 18),  # two groups
        ("DEPTHWISE_CONV_2D", (2, 4, 4, 6), ((2, 8, 8, 6), (1, 3, 3, 6)), {}, 2 * 16 * 6 * 9),
        ("TRANSPOSE_CONV", (1, 8, 8, 5), ((4,), (5, 2, 2, 3), (1, 4, 4, 3)), {}, 48 * 20),
        ("FULLY_CONNECTED", (3, 7), ((3, 11), (7, 11)), {}, 3 * 7 * 11),
        ("BATCH_MATMUL", (2, 3, 5), ((2, 3, 4), (2, 4, 5)), {}, 2 * 3 * 5 * 4),
        ("BATCH_MATMUL", (2, 3, 5), ((2, 4, 3), (2, 4, 5)), {"adj_x": True}, 2 * 3 * 5 * 4),
        ("UNIDIRECTIONAL_SEQUENCE_RNN", (1, 9, 6), ((1, 9, 4), (6, 4), (6, 6), (6,), (1, 6)), {},
         9 * (24 + 36)),
        ("SVDF", (2, 6), ((2, 4), (6, 4), (6, 3)), {}, 2 * (24 + 18)),
    ],
)  # fmt: skip
def test_counts_multiplications_of_tflite(
    name: str, out: tuple[int, ...], shapes: Any, options: dict[str, Any], macs: int
) -> None:
    found = one_op(name, out, *shapes, **options)
    assert (found.total.macs, found.total.elements, found.total.unknown) == (macs, 0, 0)


def test_counts_every_gate_of_an_lstm_and_those_left_out() -> None:
    gates: list[tuple[int, ...] | None] = [*[(8, 4)] * 4, *[(8, 8)] * 4]
    whole = one_op("UNIDIRECTIONAL_SEQUENCE_LSTM", (1, 5, 8), (1, 5, 4), *gates)
    assert whole.total.macs == 5 * 4 * (32 + 64)
    gates[0] = gates[4] = None  # coupled: the input gate follows from the forget gate
    coupled = one_op("UNIDIRECTIONAL_SEQUENCE_LSTM", (1, 5, 8), (1, 5, 4), *gates)
    assert coupled.total.macs == 5 * 3 * (32 + 64)


def onnx_cost(*nodes: bytes, ends: dict[str, list[int | str]], weights: list[bytes]) -> Cost:
    """`ends` are values in order; the first is the input, the last the output."""
    values = [value_info(name, FLOAT, shape) for name, shape in ends.items()]
    between = b"".join(block(13, value) for value in values[1:-1])
    body = graph(list(nodes), weights, values[:1], values[-1:]) + between
    return tally.count(of_onnx.read_bytes(onnx_model(body)))


def attribute(name: str, value: int | str) -> bytes:
    inside = block(4, value) if isinstance(value, str) else number(3, value)
    return block(5, block(1, name) + inside)


@pytest.mark.parametrize(
    ("op", "x", "weights", "y", "more", "macs"),
    [
        ("Conv", [1, 4, 8, 8], [[6, 2, 3, 3]], [1, 6, 8, 8], b"", 6 * 64 * 18),
        ("ConvTranspose", [1, 4, 5, 5], [[4, 3, 2, 2]], [1, 3, 10, 10], b"", 100 * 12),
        ("Gemm", [7, 3], [[7, 5]], [3, 5], attribute("transA", 1), 3 * 5 * 7),
        ("MatMul", [2, 3, 7], [[7, 5]], [2, 3, 5], b"", 2 * 3 * 5 * 7),
        ("LSTM", [9, 1, 4], [[1, 32, 4], [1, 32, 8]], [9, 1, 1, 8], b"", 9 * (128 + 256)),
        ("GRU", [9, 2, 4], [[2, 24, 4], [2, 24, 8]], [9, 2, 2, 8], b"", 18 * 2 * (96 + 192)),
        ("Einsum", [2, 3, 4], [[4, 5]], [2, 3, 5], attribute("equation", "bij,jk->bik"), 120),
        ("Einsum", [2, 3, 4], [[4, 5]], [2, 3, 5], attribute("equation", "...j,jk->...k"), 120),
        ("Attention", [1, 2, 6, 4], [[1, 2, 7, 4], [1, 2, 7, 3]], [1, 2, 6, 3], b"", 84 * 7),
    ],
)
def test_counts_multiplications_of_onnx(
    op: str,
    x: list[int | str],
    weights: list[list[int]],
    y: list[int | str],
    more: bytes,
    macs: int,
) -> None:
    names = [f"w{place}" for place in range(len(weights))]
    stored = [tensor(name, dims) for name, dims in zip(names, weights, strict=True)]
    made = node(op, ["x", *names], ["y"], more)
    found = onnx_cost(made, ends={"x": x, "y": y}, weights=stored)
    assert (found.total.macs, found.total.unknown) == (macs, 0)
    assert list(found.by_type) == [op]


def test_elements_count_where_nothing_is_multiplied_up() -> None:
    pool = one_op("MAX_POOL_2D", (1, 4, 4, 3), (1, 8, 8, 3), filter_height=2, filter_width=2)
    assert (pool.total.macs, pool.total.elements) == (0, 48 * 4)
    assert one_op("LOGISTIC", (1, 9), (1, 9)).total.elements == 9
    assert one_op("TRANSPOSE", (9, 1), (1, 9), (2,)).total.elements == 0


def test_bytes_are_those_read_and_written_and_a_gather_reads_what_it_gives() -> None:
    assert one_op("FULLY_CONNECTED", (3, 7), (3, 11), (7, 11)).total.moved == 4 * (21 + 33 + 77)
    assert one_op("GATHER", (2, 8), (1000, 8), (2,)).total.moved == 4 * (16 + 16 + 2)


def test_memory_peaks_where_most_is_still_to_be_read() -> None:
    """x lives to the end for the residual; the wide step in the middle is the worst."""
    x, wide, narrow, y = (Tensor(name, (1, size)) for name, size in
                          (("x", 10), ("wide", 100), ("narrow", 10), ("y", 10)))  # fmt: skip
    up = Op.make("FULLY_CONNECTED", [x, Tensor.constant("w", np.ones((100, 10), "f4"))], [wide])
    down = Op.make(
        "FULLY_CONNECTED", [wide, Tensor.constant("v", np.ones((10, 100), "f4"))], [narrow]
    )
    found = cost_of(model_of([up, down, Op.make("ADD", [x, narrow], [y])], [x], [y]))
    assert [layer.live for layer in found.layers] == [4 * 110, 4 * 120, 4 * 30]
    assert found.peak == 480
    assert found.peak_at is not None and found.peak_at.name == "narrow"


def test_parameters_shared_by_two_layers_count_once() -> None:
    x, a, y = Tensor("x", (1, 4)), Tensor("a", (1, 4)), Tensor("y", (1, 4))
    weights = Tensor.constant("w", np.ones((4, 4), "f4"))
    ops = [
        Op.make("FULLY_CONNECTED", [x, weights], [a]),
        Op.make("FULLY_CONNECTED", [a, weights], [y]),
    ]
    found = cost_of(model_of(ops, [x], [y]))
    assert [layer.parameters for layer in found.layers] == [16, 0]
    assert found.stored == {"float32": (16, 64)}


def test_quantized_ends_show_scale_zero_point_and_range() -> None:
    found = cost_of(conv()).scales
    assert found["x"].range == pytest.approx((-127 * 0.5, 128 * 0.5))
    assert found["y"].scale[0] == pytest.approx(0.7)
    assert found["y"].zero_point == (3,)


def test_onnx_ends_behind_a_quantize_node_show_their_integers() -> None:
    import struct

    scale = tensor("s", [], FLOAT, struct.pack("<f", 0.25))
    zero = tensor("z", [], 2, b"\x80")
    made = node("QuantizeLinear", ["x", "s", "z"], ["q"])
    back = node("DequantizeLinear", ["q", "s", "z"], ["y"])
    found = onnx_cost(made, back, ends={"x": [4], "q": [4], "y": [4]}, weights=[scale, zero]).scales
    assert found["x"].range == found["y"].range == (-32.0, 31.75)


def test_ops_without_a_formula_are_listed_and_not_guessed() -> None:
    x, y = Tensor("x", (1, 4)), Tensor("y", (1, 4))
    found = cost_of(model_of([Op("CUSTOM", [x], [y], custom="Frobnicate")], [x], [y]))
    assert found.layers[0].macs is None
    assert "1 CUSTOM:Frobnicate" in found.notes[0]


def test_bodies_of_a_loop_count_once_and_add_to_its_memory() -> None:
    a, b, c, d = (Tensor(name, (1, 8)) for name in "abcd")
    i, o = Tensor("i", (1, 8)), Tensor("o", (1,), "bool")
    body = Graph("body", [], [Op.make("MUL", [a, a], [b])], [a], [b])
    test = Op.make("REDUCE_ANY", [i, Tensor.constant("axis", np.int32(1))], [o])
    condition = Graph("cond", [], [test], [i], [o])
    loop = Op.make("WHILE", [c], [d], cond_subgraph_index=1, body_subgraph_index=2)
    found = cost_of(Model([Graph("main", [], [loop], [c], [d]), condition, body]))
    assert [layer.graph for layer in found.layers] == ["", "cond", "body"]
    assert found.peak == 4 * (16 + 16)
    assert "counted once" in found.notes[-1]


def test_a_graph_that_runs_itself_ends() -> None:
    c, d = Tensor("c", (1,), "bool"), Tensor("d", (1,), "bool")
    loop = Op.make("WHILE", [c], [d], cond_subgraph_index=0, body_subgraph_index=0)
    assert cost_of(Model([Graph("main", [], [loop], [c], [d])])).total.count == 1


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_damaged_tflite_files_are_refused_or_counted(name: str) -> None:
    data = saving.to_bytes({"dense": dense, "conv": conv}[name]())
    rng = random.Random(name)
    for turn in range(200):
        bad = damaged(data, rng)
        try:
            json.dumps(tally.count(of_tflite.of(loading.parse(bad))).to_json())
        except (UnknownFormat, UnsupportedModel):
            continue
        except Exception as error:
            pytest.fail(f"number {turn}: {error!r} from {bad.hex()}")


def test_damaged_onnx_files_are_refused_or_counted() -> None:
    kernel = block(5, block(1, "kernel_shape") + number(8, 2) + number(8, 2))
    made = [node("Conv", ["x", "w"], ["a"]), node("MaxPool", ["a"], ["p"], kernel),
            node("Einsum", ["p", "w"], ["y"], attribute("equation", "abcd,efgh->ab"))]  # fmt: skip
    values = [value_info("x", FLOAT, [1, 3, 8, 8]), value_info("y", FLOAT, [1, 5])]
    between = block(13, value_info("a", FLOAT, [1, 5, 6, 6]))
    weights = [tensor("w", [5, 3, 3, 3], raw=b"\0" * 540), tensor("n", [1], INT64)]
    data = onnx_model(graph(made, weights, values[:1], values[1:]) + between)
    rng, counted = random.Random(5), 0
    for turn in range(600):
        bad = bytearray(data)
        for _ in range(rng.choice((1, 2, 8))):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        try:
            json.dumps(tally.count(of_onnx.read_bytes(bytes(bad))).to_json())
            counted += 1
        except UnknownFormat:
            continue
        except Exception as error:
            pytest.fail(f"number {turn}: {error!r} from {bytes(bad).hex()}")
    assert counted > 100


def inspect(*words: str) -> Result:
    from edgepipe.cli.main import edgepipe

    return CliRunner().invoke(edgepipe, ["inspect", *words], env={"COLUMNS": "80"})


def saved(folder: Path, made: Model) -> Path:
    path = folder / "model.tflite"
    saving.save(made, path)
    return path


def test_command_shows_cost_within_80_columns(tmp_path: Path) -> None:
    path = saved(tmp_path, conv())
    shown = inspect(str(path), "--layers")
    assert shown.exit_code == 0, shown.output
    assert "int8, scale 0.5, zero point -1, -63.5 to 64" in shown.output
    assert "peak activation memory: 148 B, at op 0, CONV_2D y" in shown.output
    lines = [line for line in shown.output.splitlines() if "model.tflite" not in line]
    assert max(map(len, lines)) <= 80


def test_json_has_every_op_and_the_same_totals(tmp_path: Path) -> None:
    found = json.loads(inspect(str(saved(tmp_path, conv())), "--json").output)["cost"]
    assert found["total"]["macs"] == 16 * 3 * 16 == sum(one["macs"] for one in found["layers"])
    assert found["quantization"]["x"]["range"] == [-63.5, 64.0]


def test_thousand_ops_take_less_than_two_seconds(tmp_path: Path) -> None:
    x = Tensor("x", (1, 16))
    step: tuple[Any, ...] = ("ADD", (1, 16), ([1.0] * 16,), {})
    path = saved(tmp_path, chain(x, *[step] * 1000))
    start = time.monotonic()
    assert api.inspect(path).costs.sizes[0].total.count == 1000
    assert time.monotonic() - start < 2


def free_conv(folder: Path) -> Path:
    """A fully convolutional ONNX model whose sizes only inference knows."""
    values = [value_info("x", FLOAT, [1, 3, "h", "w"]), value_info("y", FLOAT, None)]
    made = [node("Conv", ["x", "w"], ["a"]), node("Relu", ["a"], ["y"])]
    body = graph(made, [tensor("w", [5, 3, 3, 3], raw=b"\0" * 540)], values[:1], values[1:])
    path = folder / "free.onnx"
    path.write_bytes(onnx_model(body))
    return path


@pytest.mark.toolchain("edge")
def test_cost_grows_with_the_sizes_that_are_given(tmp_path: Path) -> None:
    path = free_conv(tmp_path)
    found = api.inspect(path, inputs=("x=1x3x10x10", "x=1x3x18x18")).costs
    assert [one.total.macs for one in found.sizes] == [64 * 5 * 27, 256 * 5 * 27]
    assert [one.peak for one in found.sizes] == [4 * 2 * 320, 4 * 2 * 1280]
    shown = inspect(str(path), "--input", "x=1x3x10x10", "--input", "x=1x3x18x18")
    assert "x=1x3x18x18" in shown.output


@pytest.mark.toolchain("edge")
def test_sizes_are_chosen_and_said_for_a_model_with_free_ones(tmp_path: Path) -> None:
    found = api.inspect(free_conv(tmp_path)).costs.sizes
    assert [one.inputs["x"] for one in found] == [(1, 3, n, n) for n in (64, 128, 256)]
    assert "is open in the file" in found[0].notes[0]


@pytest.mark.toolchain("edge")
def test_a_size_that_the_model_refuses_leaves_shapes_unknown(tmp_path: Path) -> None:
    values = [value_info("x", FLOAT, ["n", 3]), value_info("y", FLOAT, None)]
    shape = tensor("s", [2], INT64, b"".join(size.to_bytes(8, "little") for size in (4, 3)))
    made = [node("Reshape", ["x", "s"], ["a"]), node("NonZero", ["a"], ["y"])]
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_model(graph(made, [shape], values[:1], values[1:])))
    (found,) = api.inspect(path, inputs=("x=5x3",)).costs.sizes
    assert not found.peak_whole
    assert any("can't run it at this size" in note for note in found.notes)


@pytest.mark.toolchain("edge")
def test_tflite_with_an_open_batch_is_counted_at_the_batch_asked_for(tmp_path: Path) -> None:
    x, y = Tensor("x", (1, 4), signature=(-1, 4)), Tensor("y", (1, 2), signature=(-1, 2))
    weights = Tensor.constant("w", np.ones((2, 4), "f4"))
    layer = Op.make("FULLY_CONNECTED", [x, weights, None], [y])
    path = saved(tmp_path, model_of([layer], [x], [y]))
    assert api.inspect(path).costs.sizes[0].total.macs == 8
    assert api.inspect(path, inputs=("x=5x4",)).costs.sizes[0].total.macs == 40


@pytest.mark.skipif(not PAIRS.is_dir(), reason="the int8 models for the Edge TPU are not here")
@pytest.mark.parametrize("count", [379699200, 41287680, 43794432])
def test_counts_what_a_file_says_in_its_name(count: int) -> None:
    (path,) = PAIRS.glob(f"*nMACs{count}_quant.tflite")
    assert tally.count(of_tflite.read(path)).total.macs == count


def test_what_a_custom_op_gives_has_no_size_and_the_peak_says_so() -> None:
    x, wide, boxes = Tensor("x", (1, 4)), Tensor("wide", (1, 4)), Tensor("boxes", ())
    ops = [Op.make("TANH", [x], [wide]), Op("CUSTOM", [wide], [boxes], custom="Detect")]
    found = cost_of(model_of(ops, [x], [boxes]))
    assert (found.peak, found.peak_whole) == (32, False)
    assert [layer.live for layer in found.layers] == [32, None]
