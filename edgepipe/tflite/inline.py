"""Brings every buffer of a TFLite file into its FlatBuffer, aligned, as microcontrollers read it.

Writers such as ai-edge-quantizer keep large buffers behind the FlatBuffer, by offset and size.
TensorFlow Lite Micro knows no such fields: it takes the weights for missing and computes on what
its memory holds, without a word. Seen with tflite-micro 0.dev20261023 on 59 of the 116 buffers
of a MobileNetV3: correlation 0.0 with LiteRT, 1.0 once they are inside.
"""

from __future__ import annotations

from pathlib import Path

from edgepipe.tflite import loading, saving


def write_inline(source: Path, target: Path) -> None:
    """The same model in a file of one piece; its numbers don't change."""
    saving.save(loading.load(source), target)
