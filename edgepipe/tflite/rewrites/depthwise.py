"""Turns a convolution with one input channel for each group into a depthwise one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from edgepipe.tflite import edit
from edgepipe.tflite.graph import Graph, Model, Op, Tensor
from edgepipe.tflite.pattern import constant
from edgepipe.tflite.rewrite import Rewrite


class Depthwise(Rewrite):
    """CONV_2D with weights of one input channel on an input with several: DEPTHWISE_CONV_2D.

    TFLiteConverter writes ConvNeXt's so. A grouped CONV_2D needs version 6 of the operator, which
    runtimes before TensorFlow 2.9 and the Edge TPU compiler refuse.
    """

    name: ClassVar[str] = "depthwise"
    says: ClassVar[str] = "grouped convolutions of one channel became depthwise"

    def places(self, graph: Graph) -> Iterator[Op]:
        for op in graph.operators("CONV_2D"):
            source, weights = op.inputs[0], constant(op.inputs[1])
            if source is None or weights is None or weights.dtype != np.float32:
                continue
            channels = source.shape[-1]
            if weights.shape[-1] == 1 < channels and len(weights) % channels == 0:
                yield op

    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        source, weights = op.inputs[0], constant(op.inputs[1])
        if source is None or weights is None:
            return False
        turned = np.ascontiguousarray(weights.transpose(3, 1, 2, 0))
        kept = ("padding", "stride_w", "stride_h", "dilation_w_factor", "dilation_h_factor")
        new = Op.make(
            "DEPTHWISE_CONV_2D",
            [source, Tensor.constant(f"{op.outputs[0].name}_depthwise", turned), *op.inputs[2:]],
            op.outputs,
            depth_multiplier=len(weights) // source.shape[-1],
            fused_activation_function=op.activation,
            **{name: op.option(name) for name in kept},
        )
        edit.substitute(graph, [op], [new])
        return True


REWRITE = Depthwise()
