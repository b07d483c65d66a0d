"""Repairs a quantized model that lost too much: tries, the cheapest first, of which the good stay.

Each try is judged on samples that were calibrated on, which the proof of the result never sees;
what helps there and doesn't hold on the held-out samples fails that proof.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgepipe.tflite import loading

from . import concat_split, integer_check, rounding
from .judging import NOTHING_KNOWN, Bench, Judged
from .quantizing import WITH_HISTOGRAMS, Quantizing

if TYPE_CHECKING:
    from .tflite_quantize import QuantizeOptions

log = logging.getLogger(__name__)

MARGIN_DB = 1.0
"""Held-out samples may lose a little more than those that a repair was chosen on."""
WORTH_DB = 0.3
"""A gain below this is chance."""
BROKEN_DB, LEAP_DB = 5.0, 3.0
"""Where next to nothing is left of the answers, only a leap is more than chance."""
FAR_DB = 10.0
"""More than other rounding ever gained; what it takes is left for wider layers."""
METHODS: tuple[Literal["percentile", "mse", "entropy"], ...] = ("percentile", "mse", "entropy")


@dataclass(frozen=True)
class Try:
    """One row of the report."""

    name: str
    before: float
    after: float | None
    seconds: float
    kept: bool
    words: str = ""

    def note(self) -> str:
        gain = "failed" if self.after is None else f"{self.before:.1f} to {self.after:.1f} dB"
        kept = "kept" if self.kept else "not kept"
        said = f" ({self.words})" if self.words else ""
        return f"repair, {self.name}: {gain} in {self.seconds:.1f} s, {kept}{said}"


@dataclass
class Repair:
    """What the tries share: the best options so far, the goal, the time that is left."""

    quantizing: Quantizing
    bench: Bench
    options: QuantizeOptions
    path: Path
    """The file of the best options."""
    goal_db: float
    deadline: float
    best: Judged = NOTHING_KNOWN
    closed: int = 0
    tries: list[Try] = field(default_factory=list)

    @property
    def best_db(self) -> float:
        return self.best.sqnr_db

    @property
    def candidate(self) -> Path:
        return self.folder / "candidate.tflite"

    @property
    def folder(self) -> Path:
        """Where files lie while they are tried."""
        return self.path.parent

    @property
    def layers(self) -> int:
        return len(loading.load(self.quantizing.given.path).main.ops)

    @property
    def done(self) -> bool:
        return self.best_db >= self.goal_db or self.late

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def measure(self, options: QuantizeOptions, made: Path | None = None) -> Judged | None:
        """How near a file of these options comes; None where the tool can't make or run it."""
        try:
            path = made or self.quantizing.write(options, self.candidate, self.deadline)
            integer_check.check_ends(path, options.ends())
            return self.bench.judge(path)
        except Exception as error:  # The quantizer raises what it likes on what it lacks.
            log.warning("a try of the repair failed: %s: %s", type(error).__name__, error)
            return None

    def consider(self, name: str, options: QuantizeOptions, words: str = "") -> bool:
        """Keep the options if they are clearly nearer; a row in the report either way.

        Below the goal by what the goal is measured in, above it by what most samples say.
        """
        start, before = time.monotonic(), self.best
        found = self.measure(options)
        kept = False
        if found is not None and min(found.sqnr_db, before.sqnr_db) < self.goal_db:
            worth = WORTH_DB if found.sqnr_db > BROKEN_DB else LEAP_DB
            kept = found.sqnr_db > before.sqnr_db + worth
        elif found is not None:
            gain, error = found.gain_over(before)
            kept = gain > max(WORTH_DB, error)
            words = f"by sample {gain:+.1f} dB"
        if kept and found is not None:
            self.best, self.options = found, options
            self.closed = self.quantizing.closed
            self.candidate.replace(self.path)
        after = found.sqnr_db if found is not None else None
        self.tries.append(Try(name, before.sqnr_db, after, time.monotonic() - start, kept, words))
        return kept


def methods(repair: Repair) -> None:
    """Another calibration method: nothing is seen anew, ranges are cut otherwise."""
    if repair.options.method is not None:
        return  # It was asked for.
    repair.quantizing.observe(WITH_HISTOGRAMS)
    for method in METHODS:
        if not repair.late:
            repair.consider(f"method {method}", replace(repair.options, method=method))


def equalize(repair: Repair) -> None:
    """Channels of unlike ranges between two layers are made alike."""
    repair.consider("cross-layer equalization", replace(repair.options, equalize=True))


def split_concats(repair: Repair) -> None:
    """Layers that read parts of unlike ranges read each by a scale of its own."""
    out = repair.folder / "splittable.tflite"
    if concat_split.split(repair.quantizing.given.path, repair.quantizing.chosen.few, out):
        out.unlink()
        repair.consider("split concatenations", replace(repair.options, split_concats=True))


def correct_biases(repair: Repair) -> None:
    """What rounding the weights shifts on average is taken back."""
    repair.consider("bias correction", replace(repair.options, bias_correction=True))


def round_anew(repair: Repair) -> None:
    """Weights of small models are rounded for what their layer gives."""
    far = repair.goal_db - repair.best_db > FAR_DB
    if not far and rounding.small(repair.quantizing.given.path):
        repair.consider("adaptive rounding", replace(repair.options, adaptive_rounding=True))


def precision(repair: Repair) -> None:
    """int16 or float for the fewest layers that suffice."""
    from . import repair_precision

    repair_precision.widen(repair)


CHEAP: Sequence[Callable[[Repair], None]] = (
    methods,
    equalize,
    split_concats,
    correct_biases,
    round_anew,
)
"""They leave a model all int8, so they are worth trying on one that is merely not good."""
GOOD_DB = 40.0
MANY_LAYERS = 1500
"""Of an unrolled GRU of 3,400 operators every try takes a minute."""


def run(repair: Repair, always: bool) -> Repair:
    """The cheap tries on what isn't good, wider layers for what misses its goal."""
    found = repair.measure(repair.options, repair.path)
    if found is None:
        return repair
    repair.best, repair.closed = found, repair.quantizing.closed
    if not always and repair.best_db >= repair.goal_db and repair.layers > MANY_LAYERS:
        return repair
    for attempt in CHEAP:
        if (always or repair.best_db < max(GOOD_DB, repair.goal_db)) and not repair.late:
            attempt(repair)
    if always:
        repair.goal_db = max(repair.goal_db, repair.best_db + MARGIN_DB)
    if not repair.done and not repair.options.chip:  # A chip has no wider kernels.
        precision(repair)
    repair.quantizing.closed = repair.closed
    repair.candidate.unlink(missing_ok=True)
    return repair
