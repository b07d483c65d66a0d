"""What is worth saying of a stage's output, read by the core itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepipe.artifact import COMPILED, Format, size_of


def of(path: Path, format: Format) -> dict[str, Any]:
    """Size, ops and parameters; for TFLite also what the converter inserted."""
    facts: dict[str, Any] = {"size": size_of(path)}
    if format is Format.ONNX:
        from edgepipe import onnx_file

        model = onnx_file.read(path)
        facts |= _counts(model.ops, model.parameters)
        facts["transposes"] = model.ops.get("Transpose", 0)
    elif format in (Format.TFLITE, Format.TFLITE_QUANTIZED, *COMPILED):
        from edgepipe.tflite import quality, reader

        graph = reader.read(path)
        found = quality.assess(graph)
        facts |= _counts(graph.ops(), graph.parameters())
        facts |= {
            "transposes": found.transposes,
            "custom_ops": found.custom,
            "flex_ops": found.flex,
            "split_activations": found.split_activations,
        }
        if format not in COMPILED:  # A chip's operator is what was asked for.
            facts["inserted"] = found.inserted
    return facts


def _counts(by_type: dict[str, int], parameters: int | None) -> dict[str, Any]:
    return {"ops": sum(by_type.values()), "by_type": dict(by_type), "parameters": parameters}
