"""Placing transposes anew must change nothing but their number: checked by computing the graph."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import pytest

tflite_from_onnx = import_module("edgepipe.converters.tflite_from_onnx")
tflite_layout = import_module("edgepipe.converters.tflite_layout")
tflite_repair = import_module("edgepipe.converters.tflite_repair")
min_cut = import_module("edgepipe.converters.min_cut")
FAR, NEAR = min_cut.FAR, min_cut.NEAR

TO_FIRST, TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass
class Tensor:
    """As in onnx2tf's ir.py."""

    name: str
    dtype: str
    shape: list[int]
    shape_signature: list[int] | None = None
    data: Any = None
    is_variable: bool = False
    quantization: Any = None


@dataclass
class Operator:
    op_type: str
    inputs: list[str]
    outputs: list[str]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graph:
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)

    def tensor(self, name: str, shape: tuple[int, ...], data: Any = None) -> str:
        self.tensors[name] = Tensor(name, "FLOAT32", list(shape), list(shape), data)
        return name

    def constant(self, values: Any, dtype: str = "float32") -> str:
        data = np.asarray(values, dtype)
        return self.tensor(f"c{len(self.tensors)}", data.shape, data)

    def add(self, kind: str, inputs: list[str], **options: Any) -> str:
        """An operator, its output's shape found by computing it."""
        op = Operator(kind, inputs, [f"t{len(self.tensors)}"], options)
        shaped = {name: self._zeros(name) for name in inputs}
        self.tensor(op.outputs[0], _OPS[kind](op, [shaped[name] for name in inputs]).shape)
        self.operators.append(op)
        return op.outputs[0]

    def transpose(self, name: str, axes: tuple[int, ...]) -> str:
        return self.add("TRANSPOSE", [name, self.constant(axes, "int32")])

    def conv(self, name: str) -> str:
        """Stands for all that is native to channels last: it mixes the last axis only."""
        width = self.tensors[name].shape[-1]
        return self.add("CONV_2D", [name, self.constant(np.eye(width)[::-1] + 0.1)])

    def count(self, kind: str = "TRANSPOSE") -> int:
        return sum(op.op_type == kind for op in self.operators)

    def run(self, feeds: dict[str, Any]) -> list[Any]:
        values = {name: tensor.data for name, tensor in self.tensors.items()} | feeds
        for op in self.operators:
            values[op.outputs[0]] = _OPS[op.op_type](op, [values[name] for name in op.inputs])
            assert list(values[op.outputs[0]].shape) == self.tensors[op.outputs[0]].shape
        return [values[name] for name in self.outputs]

    def _zeros(self, name: str) -> Any:
        data = self.tensors[name].data
        return np.zeros(self.tensors[name].shape, np.float32) if data is None else data


def _slice(op: Operator, found: list[Any]) -> Any:
    begin, size = found[1].tolist(), found[2].tolist()
    return found[0][tuple(slice(b, b + s) for b, s in zip(begin, size, strict=True))]


_OPS: dict[str, Any] = {
    "TRANSPOSE": lambda op, a: a[0].transpose(a[1].tolist()),
    "RESHAPE": lambda op, a: a[0].reshape(a[1].tolist()),
    "CONV_2D": lambda op, a: a[0] @ a[1],
    "ADD": lambda op, a: a[0] + a[1],
    "MUL": lambda op, a: a[0] * a[1],
    "RELU": lambda op, a: np.maximum(a[0], 0),
    "CONCATENATION": lambda op, a: np.concatenate(a, op.options["axis"]),
    "PAD": lambda op, a: np.pad(a[0], a[1].tolist()),
    "SLICE": _slice,
    "MEAN": lambda op, a: a[0].mean(tuple(a[1].tolist()), keepdims=op.options["keepDims"]),
}


def prove(graph: Graph) -> int:
    """Optimize; the outputs must stay. The number of transposes left."""
    chance = np.random.default_rng(0)
    feeds = {n: chance.normal(size=graph.tensors[n].shape) for n in graph.inputs}
    before, count = graph.run(feeds), graph.count()
    inputs, outputs = list(graph.inputs), list(graph.outputs)
    tflite_layout.optimize(graph)
    assert (graph.inputs, graph.outputs) == (inputs, outputs)
    assert graph.count() <= count
    for wanted, received in zip(before, graph.run(feeds), strict=True):
        np.testing.assert_allclose(received, wanted, rtol=1e-6, atol=1e-9)
    return graph.count()


def start(*shape: int) -> tuple[Graph, str]:
    graph = Graph(["x"])
    return graph, graph.tensor("x", shape)


def test_a_concat_between_convolutions_needs_no_transpose() -> None:
    graph, x = start(1, 4, 5, 6)
    a, b = graph.transpose(graph.conv(x), TO_FIRST), graph.transpose(graph.conv(x), TO_FIRST)
    both = graph.add("CONCATENATION", [a, b, graph.constant(np.ones((1, 2, 4, 5)))], axis=1)
    scaled = graph.add("MUL", [both, graph.constant(np.arange(14).reshape(1, 14, 1, 1))])
    end = graph.conv(graph.transpose(graph.add("RELU", [scaled]), TO_LAST))
    graph.outputs = [end]
    assert prove(graph) == 0


def test_axes_pads_and_sizes_follow_the_layout() -> None:
    graph, x = start(1, 4, 5, 6)
    t = graph.transpose(graph.conv(x), TO_FIRST)
    t = graph.add("PAD", [t, graph.constant([[0, 0], [1, 0], [2, 1], [0, 3]], "int32")])
    t = graph.add(
        "SLICE", [t, graph.constant([0, 1, 0, 2], "int32"), graph.constant([1, 5, 7, 4], "int32")]
    )
    mean = graph.add("MEAN", [t, graph.constant([2, -1], "int32")], keepDims=True)
    t = graph.add("ADD", [t, mean])
    graph.outputs = [graph.conv(graph.transpose(t, TO_LAST))]
    assert prove(graph) == 0


def test_a_mean_over_space_alone_may_read_either_layout() -> None:
    graph, x = start(1, 4, 5, 6)
    t = graph.transpose(graph.conv(x), TO_FIRST)
    graph.outputs = [graph.add("MEAN", [t, graph.constant([2, 3], "int32")], keepDims=False)]
    assert prove(graph) == 0


def test_constants_of_fewer_axes_are_brought_along() -> None:
    graph, x = start(1, 4, 5, 6)
    t = graph.transpose(graph.conv(x), TO_FIRST)
    t = graph.add("MUL", [t, graph.constant(np.arange(30).reshape(6, 1, 5))])
    graph.outputs = [graph.conv(graph.transpose(t, TO_LAST))]
    assert prove(graph) == 0


def test_a_constant_that_others_read_too_stays_for_them() -> None:
    graph, x = start(1, 4, 4, 4)
    shared = graph.constant(np.arange(64).reshape(1, 4, 4, 4))
    a = graph.add("ADD", [graph.transpose(graph.conv(x), TO_FIRST), shared])
    b = graph.add("MUL", [graph.conv(x), shared])
    graph.outputs = [graph.conv(graph.transpose(a, TO_LAST)), graph.conv(b)]
    assert prove(graph) == 0


def test_outputs_keep_their_layout_and_name() -> None:
    graph, x = start(1, 4, 5, 6)
    a = graph.add("RELU", [graph.transpose(graph.conv(x), TO_FIRST)])
    graph.outputs = [a, graph.conv(graph.transpose(a, TO_LAST))]
    assert prove(graph) == 1
    assert graph.tensors[a].shape == [1, 6, 4, 5]


def test_a_squeeze_and_excite_by_reshapes_is_understood() -> None:
    graph, x = start(1, 4, 5, 6)
    body = graph.transpose(graph.conv(x), TO_FIRST)
    pooled = graph.add("MEAN", [body, graph.constant([2, 3], "int32")], keepDims=True)
    last = graph.add("RESHAPE", [pooled, graph.constant([1, 1, 1, 6], "int32")])
    gate = graph.conv(last)
    gate = graph.add("RESHAPE", [gate, graph.constant([1, 6, 1, 1], "int32")])
    out = graph.add("MUL", [body, graph.add("RELU", [gate])])
    graph.outputs = [graph.conv(graph.transpose(out, TO_LAST))]
    assert prove(graph) == 0
    assert graph.count("RESHAPE") == 0


def test_an_operator_between_two_inputs_and_one_convolution_stays_with_the_inputs() -> None:
    graph, x = start(1, 6, 4, 5)
    graph.inputs.append(graph.tensor("z", (1, 6, 4, 5)))
    graph.outputs = [graph.conv(graph.transpose(graph.add("ADD", [x, "z"]), TO_LAST))]
    assert prove(graph) == 1


def test_what_is_not_understood_is_left_alone() -> None:
    graph, x = start(1, 4, 5, 6)
    t = graph.transpose(graph.transpose(graph.conv(x), TO_FIRST), TO_FIRST)
    graph.outputs = [graph.add("RELU", [t])]
    assert prove(graph) == 2


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_compute_the_same(seed: int) -> None:
    chance = random.Random(seed)
    graph, x = start(1, 3, 3, 3)
    last, first = [x], [graph.transpose(x, TO_FIRST)]
    for _ in range(chance.randrange(4, 24)):
        kind = chance.choice(("conv", "to_first", "to_last", "add", "relu", "mul", "mean", "pad"))
        pool = chance.choice((last, first))
        name = chance.choice(pool)
        if kind == "conv":
            last.append(graph.conv(chance.choice(last)))
        elif kind == "to_first":
            first.append(graph.transpose(chance.choice(last), TO_FIRST))
        elif kind == "to_last":
            last.append(graph.transpose(chance.choice(first), TO_LAST))
        elif kind == "add":
            pool.append(graph.add("ADD", [name, chance.choice(pool)]))
        elif kind == "relu":
            pool.append(graph.add("RELU", [name]))
        elif kind == "mul":
            factors = np.arange(27).reshape(1, 3, 3, 3) / 27
            pool.append(graph.add("MUL", [name, graph.constant(factors)]))
        elif kind == "mean":
            axis = graph.constant([chance.randrange(1, 4)], "int32")
            mean = graph.add("MEAN", [name, axis], keepDims=True)
            pool.append(graph.add("ADD", [name, mean]))
        else:
            pads = np.zeros((4, 2), np.int32)
            side = chance.randrange(1, 4)
            pads[side, 0] = 1
            padded = graph.add("PAD", [name, graph.constant(pads, "int32")])
            size = graph.constant([1, 3, 3, 3], "int32")
            pool.append(graph.add("SLICE", [padded, graph.constant([0] * 4, "int32"), size]))
    graph.outputs = list(dict.fromkeys([last[-1], first[-1]]))
    graph.outputs = [name for name in graph.outputs if name != "x"]
    prove(graph)


def test_a_tensor_left_without_a_maker_is_taken_from_its_twin() -> None:
    graph, x = start(1, 4, 5, 6)
    twin = graph.conv(x)
    graph.operators[-1].outputs[0] = "sum_nhwc_bridge"
    graph.tensor("sum_nhwc_bridge", (1, 4, 5, 6))
    del graph.tensors[twin]
    graph.tensor("sum", (1, 6, 4, 5))
    graph.outputs = [graph.add("RELU", ["sum"])]
    assert tflite_repair.reconnect(graph) == 1
    assert graph.run({"x": np.ones((1, 4, 5, 6))})[0].shape == (1, 6, 4, 5)
    assert tflite_repair.reconnect(graph) == 0


def test_where_the_sizes_tell_nothing_both_layouts_stay_possible() -> None:
    guesses = tflite_from_onnx._guesses
    assert guesses((1, 3, 4, 5), (1, 3, 4, 5)) == [None]
    assert guesses((1, 3, 4, 5), (1, 4, 5, 3)) == [TO_LAST]
    assert guesses((1, 3, 3, 3), (1, 3, 3, 3)) == [None, TO_LAST]
    assert guesses((1, 3, 4), (1, 4, 3)) == [(0, 2, 1)]
    assert guesses((), (1,)) == [None]


def test_the_cheapest_cut_is_found() -> None:
    cut = min_cut.MinCut()
    for start_node, end, cost in (
        (NEAR, "a", 3), (NEAR, "b", 2), ("a", "b", 1), ("a", FAR, 2), ("b", FAR, 3),
    ):  # fmt: skip
        cut.edge(start_node, end, cost)
    assert cut.near_side() == {NEAR}
    cut = min_cut.MinCut()
    cut.edge(NEAR, "a", 9)
    cut.edge("a", "b", 1)
    cut.edge("b", FAR, 9)
    assert cut.near_side() == {NEAR, "a"}
