"""Repairs a quantized model that lost too much: tries, the cheapest first, of which the good stay.

Each try is judged on samples that were calibrated on, which the proof of the result never sees;
what helps there and doesn't hold on the held-out samples fails that proof.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgepipe.tflite import loading

from . import concat_split, integer_check
from .layer_errors import Noise
from .paired_graphs import dequantize, interpreter_of, quantize
from .quantizing import WITH_HISTOGRAMS, Quantizing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .tflite_quantize import QuantizeOptions

    Outputs = list[NDArray[Any]]

log = logging.getLogger(__name__)

MARGIN_DB = 1.0
"""Held-out samples may lose a little more than those that a repair was chosen on."""
WORTH_DB = 0.3
"""A gain below this is chance."""
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
class Bench:
    """The float model's outputs on some samples, and how near a quantized file comes to them."""

    samples: Sequence[Sequence[NDArray[Any]]]
    """Feeds in the layouts and the order of the file."""
    wanted: list[Outputs] = field(default_factory=list)

    @staticmethod
    def of(path: Path, samples: Sequence[Sequence[NDArray[Any]]]) -> Bench:
        bench = Bench(samples)
        bench.wanted = list(bench.run(path))
        return bench

    def run(self, path: Path) -> Iterator[Outputs]:
        interpreter = interpreter_of(path.read_bytes())
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        for sample in self.samples:
            for details, array in zip(inputs, sample, strict=True):
                interpreter.set_tensor(details["index"], quantize(array, details))
            interpreter.invoke()
            yield [dequantize(interpreter.get_tensor(one["index"]), one).copy() for one in outputs]

    def sqnr_db(self, path: Path) -> float:
        """Of the worst output, over all samples together, as the proof counts it."""
        noises = [Noise() for _ in self.wanted[0]]
        for wanted, received in zip(self.wanted, self.run(path), strict=True):
            for noise, a, b in zip(noises, wanted, received, strict=True):
                if a.dtype.kind == "f":
                    noise.add(a, b.reshape(a.shape))
        return min(noise.sqnr_db for noise in noises)


@dataclass
class Repair:
    """What the tries share: the best options so far, the goal, the time that is left."""

    quantizing: Quantizing
    bench: Bench
    options: QuantizeOptions
    folder: Path
    goal_db: float
    deadline: float
    best_db: float = 0.0
    tries: list[Try] = field(default_factory=list)

    @property
    def layers(self) -> int:
        return len(loading.load(self.quantizing.given.path).main.ops)

    @property
    def done(self) -> bool:
        return self.best_db >= self.goal_db or self.late

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline

    def measure(self, options: QuantizeOptions) -> float | None:
        """How near a file of these options comes; None where the tool can't make or run it."""
        path = self.folder / "candidate.tflite"
        try:
            self.quantizing.write(options, path)
            integer_check.check_ends(path, options.ends())
            return self.bench.sqnr_db(path)
        except Exception as error:  # The quantizer raises what it likes on what it lacks.
            log.warning("a try of the repair failed: %s: %s", type(error).__name__, error)
            return None
        finally:
            path.unlink(missing_ok=True)

    def consider(self, name: str, options: QuantizeOptions, words: str = "") -> bool:
        """Keep the options if they are clearly nearer; a row in the report either way."""
        start, before = time.monotonic(), self.best_db
        found = self.measure(options)
        kept = found is not None and found > before + WORTH_DB
        if kept and found is not None:
            self.best_db, self.options = found, options
        self.tries.append(Try(name, before, found, time.monotonic() - start, kept, words))
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
    if concat_split.split(repair.quantizing.given.path, repair.quantizing.few, out):
        out.unlink()
        repair.consider("split concatenations", replace(repair.options, split_concats=True))


def correct_biases(repair: Repair) -> None:
    """What rounding the weights shifts on average is taken back."""
    repair.consider("bias correction", replace(repair.options, bias_correction=True))


def precision(repair: Repair) -> None:
    """int16 or float for the fewest layers that suffice."""
    from . import repair_precision

    repair_precision.widen(repair)


CHEAP: Sequence[Callable[[Repair], None]] = (
    methods,
    equalize,
    split_concats,
    correct_biases,
)
"""They leave a model all int8, so they are worth trying on one that is merely not good."""
GOOD_DB = 40.0
MANY_LAYERS = 1500
"""Of an unrolled GRU of 3,400 operators every try takes a minute."""


def run(repair: Repair, always: bool) -> Repair:
    """The cheap tries on what isn't good, wider layers for what misses its goal."""
    found = repair.measure(repair.options)
    if found is None:
        return repair
    repair.best_db = found
    if not always and found >= repair.goal_db and repair.layers > MANY_LAYERS:
        return repair
    for attempt in CHEAP:
        if (always or repair.best_db < max(GOOD_DB, repair.goal_db)) and not repair.late:
            attempt(repair)
    if always:
        repair.goal_db = max(repair.goal_db, repair.best_db + MARGIN_DB)
    if not repair.done and not repair.options.chip:  # A chip has no wider kernels.
        precision(repair)
    return repair
