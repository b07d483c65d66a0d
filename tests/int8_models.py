"""Small int8 TFLite models for Vela: a convolution, and what is put behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tflite_models import constant, model_of

from edgepipe.tflite import saving
from edgepipe.tflite.graph import Model, Op, Quantization, Tensor

SIDE, CHANNELS = 8, 8
Behind = tuple[str, Sequence[int], Sequence[Any], dict[str, Any]]


def tensor(name: str, shape: Sequence[int], scale: float = 0.05, dtype: str = "int8") -> Tensor:
    return Tensor(name, tuple(shape), dtype, quantization=Quantization((scale,), (0,)))


def convolution(x: Tensor, name: str, channels: int = CHANNELS, seed: int = 0) -> Op:
    """Three by three, same size, with drawn weights."""
    weights = np.random.default_rng(seed).integers(-100, 100, (channels, 3, 3, x.shape[3]))
    scales = (0.002,) * channels
    kernel = Tensor.constant(f"{name}_w", weights, "int8", Quantization(scales, (0,) * channels))
    bias = Tensor.constant(
        f"{name}_b", np.zeros(channels), "int32",
        Quantization(tuple(0.05 * scale for scale in scales), (0,) * channels),
    )  # fmt: skip
    made = tensor(name, (*x.shape[:3], channels))
    return Op.make("CONV_2D", [x, kernel, bias], [made], padding="SAME", stride_w=1, stride_h=1)


def net(*behind: Behind, channels: int = 8) -> Model:
    """A convolution and operators behind it: name, shape of the output, constants, options."""
    x = tensor("x", (1, SIDE, SIDE, 3))
    ops = [convolution(x, "conv", channels)]
    for number, (kind, shape, operands, options) in enumerate(behind):
        given = [constant(f"c{number}_{i}", one) for i, one in enumerate(operands)]
        scale = 1 / 128 if kind == "L2_NORMALIZATION" else 0.05  # LiteRT takes no other
        made = tensor(f"t{number}", shape, scale)
        ops.append(Op.make(kind, [ops[-1].outputs[0], *given], [made], **options))
    return model_of(ops, [x], ops[-1].outputs)


NORMALIZED: Behind = ("L2_NORMALIZATION", (1, SIDE, SIDE, CHANNELS), (), {})
"""An operator that LiteRT computes in int8 and no Ethos-U has."""


def saved(model: Model, path: Path) -> Path:
    saving.save(model, path)
    return path


def mean_over_depth(keep_dims: bool = True) -> Behind:
    """What Vela leaves to the CPU until height and width are in one row."""
    shape = (1, SIDE, SIDE, 1) if keep_dims else (1, SIDE, SIDE)
    return "MEAN", shape, (np.array([3], np.int32),), {"keep_dims": keep_dims}
