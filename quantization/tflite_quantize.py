"""Quantizes a float TFLite with ai-edge-quantizer, on ranges of our own calibration."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgepipe import catalog
from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.errors import BrokenOutput, OptionError
from edgepipe.runner import to_file_layout
from edgepipe.stage import Options, Product, Stage, option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgepipe.dataset import Dataset
    from edgepipe.learning import Written
    from edgepipe.runner import Tensors

    from .quantizing import Quantizing
    from .sample_choice import Chosen

    Samples = Dataset | Written

REWRITE_SAMPLES = 3
"""On which each rewrite is proven; every one of them is run for each."""


@dataclass(frozen=True)
class QuantizeOptions(Options):
    """A recipe: everything that decides the result, beside the model and the samples."""

    scheme: Literal["int8", "int16x8", "dynamic", "float16"] = option(
        "int8", "int8, int16x8, dynamic or float16."
    )
    io: Literal["auto", "int8", "uint8", "int16", "float32"] = option(
        "auto", "Type of inputs and outputs; auto is the scheme's own."
    )
    method: Literal["min-max", "moving-average", "percentile", "mse", "entropy"] | None = option(
        None, "min-max, moving-average, percentile, mse or entropy; left out, the best found."
    )
    percentile: float = option(99.99, "The share that the method percentile keeps, in percent.")
    weights: Literal["per-channel", "per-tensor"] = option(
        "per-channel", "A scale for each channel of weights, or one."
    )
    dense_weights: Literal["per-channel", "per-tensor"] | None = option(
        None, "The same for dense layers, where targets differ; as weights when left out."
    )
    chip: Literal["", "edgetpu"] = option("", "The chip that must run all of it, if any.")
    symmetric: bool = option(False, "Zero points of 0 for int8 activations.")
    softmax_ranges: bool = option(True, "Range what a softmax reads by what it makes of it.")
    split_concats: bool = option(False, "Split what reads concatenations of unlike ranges.")
    equalize: bool = option(False, "Make channels between two linear layers alike.")
    bias_correction: bool = option(False, "Take back the mean error of each channel.")
    adaptive_rounding: bool = option(False, "Round weights for what their layer gives.")
    float_layers: tuple[str, ...] = option((), "Patterns of layers that stay in float.")
    int16_layers: tuple[str, ...] = option((), "Patterns of layers with int16 activations.")
    rewrite: bool = option(True, "Say the model first so that it quantizes well.")
    allow_float: bool = option(False, "Accept operators that stay in float.")
    repair: Literal["auto", "off", "always"] = option(
        "auto", "Try to lose less: where the limit isn't reached, never, or always."
    )
    limit_db: float = option(20.0, "What a repair aims at, in decibels.")
    repair_seconds: float = option(240.0, "Longest time for a repair.")

    @property
    def ranges(self) -> str:
        """The method that counts."""
        return self.method or "min-max"

    @property
    def weights_of_dense(self) -> str:
        """TensorFlow Lite of 2021 knows one scale for the weights of a dense layer."""
        return self.dense_weights or ("per-tensor" if self.chip else self.weights)

    def ends(self) -> str:
        """The type that inputs and outputs shall have."""
        return catalog.ends_of(self.scheme, self.io)


class TfliteQuantize(Stage):
    """1. every tensor's range is seen on the samples; 2. the quantizer writes integers for them;
    3. what was asked for is looked for in the file: types of the ends, operators left in float.
    """

    name: ClassVar[str] = "tflite_quantize"
    label: ClassVar[str] = "aeq"
    sources: ClassVar[tuple[Format, ...]] = (Format.TFLITE,)
    target: ClassVar[Format] = Format.TFLITE_QUANTIZED
    toolchain: ClassVar[str] = "edge"
    revision: ClassVar[int] = 29
    options: ClassVar[type[Options]] = QuantizeOptions
    preload: ClassVar[tuple[str, ...]] = ("ai_edge_quantizer.quantizer",)

    def learns(self, options: QuantizeOptions) -> bool:
        return options.scheme in catalog.CALIBRATED

    def check(self, artifact: Artifact, options: QuantizeOptions) -> None:
        allowed = catalog.ENDS[options.scheme]
        if options.io not in ("auto", *allowed):
            raise OptionError(
                f"a model of {options.scheme} has no {options.io} ends",
                hint=f"they can be: {', '.join(allowed)}.",
            )
        if options.chip:
            _check_chip(options)
        if not 50 < options.percentile <= 100:
            raise OptionError(
                f"percentile takes a number above 50, up to 100, received {options.percentile}"
            )

    def run(self, artifact: Artifact, options: QuantizeOptions, workdir: Path) -> Product:
        return self.run_on(artifact, options, workdir, None)

    def run_on(
        self, artifact: Artifact, options: QuantizeOptions, workdir: Path, data: Samples | None
    ) -> Product:
        from edgepipe.tflite import loading, saving

        from . import integer_check, recipe
        from .quantizing import EQUALIZED, SPLIT, WITH_HISTOGRAMS, Quantizing
        from .sample_choice import Chosen

        notes = []
        artifact, rewritten = _prepared(artifact, options, workdir, data)
        notes += rewritten
        chosen = Chosen() if data is None else _chosen(artifact, options, data)
        feeds = None if data is None else lambda: _feeds(data)
        quantizing = Quantizing(artifact, feeds, chosen, workdir)
        if _may_repair(options) and data is not None:
            quantizing.observe(WITH_HISTOGRAMS)  # Once, for all methods that may be tried.
        path = quantizing.write(options, workdir / "model.tflite")
        facts: dict[str, Any] = {}
        if data is not None and options.scheme in catalog.CALIBRATED:
            options, repaired = _repaired(quantizing, options, path)
            notes.append(f"calibrated on {quantizing.samples} samples ({options.ranges})")
            notes += [*repaired, *data.problems[:3]]
            if data.source.random:
                notes.append("random calibration: figures mean nothing for your data")
            facts = {"samples": quantizing.samples, "calibration": data.source.words()}
        if quantizing.closed:
            notes.append(
                f"{quantizing.closed} operators that the quantizer left in float are integers"
            )
        allow_float = options.allow_float or bool(options.float_layers)
        notes += integer_check.check(path, options.scheme, options.ends(), allow_float)
        # The quantizer puts weights behind the FlatBuffer, where TensorFlow Lite Micro and the
        # tools of 2021 don't look: they compute with none, without a word.
        saving.save(loading.load(path), path)
        recipe.write(workdir, self.name, replace(options, repair="off"), facts)
        ends = renewed_ends(artifact, path)
        for left in (artifact.path, workdir / SPLIT, workdir / EQUALIZED):
            if left.parent == workdir:  # Only the result is kept.
                left.unlink(missing_ok=True)
        return Product(path, ends, notes=tuple(notes))


def _check_chip(options: QuantizeOptions) -> None:
    """A chip that computes in eight bits alone leaves no choice; `allow_float` is for what has no
    integer form and would run on the CPU there, too."""
    wider = ("float_layers", "int16_layers")
    said = [f"{name}={getattr(options, name)}" for name in wider if getattr(options, name)]
    if options.scheme != "int8":
        said.insert(0, f"scheme={options.scheme}")
    if options.io == "float32":
        said.append("io=float32")
    if said:
        raise OptionError(
            f"{', '.join(said)} can't be had on {options.chip}, which computes in int8 alone",
            hint="leave it out; --target tflite has it.",
        )


def _prepared(
    artifact: Artifact, options: QuantizeOptions, workdir: Path, data: Samples | None
) -> tuple[Artifact, list[str]]:
    """The model said so that the quantizer can do it, and what was changed; itself if nothing."""
    from edgepipe.targets.edgetpu import legalising
    from edgepipe.tflite import rewrite

    from . import int16_forms

    if not options.rewrite or options.scheme not in catalog.CALIBRATED:
        return artifact, []
    path = workdir / "prepared.tflite"
    few = itertools.islice(_feeds(data) if data is not None else (), REWRITE_SAMPLES)
    names = legalising.FLOAT if options.chip == "edgetpu" else rewrite.REWRITES
    fed = [_in_file(artifact, feeds) for feeds in few]
    notes = rewrite.prepare(artifact.path, path, fed, names)
    said = int16_forms.rewrite(path) if options.scheme == "int16x8" else 0
    if said:
        notes.append(f"int16_forms: squared differences became products ({said}x)")
    return replace(artifact, path=path), notes


def _in_file(artifact: Artifact, feeds: Tensors) -> Tensors:
    """A sample by the names and in the layouts of the file."""
    return {
        port.tensor or port.name: to_file_layout(feeds[port.name], port)
        for port in artifact.ends().inputs
    }


def _may_repair(options: QuantizeOptions) -> bool:
    """A recipe that says which layers are wider, or what was corrected, is the last word."""
    said = options.float_layers or options.int16_layers or _learns_more(options)
    if options.scheme != "int8" or options.ranges == "moving-average" or options.repair == "off":
        return False
    return options.repair == "always" or not said


def _learns_more(options: QuantizeOptions) -> bool:
    """More than ranges."""
    return (
        options.split_concats
        or options.equalize
        or options.bias_correction
        or options.adaptive_rounding
    )


def _repaired(
    quantizing: Quantizing, options: QuantizeOptions, path: Path
) -> tuple[QuantizeOptions, list[str]]:
    """The options that lose less, with what was tried; the file is made of them."""
    from .judging import Bench
    from .repair import MARGIN_DB, Repair, run

    if not _may_repair(options):
        return options, []
    found = run(
        Repair(
            quantizing,
            Bench.of(quantizing.given.path, quantizing.chosen.judged),
            options,
            path,
            options.limit_db + MARGIN_DB,
            time.monotonic() + options.repair_seconds,
        ),
        always=options.repair == "always",
    )
    return found.options, [one.note() for one in found.tries]


def _chosen(artifact: Artifact, options: QuantizeOptions, data: Samples) -> Chosen:
    """Samples in the order and the layouts of the file, where any are needed."""
    from . import sample_choice

    if not _may_repair(options) and not _learns_more(options):
        return sample_choice.Chosen()
    names = _inputs(artifact.path)
    fed = (_in_file(artifact, feeds) for feeds in _feeds(data))
    ordered = ([named[name] for name in names] for named in fed)
    return sample_choice.choose(artifact.path, ordered, len(data))


def _inputs(path: Path) -> list[str]:
    """The names of the file's inputs, in its order."""
    from edgepipe.tflite import loading

    return [tensor.name for tensor in loading.load(path).main.inputs]


def _feeds(data: Samples) -> Iterator[Tensors]:
    for sample in data:
        yield sample.feeds


def renewed_ends(artifact: Artifact, path: Path) -> Signature:
    """The names that the user knows, with the tensors and types that are in the file now."""
    from edgepipe.tflite import reader

    given = artifact.ends()
    before, now = reader.read(artifact.path).signature(), reader.read(path).signature()

    def renew(
        ports: tuple[Port, ...], old: tuple[Port, ...], new: tuple[Port, ...]
    ) -> tuple[Port, ...]:
        if len(old) != len(new):
            raise BrokenOutput(f"the quantized file has {len(new)} ends where {len(old)} were")
        places = {port.tensor: other for port, other in zip(old, new, strict=True)}
        found = [places[port.tensor or port.name] for port in ports]
        return tuple(
            replace(port, tensor=other.tensor, dtype=other.dtype)
            for port, other in zip(ports, found, strict=True)
        )

    return Signature(
        renew(given.inputs, before.inputs, now.inputs),
        renew(given.outputs, before.outputs, now.outputs),
    )
