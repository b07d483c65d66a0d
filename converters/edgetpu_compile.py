"""Compiles an int8 TFLite model for the Edge TPU, by Google's `edgetpu_compiler`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from edgepipe.artifact import Artifact, Format
from edgepipe.errors import OptionError, UnsupportedModel
from edgepipe.stage import Options, Product, ProgramStage
from edgepipe.targets.edgetpu.compile_options import CompileOptions

NAME = "model_edgetpu"


class EdgetpuCompile(ProgramStage):
    """One int8 model in, one file for one chip out, with the compiler's log beside it."""

    name: ClassVar[str] = "edgetpu_compile"
    label: ClassVar[str] = "edgetpu"
    sources: ClassVar[tuple[Format, ...]] = (Format.TFLITE_QUANTIZED,)
    target: ClassVar[Format] = Format.EDGETPU
    revision: ClassVar[int] = 1
    options: ClassVar[type[Options]] = CompileOptions

    def check(self, artifact: Artifact, options: CompileOptions) -> None:
        from edgepipe.targets.edgetpu import compilable

        options.check()
        if options.num_segments > 1:
            raise OptionError(
                "convert makes one file, and num_segments makes several",
                hint="`edgepipe compile model_int8.tflite --num-segments N` cuts the int8 model.",
            )
        try:
            compilable.load(artifact.path, options.allow_float)
        except UnsupportedModel as error:
            error.details.setdefault("stage", self.name)
            raise

    def identity(self, options: CompileOptions) -> str:
        from edgepipe.targets.edgetpu import compiler

        return compiler.find(options.compiler).identity

    def whereabouts(self) -> str:
        from edgepipe.targets.edgetpu import compiler

        return compiler.whereabouts()

    def drive(
        self, artifact: Artifact, options: CompileOptions, workdir: Path, log: Path
    ) -> Product:
        from edgepipe.targets.edgetpu import compiler, compiling

        work = workdir / "work"
        found = compiling.compile_models(
            compiler.find(options.compiler), [artifact.path], options, work, log
        )
        told = found.to_json()
        told["models"][0]["file"] = f"{NAME}.tflite"
        made = workdir / f"{NAME}.tflite"
        shutil.move(found.pieces[0].path, made)
        found.write_log(made.with_suffix(".log"))
        facts = {"edgetpu": told}
        shutil.rmtree(work)
        return Product(made, artifact.ends(), notes=tuple(found.words()), facts=facts)
