"""Makes a smaller IR of a float one: int8, or its weights alone, by NNCF; float16 by OpenVINO."""

from __future__ import annotations

import importlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgepipe.artifact import Artifact, Format
from edgepipe.errors import OptionError, StageFailed
from edgepipe.identify_openvino import graph_of
from edgepipe.runner import to_file_layout
from edgepipe.stage import Options, Product, Stage, option

if TYPE_CHECKING:
    from edgepipe.dataset import Dataset, Sample
    from edgepipe.learning import Written

    Samples = Dataset | Written


@dataclass(frozen=True)
class OpenvinoQuantizeOptions(Options):
    scheme: Literal["int8", "float16", "int8-weights", "int4-weights"] = option(
        "int8", "int8, float16, or the weights alone in 8 or 4 bits."
    )
    io: Literal["auto", "float32"] = option("auto", "Inputs and outputs stay float32.")
    preset: Literal["auto", "performance", "mixed"] = option(
        "auto", "performance has symmetric activations, mixed asymmetric ones; auto is NNCF's."
    )
    ranges: Literal["auto", "mean", "widest"] = option(
        "auto",
        "Ranges of activations: the mean of the samples' extremes, as NNCF takes it, or the widest"
        " that were seen; auto is the mean, and the widest where a repair is nearer with it.",
    )
    device: Literal["ANY", "CPU", "GPU", "NPU", "CPU_SPR"] = option(
        "ANY", "The device whose integer kernels are aimed at."
    )
    model_type: Literal["auto", "plain", "transformer"] = option(
        "auto", "transformer spares attention; auto looks for a softmax that a product takes."
    )
    smooth_quant: float | None = option(
        None, "SmoothQuant's alpha for products, 0 to 1, -1 for none; NNCF's when left out."
    )
    fast_bias_correction: bool = option(True, "The fast correction of biases, or the exact one.")
    float_layers: tuple[str, ...] = option((), "Patterns of names of ops that stay in float.")
    float_types: tuple[str, ...] = option((), "Types of ops that stay in float.")
    repair: Literal["auto", "off"] = option(
        "auto", "auto leaves the noisiest ops in float where int8 loses more than the limit."
    )
    limit_db: float = option(20.0, "What a repair aims at, in decibels.")
    repair_seconds: float = option(240.0, "Longest time for a repair.")
    max_drop: float | None = option(
        None, "With labels: the most accuracy lost, as a share, by NNCF's accuracy control."
    )
    symmetric: bool = option(False, "Weights alone: without zero points.")
    group_size: int | None = option(
        None, "int4-weights: how many share a scale, -1 for a channel; what fits when left out."
    )
    ratio: float = option(1.0, "int4-weights: the share of layers in 4 bits, the others in 8.")
    all_layers: bool = option(False, "int4-weights: embeddings and the last layer, too.")
    scale_estimation: bool = option(False, "int4-weights: scales fitted to calibration samples.")


class OpenvinoQuantize(Stage):
    """Float ends; what was learnt from the samples stands in the graph as FakeQuantize."""

    name: ClassVar[str] = "openvino_quantize"
    label: ClassVar[str] = "nncf"
    sources: ClassVar[tuple[Format, ...]] = (Format.OPENVINO,)
    target: ClassVar[Format] = Format.OPENVINO_QUANTIZED
    toolchain: ClassVar[str] = "openvino"
    revision: ClassVar[int] = 6
    options: ClassVar[type[Options]] = OpenvinoQuantizeOptions
    preload: ClassVar[tuple[str, ...]] = ("openvino", "nncf")

    def learns(self, options: OpenvinoQuantizeOptions) -> bool:
        return options.scheme != "float16"

    def check(self, artifact: Artifact, options: OpenvinoQuantizeOptions) -> None:
        from . import openvino_weights

        openvino_weights.check(options)
        alpha = options.smooth_quant
        if alpha is not None and alpha != -1 and not 0 <= alpha <= 1:
            raise OptionError(
                f"smooth_quant takes a number from 0 to 1, or -1 for none, received {alpha:g}"
            )
        if options.max_drop is not None and not 0 <= options.max_drop <= 1:
            raise OptionError(f"max_drop takes a share from 0 to 1, received {options.max_drop:g}")

    def run(self, artifact: Artifact, options: OpenvinoQuantizeOptions, workdir: Path) -> Product:
        return self.run_on(artifact, options, workdir, None)

    def run_on(
        self,
        artifact: Artifact,
        options: OpenvinoQuantizeOptions,
        workdir: Path,
        data: Samples | None,
    ) -> Product:
        openvino = importlib.import_module("openvino")
        model = openvino.Core().read_model(str(graph_of(artifact.path)))
        notes: list[str] = []
        if options.scheme == "int8":
            if data is None:
                raise OptionError(
                    "int8 needs samples that say which values occur",
                    hint="give some with --calibration DATA.",
                )
            model, notes = _quantized(model, artifact, options, data)
        elif options.scheme != "float16":
            model, notes = _compressed(model, artifact, options, data)
        folder = workdir / "model"
        folder.mkdir()
        openvino.save_model(
            model, str(folder / "model.xml"), compress_to_fp16=options.scheme == "float16"
        )
        return Product(folder, artifact.ends(), notes=tuple(notes))


def _feeding(artifact: Artifact) -> Callable[[Sample], dict[str, Any]]:
    ports = artifact.ends().inputs

    def in_file(sample: Sample) -> dict[str, Any]:
        return {p.tensor or p.name: to_file_layout(sample.feeds[p.name], p) for p in ports}

    return in_file


def _compressed(
    model: Any, artifact: Artifact, options: OpenvinoQuantizeOptions, data: Samples | None
) -> tuple[Any, list[str]]:
    from . import openvino_weights

    feeds = map(_feeding(artifact), data or ())
    made, notes = openvino_weights.compress(
        model, options, list(itertools.islice(feeds, openvino_weights.MOST))
    )
    if data is not None and data.source.random:
        notes.append("random calibration: figures mean nothing for your data")
    return made, notes


def _quantized(
    model: Any, artifact: Artifact, options: OpenvinoQuantizeOptions, data: Samples
) -> tuple[Any, list[str]]:
    # Here, for they need numpy, which laying out a plan has no use for.
    from . import openvino_accuracy, openvino_repair

    nncf = importlib.import_module("nncf")
    in_file = _feeding(artifact)
    attention = options.model_type == "transformer" or (
        options.model_type == "auto" and has_attention(model)
    )
    notes = [f"calibrated on {len(data)} samples (NNCF)", *data.problems[:3]]
    dataset = nncf.Dataset(data, in_file)
    try:
        if options.max_drop is not None:
            samples = openvino_accuracy.labelled(data)
            how = _parameters(nncf, options, attention, (), options.preset, options.ranges)
            made, said = openvino_accuracy.quantize(
                model,
                dataset,
                samples,
                openvino_accuracy.Accuracy(artifact, in_file),
                options.max_drop,
                subset_size=len(data),
                **how,
            )
            notes += said
        else:

            def make(spared: tuple[str, ...], preset: str, ranges: str) -> Any:
                how = _parameters(nncf, options, attention, spared, preset, ranges)
                return nncf.quantize(model, dataset, subset_size=len(data), **how)

            made = make((), options.preset, options.ranges)
            if options.repair == "auto" and _is_quantized(made):
                repair = openvino_repair.OpenvinoRepair(
                    model,
                    made,
                    make,
                    openvino_repair.Feeding(data, len(data), in_file),
                    options.limit_db,
                    time.monotonic() + options.repair_seconds,
                    options.preset,
                    options.ranges,
                )
                repair.run()
                made = repair.best
                notes += repair.notes
                if repair.spared:
                    notes.append(f"left in float: {', '.join(repair.spared)}")
    except (nncf.ValidationError, nncf.InternalError, RuntimeError) as error:
        raise StageFailed(f"NNCF {nncf.__version__} can't quantize it: {error}") from error
    if not _is_quantized(made):
        raise StageFailed(
            "nothing was quantized: the model has no op that NNCF makes integers of,"
            " or float_layers and float_types spare them all"
        )
    if attention:
        notes.append("quantized as a transformer")
    if data.source.random:
        notes.append("random calibration: figures mean nothing for your data")
    return made, notes


def _parameters(
    nncf: Any,
    options: OpenvinoQuantizeOptions,
    attention: bool,
    spared: tuple[str, ...],
    preset: str,
    ranges: str,
) -> dict[str, Any]:
    """What NNCF is told, but for the data."""
    advanced = nncf.AdvancedQuantizationParameters()
    if ranges == "widest":
        advanced.activations_range_estimator_params = _widest()
    if options.smooth_quant is not None:
        advanced.smooth_quant_alphas = nncf.AdvancedSmoothQuantParameters(
            matmul=options.smooth_quant
        )
    presets = {
        "auto": None,
        "performance": nncf.QuantizationPreset.PERFORMANCE,
        "mixed": nncf.QuantizationPreset.MIXED,
    }
    return {
        "preset": presets[preset],
        "target_device": nncf.TargetDevice[options.device],
        "fast_bias_correction": options.fast_bias_correction,
        "model_type": nncf.ModelType.TRANSFORMER if attention else None,
        "ignored_scope": nncf.IgnoredScope(
            names=list(spared),
            patterns=list(options.float_layers),
            types=list(options.float_types),
        ),
        "advanced_parameters": advanced,
    }


def _widest() -> Any:
    """From the least to the greatest number of all samples."""
    said = importlib.import_module("nncf.quantization.range_estimator")
    least, most = said.StatisticsType.MIN, said.StatisticsType.MAX
    return said.RangeEstimatorParameters(
        min=said.StatisticsCollectorParameters(
            statistics_type=least, aggregator_type=said.AggregatorType.MIN
        ),
        max=said.StatisticsCollectorParameters(
            statistics_type=most, aggregator_type=said.AggregatorType.MAX
        ),
    )


def _is_quantized(model: Any) -> bool:
    return any(node.get_type_name() == "FakeQuantize" for node in model.get_ordered_ops())


def has_attention(model: Any) -> bool:
    """Whether the result of a softmax goes into a product, or an op does all of it."""
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if kind == "ScaledDotProductAttention":
            return True
        if kind == "Softmax" and any(
            end.get_node().get_type_name() == "MatMul" for end in node.output(0).get_target_inputs()
        ):
            return True
    return False
