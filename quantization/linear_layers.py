"""Convolutions and dense layers as what they are: rows of inputs times a matrix of weights.

A group is a part of the weights that reads the same inputs: all of a dense layer or a convolution
(one group of many outputs), each channel of a depthwise one (as many groups of one output).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.tflite.graph import Op, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINEAR = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
WEIGHTS, BIAS = 1, 2


def constant(op: Op, place: int) -> Tensor | None:
    """The constant at an input's place, None where there is none."""
    tensor = op.inputs[place] if len(op.inputs) > place else None
    return tensor if tensor is not None and tensor.is_constant else None


@dataclass(frozen=True)
class Linear:
    """One of `LINEAR` with constant weights; see `of`."""

    op: Op

    @staticmethod
    def of(op: Op) -> Linear | None:
        """None where its weights are no matrix: made by others, sparse, or in groups."""
        if op.name not in LINEAR or op.inputs[0] is None or op.inputs[0].is_constant:
            return None
        weights, data = constant(op, WEIGHTS), op.inputs[0]
        if weights is None or weights.sparsity is not None:
            return None
        if op.name == "CONV_2D" and weights.shape[-1] != data.shape[-1]:
            return None
        has_bias = len(op.inputs) > BIAS and op.inputs[BIAS] is not None
        return Linear(op) if not has_bias or constant(op, BIAS) is not None else None

    @property
    def depthwise(self) -> bool:
        return self.op.name == "DEPTHWISE_CONV_2D"

    @property
    def weights(self) -> Tensor:
        found = constant(self.op, WEIGHTS)
        assert found is not None
        return found

    @property
    def bias(self) -> Tensor | None:
        return constant(self.op, BIAS)

    def matrix(self, values: NDArray[Any]) -> NDArray[Any]:
        """Weights, or what has their shape, as group x output x reading."""
        by_output = values.reshape(-1, values.shape[-1]).T[:, None, :]
        found: NDArray[Any] = by_output if self.depthwise else values.reshape(1, len(values), -1)
        return found

    def shaped(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """What `matrix` made, in the shape of the weights again."""
        stored: NDArray[Any] = matrix[:, 0, :].T if self.depthwise else matrix
        return stored.reshape(self.weights.shape)

    def rows(
        self, data: NDArray[Any], count: int, random: np.random.Generator
    ) -> NDArray[np.float32]:
        """What the weights read at some of its places, as group x place x reading."""
        if self.op.name == "FULLY_CONNECTED":
            flat = data.reshape(-1, self.weights.shape[-1])
            return np.asarray(flat[_some(len(flat), count, random)][None], np.float32)
        patches = self._patches(data, count, random)
        if not self.depthwise:
            return np.asarray(patches.reshape(1, len(patches), -1), np.float32)
        times = self.weights.shape[-1] // data.shape[-1]
        by_channel = patches.reshape(len(patches), -1, data.shape[-1]).transpose(2, 0, 1)
        return np.asarray(np.repeat(by_channel, times, axis=0), np.float32)

    def _patches(self, data: NDArray[Any], count: int, random: np.random.Generator) -> NDArray[Any]:
        """place x height x width x channel, zeros outside of the image."""
        batch, *size, _ = data.shape
        strides = self.op.option("stride_h"), self.op.option("stride_w")
        spread = self.op.option("dilation_h_factor"), self.op.option("dilation_w_factor")
        made = self.op.outputs[0].shape[1:3]
        margins, steps = [], []
        for axis in range(2):
            reach = (self.weights.shape[1 + axis] - 1) * spread[axis] + 1
            needed = max((made[axis] - 1) * strides[axis] + reach - size[axis], 0)
            before = needed // 2 if self.op.option("padding") == "SAME" else 0
            margins.append((before, needed - before))
            steps.append(np.arange(self.weights.shape[1 + axis]) * spread[axis])
        padded = np.pad(data, ((0, 0), *margins, (0, 0)))
        chosen = _some(batch * made[0] * made[1], count, random)
        image, rest = np.divmod(chosen, made[0] * made[1])
        top, left = np.divmod(rest, made[1])
        found: NDArray[Any] = padded[
            image[:, None, None],
            (top * strides[0])[:, None, None] + steps[0][:, None],
            (left * strides[1])[:, None, None] + steps[1],
        ]
        return found


def _some(total: int, count: int, random: np.random.Generator) -> NDArray[Any]:
    if total <= count:
        return np.arange(total)
    return np.sort(random.choice(total, count, replace=False))
