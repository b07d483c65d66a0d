"""Makes an int8 TFLite model one that the Edge TPU compiler of 2021 reads and maps."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar

from edgepipe.artifact import Artifact, Format
from edgepipe.stage import Options, Product, Stage, option


@dataclass(frozen=True)
class LegaliseOptions(Options):
    rewrite: bool = option(True, "Rewrite; false passes the model on as it is.")


class EdgetpuLegalise(Stage):
    """Each rewrite is proven in LiteRT; then the mapping is foretold op by op.

    What activations are rebuilt from was seen to by the stage that quantized: here is what only
    the file of integers shows, and what another quantizer left.
    """

    name: ClassVar[str] = "edgetpu_legalise"
    label: ClassVar[str] = ""
    sources: ClassVar[tuple[Format, ...]] = (Format.TFLITE_QUANTIZED,)
    target: ClassVar[Format] = Format.TFLITE_QUANTIZED
    towards: ClassVar[tuple[Format, ...]] = (Format.EDGETPU,)
    toolchain: ClassVar[str] = "edge"
    revision: ClassVar[int] = 6
    options: ClassVar[type[Options]] = LegaliseOptions
    preload: ClassVar[tuple[str, ...]] = ("ai_edge_litert.interpreter",)

    def run(self, artifact: Artifact, options: LegaliseOptions, workdir: Path) -> Product:
        import shutil

        from edgepipe.targets.edgetpu import legalising
        from edgepipe.targets.edgetpu.preflight import preflight

        path = workdir / "model.tflite"
        notes: list[str] = []
        if options.rewrite:
            notes = legalising.legalise(artifact.path, path)
        else:
            shutil.copyfile(artifact.path, path)
        found = preflight(path)
        words = f"{found.mapped} of {len(found.verdicts)} ops foretold as mapped to the Edge TPU"
        facts = {"foretold": found.summary()}
        quantize = import_module("edgepipe.quantization.tflite_quantize")
        ends = quantize.renewed_ends(artifact, path)
        return Product(path, ends, notes=(*notes, *found.refused, words), facts=facts)
