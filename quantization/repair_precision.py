"""int16 activations, or float, for the fewest layers that bring a model to its goal.

A tensor's rounding hurts whoever reads it, so a layer is widened together with its readers.
1. The layers that make most of the noise get int16; those that had it already, or have no such
   kernel, stay in float. Measured anew each time: what was widened shows what it had hidden.
2. Then, kind by kind, what turns out not to be needed goes back.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgepipe.tflite import loading

from . import layer_errors
from .layer_errors import OwnErrors, Reference
from .paired_graphs import Pair

if TYPE_CHECKING:
    from .repair import Repair
    from .tflite_quantize import QuantizeOptions

NO_INT16 = {"SQUARED_DIFFERENCE", "HARD_SWISH", "SPACE_TO_DEPTH"}
"""What ai-edge-quantizer 0.10 has for int8 only (its default_policy.py)."""
ROUNDS = 12
MOST_OF_THE_NOISE = 0.7
DIAGNOSED = 2
"""Samples on which the noise is attributed; the result is judged on all."""
SECONDS_TO_FOLLOW = 15.0


@dataclass
class Levels:
    """Which layers are wider than int8, by the names of what they make."""

    wide: set[str] = field(default_factory=set)
    floating: set[str] = field(default_factory=set)

    def applied(self, options: QuantizeOptions) -> QuantizeOptions:
        return replace(
            options,
            int16_layers=_patterns(self.wide - self.floating),
            float_layers=_patterns(self.floating),
        )

    def copy(self) -> Levels:
        return Levels(set(self.wide), set(self.floating))


def _patterns(names: Iterable[str]) -> tuple[str, ...]:
    """The quantizer looks for these in the names of an operator's outputs, each with a `;`."""
    return tuple(f"(^|;){re.escape(name)};" for name in sorted(names))


class Layers:
    """The operators of the float model by what they make, and who reads it."""

    def __init__(self, repair: Repair) -> None:
        graph = loading.load(repair.quantizing.artifact.path).main
        self.by_name = {op.outputs[0].name: op for op in graph.ops}
        self.readers: dict[str, list[str]] = {}
        for op in graph.ops:
            for tensor in op.reads():
                self.readers.setdefault(tensor.name, []).append(op.outputs[0].name)

    def raise_level(self, name: str, levels: Levels) -> bool:
        """One level up, its readers at least to int16; False where that changes nothing."""
        before = len(levels.wide) + len(levels.floating)
        self._raise(name, levels)
        for reader in self.readers.get(name, ()):
            if reader not in levels.wide:
                self._raise(reader, levels)
        return len(levels.wide) + len(levels.floating) > before

    def _raise(self, name: str, levels: Levels) -> None:
        if name not in levels.wide and self.by_name[name].name not in NO_INT16:
            levels.wide.add(name)
        else:
            levels.floating.add(name)


def widen(repair: Repair) -> None:
    start, before = time.monotonic(), repair.best_db
    repair.quantizing.prepare(repair.options)  # The last try may have left another form.
    layers, levels = Layers(repair), Levels()
    best: tuple[float, Levels] | None = None
    last: float | None = before
    for _ in range(ROUNDS):
        if last is None or last >= repair.goal_db or time.monotonic() > repair.deadline:
            break
        noise = _attributed(repair, levels.applied(repair.options))
        if not _raise(noise, layers, levels):
            break
        last = repair.measure(levels.applied(repair.options))
        if last is not None and (best is None or last > best[0]):
            best = last, levels.copy()
    if best is None:
        return
    if best[0] >= repair.goal_db:
        best = _narrowed(repair, layers, *best)
    options = best[1].applied(repair.options)
    wide, floating = len(options.int16_layers), len(options.float_layers)
    words = f"{wide} layers of {len(layers.by_name)} with int16 activations, {floating} in float"
    repair.consider("int16 or float for some layers", options, words)
    last_try = repair.tries[-1]
    repair.tries[-1] = replace(last_try, before=before, seconds=time.monotonic() - start)


def _raise(noise: dict[str, float], layers: Layers, levels: Levels) -> bool:
    """Widen those that make most of the noise; False where nothing is left to widen."""
    total, seen, changed = sum(noise.values()), 0.0, False
    for name in sorted(noise, key=lambda one: -noise[one]):
        if seen > MOST_OF_THE_NOISE * total:
            break
        seen += noise[name]
        if name in layers.by_name and name not in levels.floating:
            changed |= layers.raise_level(name, levels)
    return changed


def _attributed(repair: Repair, options: QuantizeOptions) -> dict[str, float]:
    """Tensor -> its noise at the outputs, relative to what they hold."""
    original = repair.quantizing.artifact.path
    path = repair.quantizing.write(options, repair.folder / "diagnosed.tflite")
    pair, reference = Pair(original, path), Reference(original)
    own = OwnErrors(pair)
    samples = []
    for sample in repair.bench.samples[:DIAGNOSED]:
        reference.run(sample)
        samples.append((sample, own.add(reference)))
    names = [str(place) for place in range(len(repair.bench.wanted[0]))]
    end = min(repair.deadline, time.monotonic() + SECONDS_TO_FOLLOW)
    layer_errors.follow(original, own.found, samples, names, end)
    path.unlink()
    return {
        error.layer.makes: sum(one.noise / one.signal for one in error.final.values() if one.signal)
        for error in own.found
        if error.final
    }


def _narrowed(
    repair: Repair, layers: Layers, reached: float, levels: Levels
) -> tuple[float, Levels]:
    """Without what isn't needed: float to int16, then int16 to int8, one kind at a time."""

    def kinds(names: set[str]) -> list[str]:
        counts = Counter(layers.by_name[name].name for name in names)
        return [kind for kind, _ in counts.most_common()]

    def of(kind: str, names: set[str]) -> set[str]:
        return {name for name in names if layers.by_name[name].name == kind}

    for kind in kinds(levels.floating):
        trial = levels.copy()
        trial.floating -= of(kind, trial.floating)
        if kind in NO_INT16:
            trial.wide -= of(kind, trial.wide)
        reached, levels = _if_enough(repair, trial, reached, levels)
    for kind in kinds(levels.wide - levels.floating):
        trial = levels.copy()
        trial.wide -= of(kind, trial.wide)
        reached, levels = _if_enough(repair, trial, reached, levels)
    return reached, levels


def _if_enough(
    repair: Repair, trial: Levels, reached: float, levels: Levels
) -> tuple[float, Levels]:
    if time.monotonic() > repair.deadline:
        return reached, levels
    found = repair.measure(trial.applied(repair.options))
    if found is not None and found >= repair.goal_db:
        return found, trial
    return reached, levels
