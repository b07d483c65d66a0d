"""Counts how many of the held-out digits a TFLite file gets right.

    PYTHON accuracy.py MODEL.tflite [AT_LEAST]

PYTHON is one with ai-edge-litert, such as that of edgepipe's `edge` toolchain. Ends with 1 when
fewer than AT_LEAST are right.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter


def stored(image: np.ndarray, given: dict) -> np.ndarray:
    """The image as the file takes it: an integer input has a scale and a zero point."""
    scale, zero_point = given["quantization"]
    if not scale:
        return image.astype(given["dtype"])
    limits = np.iinfo(given["dtype"])
    integers = np.rint(image / scale) + zero_point
    return integers.clip(limits.min, limits.max).astype(given["dtype"])


def main(model: str, at_least: str = "0") -> int:
    data = np.load(Path(__file__).with_name("digits.npz"))
    interpreter = Interpreter(model)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    right = 0
    for image, label in zip(data["images"], data["labels"], strict=True):
        interpreter.set_tensor(given["index"], stored(image.reshape(given["shape"]), given))
        interpreter.invoke()
        right += int(interpreter.get_tensor(made["index"]).argmax() == label)
    print(f"held out: {right} of {len(data['labels'])} right, {right / len(data['labels']):.2%}")
    return int(right < int(at_least))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
