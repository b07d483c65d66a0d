"""Quantizes by NNCF's accuracy control, and measures what it promised on the same labels again."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Artifact
from edgepipe.errors import OptionError, StageFailed

from .openvino_repair import EXACT

if TYPE_CHECKING:
    from edgepipe.dataset import Sample

MOST = 300
"""Labelled samples that are asked again and again while layers are tried."""


def labelled(samples: Iterable[Sample]) -> list[Sample]:
    """Those with a class, of calibration samples; without any there is no accuracy."""
    found: list[Sample] = []
    for sample in samples:
        if sample.label is not None and len(found) < MOST:
            found.append(sample)
    if not found:
        raise OptionError(
            "max_drop needs calibration samples with labels, and these have none",
            hint="give --labels, or leave openvino_quantize.max_drop out.",
        )
    return found


class Accuracy:
    """How many samples the first output names rightly, by its largest element."""

    def __init__(self, artifact: Artifact, in_file: Callable[[Sample], dict[str, Any]]) -> None:
        first = artifact.ends().outputs[0]
        self.output = first.tensor or first.name
        self.in_file = in_file

    def of(self, compiled: Any, samples: Iterable[Sample]) -> tuple[float, list[float]]:
        """NNCF's `validation_fn`: the share, and 1 or 0 for each."""
        right = []
        for sample in samples:
            answer = compiled(self.in_file(sample))[compiled.output(self.output)]
            right.append(float(int(answer.reshape(-1).argmax()) == sample.label))
        return sum(right) / max(len(right), 1), right


def quantize(
    model: Any,
    calibration: Any,
    samples: list[Sample],
    accuracy: Accuracy,
    max_drop: float,
    **how: Any,
) -> tuple[Any, list[str]]:
    nncf = importlib.import_module("nncf")
    core = importlib.import_module("openvino").Core()
    how["advanced_quantization_parameters"] = how.pop("advanced_parameters")  # NNCF's other name.
    made = nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=calibration,
        validation_dataset=nncf.Dataset(samples, accuracy.in_file),
        validation_fn=accuracy.of,
        max_drop=max_drop,
        **how,
    )
    before, after = (
        accuracy.of(core.compile_model(each, "CPU", EXACT), samples)[0] for each in (model, made)
    )
    said = f"{before:.2%} in float, {after:.2%} in int8 on {len(samples)} calibration samples"
    if before - after > max_drop + 1e-9:
        raise StageFailed(
            f"NNCF's accuracy control promised a loss of {max_drop:.2%} at most, measured: {said}"
        )
    return made, [f"accuracy control kept its promise of {max_drop:.2%}: {said}"]
