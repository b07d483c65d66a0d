"""Outputs that an operator reads, too, have the integers that were asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dense_net import SIZE, Net

import edgepipe
from edgepipe.tflite import loading
from edgepipe.tflite.graph import Op, Tensor

pytestmark = pytest.mark.toolchain("edge")


@pytest.fixture
def scores_and_the_largest(tmp_path: Path) -> Path:
    net = Net()
    scores = net.dense("scores", net.dense("a", net.input))
    best = Tensor("best", (1,), "int32")
    axis = Tensor.constant("axis", np.array(1, np.int32))
    net.graph.ops.append(Op.make("ARG_MAX", [scores, axis], [best], output_type="int32"))
    return net.save(tmp_path / "float.tflite", scores, best)


@pytest.mark.parametrize(
    ("precision", "io"), [("int8", "int8"), ("int8", "uint8"), ("int16x8", "int16")]
)
def test_an_output_that_is_read_as_well_is_in_integers(
    scores_and_the_largest: Path, precision: str, io: str
) -> None:
    data = np.random.default_rng(1).uniform(-1, 1, (60, 1, SIZE)).astype(np.float32)
    np.savez(scores_and_the_largest.with_name("data.npz"), x=data)
    result = edgepipe.convert(
        scores_and_the_largest,
        precision=precision,
        calibration=scores_and_the_largest.with_name("data.npz"),
        out=scores_and_the_largest.with_name("out"),
        io=io,
        allow_float=precision == "int16x8",  # There ARG_MAX has no form in integers.
    )
    graph = loading.load(result.model).main
    assert [(tensor.name, tensor.dtype) for tensor in graph.outputs] == [
        ("scores", io),
        ("best", "int32"),
    ]
    assert result.sqnr_db is not None and result.sqnr_db > 30


def test_real_numbers_are_compared_in_integers(tmp_path: Path) -> None:
    net = Net()
    left, right = net.dense("left", net.input), net.dense("right", net.input)
    less = Tensor("less", (1, SIZE), "bool")
    net.graph.ops.append(Op.make("LESS", [left, right], [less]))
    model = net.save(tmp_path / "float.tflite", net.dense("sum", left), less)
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(1).uniform(-1, 1, (60, 1, SIZE)))
    result = edgepipe.convert(
        model,
        precision="int8",
        calibration=tmp_path / "data.npz",
        out=tmp_path / "out",
        min_agreement=0.9,
    )
    (op,) = loading.load(result.model).main.operators("LESS")
    assert [tensor.dtype for tensor in op.reads()] == ["int8", "int8"]
