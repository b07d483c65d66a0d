"""The outcome of a comparison, as data: proven or not, by how much, and why not."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgepipe.errors import OptionError

REVISION = 6
"""Raised when `verify` would judge the same outputs otherwise."""
PERFECT_DB = 200.0
"""Stands for no error at all, so that a figure can be printed, compared and kept as JSON."""
WORST_ERROR = 1e9
"""Stands for an error beyond all measure, for the same reason."""


@dataclass(frozen=True)
class Tolerance:
    """What a float arrow may lose. The best converters lose 1e-6 (about 120 dB)."""

    sqnr_db: float = 50.0
    relative_error: float = 0.02
    argmax_agreement: float = 1.0

    def __post_init__(self) -> None:
        for name, most in (("sqnr_db", 200), ("relative_error", 1), ("argmax_agreement", 1)):
            value = getattr(self, name)
            if not 0 <= value <= most:  # NaN neither: nothing is less than it, so all would pass.
                raise OptionError(
                    f"the tolerance {name} takes a number from 0 to {most}, received {value!r}"
                )


QUANTIZED = Tolerance(20.0, 1.0, 0.0)
"""Of a quantized arrow. 20 dB is a tenth of the signal: classes hold, boxes begin to shake."""


@dataclass(frozen=True)
class OutputProof:
    """One output over all samples, the worst sample counted; None for what says nothing here.

    Of a quantized arrow `sqnr_db` and `cosine` are those of all samples together.
    """

    name: str
    sqnr_db: float
    relative_error: float | None
    argmax_agreement: float | None
    failures: tuple[str, ...] = ()
    cosine: float | None = None


@dataclass(frozen=True)
class Proof:
    """The outcome for an arrow. `failures` empty means proven.

    `reference_failed`: the fault is with what came in, so nothing can be said of what came out.
    """

    samples: int
    outputs: tuple[OutputProof, ...] = ()
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    permutations: dict[str, tuple[int, ...] | None] = field(default_factory=dict)
    reference_failed: bool = False
    quantized: bool = False
    accuracy: dict[str, Any] | None = None
    """Of a quantized model and its float one, where the samples have labels."""
    micro: dict[str, Any] | None = None
    """What TensorFlow Lite Micro made of the model that stands in for a compiled one."""
    not_run: str = ""
    """Why nothing was run: without a device, a chip's file can only be looked at."""

    @property
    def failed(self) -> bool:
        return bool(self.failures) or any(output.failures for output in self.outputs)

    @property
    def proven(self) -> bool:
        return not self.failed and not self.not_run

    @property
    def sqnr_db(self) -> float:
        return min((output.sqnr_db for output in self.outputs), default=0.0)

    def why(self) -> str:
        reasons = list(self.failures)
        for output in self.outputs:
            reasons.extend(f"output {output.name!r}: {reason}" for reason in output.failures)
        return "; ".join(reasons)

    def to_json(self) -> dict[str, Any]:
        return {"proven": self.proven, "sqnr_db": round(self.sqnr_db, 2), **asdict(self)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Proof:
        outputs = tuple(
            OutputProof(**{**item, "failures": tuple(item["failures"])}) for item in data["outputs"]
        )
        permutations = {
            name: None if axes is None else tuple(axes)
            for name, axes in data["permutations"].items()
        }
        return Proof(
            samples=data["samples"],
            outputs=outputs,
            failures=tuple(data["failures"]),
            notes=tuple(data["notes"]),
            permutations=permutations,
            reference_failed=data["reference_failed"],
            quantized=data.get("quantized", False),
            accuracy=data.get("accuracy"),
            micro=data.get("micro"),
            not_run=data.get("not_run", ""),
        )
