"""Compiles a quantized TFLite model for an Arm Ethos-U NPU, by Arm's Vela."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgepipe.artifact import Artifact, Format, digest_file
from edgepipe.errors import OptionError, StageFailed
from edgepipe.stage import Options, Product, Stage, option
from edgepipe.targets.ethosu import accelerators, figures, vela_words
from edgepipe.targets.ethosu.figures import Figures
from edgepipe.targets.ethosu.vela_words import Fallback


@dataclass(frozen=True)
class EthosuOptions(Options):
    accelerator: Literal[
        "ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256",
        "ethos-u65-256", "ethos-u65-512",
        "ethos-u85-128", "ethos-u85-256", "ethos-u85-512", "ethos-u85-1024", "ethos-u85-2048",
    ] = option("ethos-u55-256", "The chip; --target sets it.")  # fmt: skip
    system_config: str = option(
        accelerators.AUTO, "Clock and memories of the board, by a name of the configuration file."
    )
    memory_mode: str = option(
        accelerators.AUTO, "What is in SRAM: Shared_Sram, Sram_Only, Dedicated_Sram and so on."
    )
    config: str = option("", "A Vela configuration file of your own; Arm's when left out.")
    arena_cache_size: int | None = option(
        None, "Bytes of SRAM that the schedule aims at; those of the memory mode when left out."
    )
    optimise: Literal["Performance", "Size"] = option(
        "Performance", "Performance is fast within that, Size takes as little SRAM as it can."
    )

    legalise: bool = option(
        True, "Rewrite what Vela would leave to the CPU, where no number changes by it."
    )

    def settings(self) -> dict[str, Any]:
        """A worker stands elsewhere, so that a relative path would lead it astray."""
        config = str(Path(self.config).expanduser().absolute()) if self.config else ""
        return {**super().settings(), "config": config}

    def key(self) -> dict[str, Any]:
        """What the configuration file says decides, not where it is."""
        path = Path(self.config).expanduser()
        content = digest_file(path) if self.config and path.is_file() else ""
        return {**super().settings(), "config": content}

    def system(self) -> accelerators.System:
        config = self.settings()["config"]
        return accelerators.system_of(
            self.accelerator, config, self.system_config, self.memory_mode
        )


class EthosuFromTflite(Stage):
    """Integers in; operators that the NPU runs become one custom operator, the rest stays."""

    name: ClassVar[str] = "ethosu_from_tflite"
    label: ClassVar[str] = "vela"
    sources: ClassVar[tuple[Format, ...]] = (Format.TFLITE_QUANTIZED,)
    target: ClassVar[Format] = Format.ETHOSU
    toolchain: ClassVar[str] = "vela"
    revision: ClassVar[int] = 4
    options: ClassVar[type[Options]] = EthosuOptions

    def check(self, artifact: Artifact, options: EthosuOptions) -> None:
        from edgepipe.targets.ethosu import quantized_ops
        from edgepipe.tflite import reader

        options.system()
        if options.arena_cache_size is not None and options.arena_cache_size < 0:
            raise OptionError(
                f"arena_cache_size takes bytes, 0 or more, received {options.arena_cache_size}"
            )
        quantized_ops.check(reader.read(artifact.path), artifact.path.name)

    def run(self, artifact: Artifact, options: EthosuOptions, workdir: Path) -> Product:
        path, found = compiled_by_vela(artifact.path, options, workdir)
        if found.on_npu == 0:
            first = found.fallbacks[0]
            raise StageFailed(
                f"Vela put none of the {found.ops} operators on the NPU:"
                f" {first.op} {first.reason} {first.constraint}".rstrip()
            )
        facts = {figures.KEY: found.to_json()}
        return Product(
            path, artifact.ends(), notes=(*found.rewritten, *found.warnings), facts=facts
        )


def foretell(path: str, options: dict[str, Any], workdir: str) -> dict[str, Any]:
    """A worker's job: Vela's figures, wherever the operators are, with all that the model has."""
    typed = EthosuOptions.from_settings(options, EthosuFromTflite.name)
    assert isinstance(typed, EthosuOptions)
    return compiled_by_vela(Path(path), typed, Path(workdir))[1].to_json()


def compiled_by_vela(model: Path, options: EthosuOptions, workdir: Path) -> tuple[Path, Figures]:
    """The compiled file below workdir, and what Vela tells of it."""
    from edgepipe.targets.ethosu import legalising
    from edgepipe.tflite import reader

    from . import vela_driver

    legal = workdir / legalising.FILE
    notes = legalising.legalise(model, legal) if options.legalise else []
    system = options.system()
    asked = vela_driver.Asked(
        options.accelerator, system, options.optimise, options.arena_cache_size
    )
    answered = vela_driver.compile_model(legal if notes else model, asked, workdir / "vela")
    source = reader.read(model)
    path = answered.path.rename(workdir / "model.tflite")
    row = figures.read_summary(answered.folder)
    return path, Figures(
        vela=answered.version,
        accelerator=options.accelerator,
        system=system.system,
        mode=system.mode,
        assumed=system.assumed,
        clock_hz=float(row["core_clock"]),
        **figures.memory(row, system.mode),
        sram_bandwidth=figures.bandwidth(row, "SRAM"),
        other_bandwidth=figures.bandwidth(row, row["weights_storage_area"]),
        file_bytes=path.stat().st_size,
        cycles=round(figures.number(row["cycles_total"])),
        npu_cycles=round(figures.number(row["cycles_npu"])),
        seconds=figures.number(row["inference_time"]),
        inferences_per_second=figures.number(row["inferences_per_second"]),
        macs=round(figures.number(row["nn_macs"])),
        weight_bytes=round(figures.number(row["total_original_weights"])),
        encoded_weight_bytes=round(figures.number(row["total_npu_encoded_weights"])),
        ops=sum(len(graph.operators) for graph in source.subgraphs),
        fallbacks=_left(path, vela_words.fallbacks(answered.lines)),
        rewritten=tuple(notes),
        warnings=tuple(vela_words.warnings(answered.lines)),
        layers=figures.read_layers(answered.folder),
    )


def _left(path: Path, told: list[Fallback]) -> tuple[Fallback, ...]:
    """The operators that the compiled file still has, with what Vela said of them."""
    from edgepipe.targets.ethosu import compiled
    from edgepipe.tflite import reader

    reasons = {(one.op, one.output): one for one in told}
    return tuple(
        reasons.get((op, output), Fallback(op, output, "", ""))
        for op, output in compiled.on_cpu(reader.read(path))
    )
