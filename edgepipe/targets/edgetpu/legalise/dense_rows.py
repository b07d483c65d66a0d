"""Dense layers on several rows as convolutions of one pixel; on one row as plain 2-D ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import numpy as np

from edgepipe.targets.edgetpu.legalise.steps import Steps, integer
from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Quantization, Tensor
from edgepipe.tflite.rewrite import Rewrite


class DenseRows(Rewrite):
    """The compiler maps a FULLY_CONNECTED whose output is one row, of two dimensions.

    A dense layer on many rows is a convolution with a window of one pixel, on an image that has
    a row a line. `keep_num_dims` is a version that the first releases lack.
    """

    name: ClassVar[str] = "dense_rows"
    says: ClassVar[str] = "dense layers on several rows became convolutions of one pixel"

    def places(self, graph: Graph) -> Iterator[Op]:
        return (op for op in graph.operators("FULLY_CONNECTED") if _fits(op))

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        steps = Steps(op)
        weights, source, shape = op.inputs[1], steps.source, steps.target.shape
        assert weights is not None
        outputs, inputs = weights.shape
        rows, activation = source.elements // inputs, op.activation
        bias = op.inputs[2] if len(op.inputs) > 2 else None
        if rows == 1:
            flat = steps.reshape(source, (1, inputs))
            made = steps.add(
                "FULLY_CONNECTED", flat, weights, *([bias] if bias else []),
                shape=(1, outputs), like=steps.target, fused_activation_function=activation,
            )  # fmt: skip
        else:
            image = source.shape if _image(source) else (1, rows, 1, inputs)
            window = weights.like(f"{weights.name}_window", shape=(outputs, 1, 1, inputs))
            window.data = weights.data
            made = steps.add(
                "CONV_2D", steps.reshape(source, image), window, bias or _no_bias(source, weights),
                shape=(*image[:-1], outputs), like=steps.target, padding="VALID",
                stride_w=1, stride_h=1, fused_activation_function=activation,
            )  # fmt: skip
        if made.shape == shape:
            steps.ops[-1].outputs = [steps.target]
        else:
            steps.reshape(made, shape, last=True)
        edit.substitute(graph, [op], steps.ops)
        return True


def _fits(op: Op) -> bool:
    source, weights = op.inputs[0], op.inputs[1]
    if source is None or weights is None or not weights.is_constant or not Steps(op).plain:
        return False
    if weights.dtype != source.dtype or len(weights.shape) != 2 or source.dynamic:
        return False
    if op.option("weights_format") != "DEFAULT" or weights.sparsity is not None:
        return False
    shape = op.outputs[0].shape
    return bool(op.option("keep_num_dims")) or len(shape) != 2 or math.prod(shape[:-1]) > 1


def _image(tensor: Tensor) -> bool:
    return len(tensor.shape) == 4 and tensor.shape[0] == 1


def _no_bias(source: Tensor, weights: Tensor) -> Tensor:
    """Zeros, as the compiler expects every convolution to have a bias."""
    name, count = f"{weights.name}_no_bias", weights.shape[0]
    if not integer(source):
        return Tensor.constant(name, np.zeros(count, np.float32))
    assert source.quantization is not None and weights.quantization is not None
    scale = source.quantization.scales[0]
    known = tuple(float(np.float32(scale * one)) for one in weights.quantization.scales)
    zeros = replace(Quantization(known, (0,) * len(known)))
    return Tensor.constant(name, np.zeros(count, np.int32), quantization=zeros)


REWRITE = DenseRows()
