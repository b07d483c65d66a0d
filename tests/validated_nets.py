"""Small classifiers as TFLite with data that they were made for, to validate one beside another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tflite_models import model_of

from edgepipe.tflite import saving
from edgepipe.tflite.graph import Op, Tensor

FEATURES, CLASSES = 6, 3
WEIGHTS = np.random.default_rng(5).standard_normal((CLASSES, FEATURES)).astype(np.float32)
MOVED = WEIGHTS + 0.2 * np.random.default_rng(1).standard_normal(WEIGHTS.shape)


def dense(folder: Path, name: str, noise: float = 0.0, extra: bool = False) -> Path:
    """A linear classifier; `noise` makes another one, near it, `extra` a second output."""
    moved = WEIGHTS + noise * np.random.default_rng(1).standard_normal(WEIGHTS.shape)
    x, scores = Tensor("x", (1, FEATURES)), Tensor("scores", (1, CLASSES))
    kernel = Tensor.constant("w", moved.astype(np.float32), "float32")
    bias = Tensor.constant("b", np.zeros(CLASSES, np.float32), "float32")
    ops = [Op.make("FULLY_CONNECTED", [x, kernel, bias], [scores])]
    ends = [scores]
    if extra:
        shares = Tensor("shares", (1, CLASSES))
        ops.append(Op.make("SOFTMAX", [scores], [shares], beta=1.0))
        ends.append(shares)
    saving.save(model_of(ops, [x], ends), folder / name)
    return folder / name


def labelled(folder: Path, count: int, seed: int = 2, name: str = "data.npz") -> Path:
    """Samples whose labels are what the float model says, but for every tenth."""
    x = np.random.default_rng(seed).standard_normal((count, FEATURES)).astype(np.float32)
    labels = (x @ WEIGHTS.T).argmax(1)
    labels[::10] = (labels[::10] + 1) % CLASSES
    np.savez(folder / name, x=x, labels=labels)
    return folder / name
