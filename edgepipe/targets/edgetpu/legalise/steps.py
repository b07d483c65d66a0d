"""Operators in the making, in floats or in 8-bit integers alike: what each gives feeds the next."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepipe.tflite.graph import Op, Quantization, Tensor

LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
KINDS = ("float32", *LIMITS)
Range = tuple[float, float]


class Steps:
    """Builds what replaces one operator; tensors in between get names after its result."""

    def __init__(self, op: Op, place: int = 0) -> None:
        self.target, self.ops = op.outputs[place], list[Op]()
        source = next(one for one in op.reads() if not one.is_constant)
        self.source = source

    @property
    def plain(self) -> bool:
        """Types that these steps are right for."""
        made = (self.source, self.target)
        return all(one.dtype in KINDS and (not integer(one) or scaled(one)) for one in made)

    def add(
        self,
        name: str,
        *operands: Any,
        last: bool = False,
        shape: tuple[int, ...] | None = None,
        within: Range | None = None,
        like: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """One operator. In integers its result holds numbers `within` a range, or is stored as
        `like` (its first operand, where neither is said)."""
        number = len(self.ops)
        name_ = f"{self.target.name}_{number}"
        tensors = [
            one if isinstance(one, Tensor) else constant(f"{name_}_by", one, self.source)
            for one in operands
        ]
        if last:
            made = self.target
        else:
            made = (like or tensors[0]).like(name_, shape=shape or tensors[0].shape, signature=())
            if within is not None and integer(made):
                made.quantization = fitted(within, made.dtype)
        self.ops.append(Op.make(name, tensors, [made], **options))
        return made

    def reshape(self, tensor: Tensor, shape: tuple[int, ...], last: bool = False) -> Tensor:
        """The same values in another shape; the tensor itself where it has that."""
        if tensor.shape == shape and not last:
            return tensor
        sizes = Tensor.constant(
            f"{self.target.name}_{len(self.ops)}_shape", np.asarray(shape, np.int32)
        )
        return self.add("RESHAPE", tensor, sizes, last=last, shape=shape, like=tensor)

    def numbers(self, values: Any) -> Tensor:
        """A constant of axes, sizes or paddings."""
        return Tensor.constant(
            f"{self.target.name}_{len(self.ops)}_sizes", np.asarray(values, np.int32)
        )


def integer(tensor: Tensor) -> bool:
    return tensor.dtype in LIMITS


def scaled(tensor: Tensor) -> bool:
    known = tensor.quantization
    return known is not None and len(known.scales) == 1


def range_of(tensor: Tensor) -> Range:
    """The real numbers that an integer tensor can hold."""
    known, (low, high) = tensor.quantization, LIMITS[tensor.dtype]
    assert known is not None
    zero = known.zero_points[0] if known.zero_points else 0
    return (low - zero) * known.scales[0], (high - zero) * known.scales[0]


def stored_alike(one: Tensor, other: Tensor) -> bool:
    """Whether the same integers mean the same numbers; floats always do."""
    if one.dtype != other.dtype:
        return False
    if not integer(one):
        return True
    a, b = one.quantization, other.quantization
    return (
        a is not None and b is not None and (a.scales, a.zero_points) == (b.scales, b.zero_points)
    )


def fitted(within: Range, dtype: str) -> Quantization:
    """A scale and a zero point for numbers of a range, 0 among them."""
    low, high = min(within[0], 0.0), max(within[1], 0.0)
    least, most = LIMITS[dtype]
    scale = float(np.float32((high - low) / (most - least)))
    return Quantization((scale,), (int(np.clip(round(least - low / scale), least, most)),))


def constant(name: str, values: Any, like: Tensor) -> Tensor:
    """Numbers as a constant of the type of an activation."""
    reals: NDArray[Any] = np.asarray(values, np.float32)
    if not integer(like):
        return Tensor.constant(name, reals)
    zero = 128 if like.dtype == "uint8" else 0
    scale = float(np.float32(np.abs(reals).max() / 127)) or 1.0
    stored = np.round(reals / scale).astype(np.int64) + zero
    known = Quantization((scale,), (zero,))
    return Tensor.constant(name, stored.astype(like.dtype), quantization=known)


def whole(tensor: Tensor | None) -> list[int] | None:
    """The values of a constant of integers."""
    if tensor is None or not tensor.is_constant or tensor.dtype not in ("int32", "int64"):
        return None
    found: list[int] = tensor.array().reshape(-1).tolist()
    return found
