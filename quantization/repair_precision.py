"""int16 activations, or float, for the fewest layers that bring a model to its goal.

A tensor's rounding hurts whoever reads it, so a layer is widened together with its readers.
1. Is int16 for all of them enough? Then the noisiest get it, as few as suffice: how many is
   foretold by the noise, which adds up in energy, and found by bisection.
2. If not, the beginning or the end of the model stays in float, as little as suffices; or, where
   that is most of it, the noisiest of what int16 leaves, found as in (1).
3. Then, kind by kind, what turns out not to be needed goes back.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgepipe.tflite import loading

from . import layer_errors, repair_regions
from .layer_errors import OwnErrors, Reference
from .paired_graphs import Pair, Single
from .repair import Repair, Try

if TYPE_CHECKING:
    from .tflite_quantize import QuantizeOptions

NO_INT16 = {"SQUARED_DIFFERENCE", "HARD_SWISH", "SPACE_TO_DEPTH"}
"""What ai-edge-quantizer 0.10 has for int8 only (its default_policy.py)."""
FINE = 40
"""The number of layers is found to a fortieth."""
DIAGNOSED = 2
"""Samples on which the noise is attributed; the result is judged on all."""
SECONDS_TO_FOLLOW = 15.0
LITTLE_DB = 1.0
"""Where int16 for all gains less, float starts from int8."""


@dataclass
class Levels:
    """Which layers are wider than int8, by the names of what they make."""

    wide: set[str] = field(default_factory=set)
    floating: set[str] = field(default_factory=set)

    def applied(self, options: QuantizeOptions) -> QuantizeOptions:
        """Weights rounded to the nearest: other rounding takes long, and gains whatever is wide."""
        return replace(
            options,
            adaptive_rounding=False,
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

    def all_wide(self) -> Levels:
        levels = Levels()
        for name in self.by_name:
            self._raise(name, levels, floating=False)
        return levels

    def widen(self, name: str, levels: Levels, floating: bool) -> None:
        """To int16 or float, and its readers at least to int16."""
        self._raise(name, levels, floating)
        for reader in self.readers.get(name, ()):
            self._raise(reader, levels, floating=False)

    def _raise(self, name: str, levels: Levels, floating: bool) -> None:
        if floating or self.by_name[name].name in NO_INT16:
            levels.floating.add(name)
        else:
            levels.wide.add(name)


def widen(repair: Repair) -> None:
    start, before = time.monotonic(), repair.best_db
    repair.quantizing.prepare(repair.options)  # The last try may have left another form.
    layers = Layers(repair)
    best = _fewest(repair, layers)
    if best is None:
        return
    options = best.applied(repair.options)
    wide, floating = len(options.int16_layers), len(options.float_layers)
    words = f"{wide} layers of {len(layers.by_name)} with int16 activations, {floating} in float"
    name = "int16 or float for some layers"
    rounded = replace(options, adaptive_rounding=repair.options.adaptive_rounding)
    if rounded == options or repair.late or not repair.consider(name, rounded, words):
        repair.consider(name, options, words)  # The time may have been too short to round.
    last_try = repair.tries[-1]
    repair.tries[-1] = replace(last_try, before=before, seconds=time.monotonic() - start)


def _ends_alone_cost_it(repair: Repair, layers: Layers) -> bool:
    """Whether all in float is not enough either; said in the report."""
    start = time.monotonic()
    floating = Levels(floating=set(layers.by_name))
    found = None if repair.late else repair.measure(floating.applied(repair.options))
    if found is None or found.sqnr_db >= repair.goal_db:
        return False
    words = f"{repair.options.ends()} inputs and outputs alone cost the rest: --io float32"
    seconds = time.monotonic() - start
    row = Try("float for all layers", repair.best_db, found.sqnr_db, seconds, False, words)
    repair.tries.append(row)
    return True


def _fewest(repair: Repair, layers: Layers) -> Levels | None:
    """The levels that reach the goal, or the best ones seen where the time was too short."""
    search = Search(repair, layers)
    originals: dict[str, Single] = {}
    wide = layers.all_wide()
    if search.look(wide):
        search.bisect(
            _attributed(repair, Levels().applied(repair.options), originals),
            Levels(),
            floating=False,
        )
    else:  # int16 for all is not enough, so some have to be in float.
        base = wide if search.best_db > repair.best_db + LITTLE_DB else Levels()
        if _ends_alone_cost_it(repair, layers):
            return None
        repair_regions.shortest(
            list(layers.by_name), lambda names: search.look(Levels(floating=names))
        )
        if search.reached is None and not repair.late:
            noise = _attributed(repair, base.applied(repair.options), originals)
            search.bisect(noise, base, floating=True)
    if search.reached is not None:
        search.narrow()
    return search.reached or search.best


@dataclass
class Search:
    """What was tried: the fewest wider layers that reach the goal, and the nearest to it."""

    repair: Repair
    layers: Layers
    reached: Levels | None = None
    best: Levels = field(default_factory=Levels)
    best_db: float = float("-inf")

    def look(self, levels: Levels) -> bool:
        """Whether these reach the goal; what comes too late doesn't."""
        if self.repair.late:
            return False
        found = self.repair.measure(levels.applied(self.repair.options))
        if found is None:
            return False
        if found.sqnr_db > self.best_db:
            self.best_db, self.best = found.sqnr_db, levels
        if found.sqnr_db >= self.repair.goal_db:
            self.reached = levels
            return True
        return False

    def bisect(self, noise: dict[str, float], base: Levels, floating: bool) -> None:
        """Widen the noisiest layers, as few as suffice."""
        known = [name for name in noise if name in self.layers.by_name]
        # What gives no numbers alone, or has no counterpart, may be what matters most.
        unknown = [name for name in self.layers.by_name if name not in noise]
        order = unknown + sorted(known, key=lambda name: -noise[name])

        def widened(count: int) -> Levels:
            levels = base.copy()
            for name in order[:count]:
                self.layers.widen(name, levels, floating)
            return levels

        enough: int | None = None
        short, count = 0, self._foretold([noise.get(name, 0.0) for name in order])
        while not self.repair.late:
            if self.look(widened(count)):
                enough = count
            else:
                short = count
            if enough is None and count == len(order):
                return
            if enough is None:
                count = min(2 * count, len(order))
            elif enough - short > max(1, len(order) // FINE):
                count = (enough + short) // 2
            else:
                return

    def _foretold(self, noise: list[float]) -> int:
        """How many of the noisiest have to be silent for the rest to be below the goal."""
        missing = self.repair.goal_db - self.repair.best_db
        allowed = sum(noise) * 10 ** (-missing / 10)
        left = sum(noise)
        for count, one in enumerate(noise):
            if left <= allowed:
                return max(1, count)
            left -= one
        return max(1, len(noise) - 1)

    def narrow(self) -> None:
        """Float to int16, then int16 to int8, one kind at a time."""
        assert self.reached is not None
        for kind in self._kinds(self.reached.floating):
            trial = self.reached.copy()
            back = self._of(kind, trial.floating)
            trial.floating -= back
            trial.wide = trial.wide - back if kind in NO_INT16 else trial.wide | back
            self.look(trial)
        for kind in self._kinds(self.reached.wide - self.reached.floating):
            trial = self.reached.copy()
            trial.wide -= self._of(kind, trial.wide)
            self.look(trial)

    def _kinds(self, names: set[str]) -> list[str]:
        counts = Counter(self.layers.by_name[name].name for name in names)
        return [kind for kind, _ in counts.most_common()]

    def _of(self, kind: str, names: set[str]) -> set[str]:
        return {name for name in names if self.layers.by_name[name].name == kind}


def _attributed(
    repair: Repair, options: QuantizeOptions, originals: dict[str, Single]
) -> dict[str, float]:
    """Tensor -> its noise at the outputs, relative to what they hold."""
    original = repair.quantizing.artifact.path
    path = repair.quantizing.write(options, repair.folder / "diagnosed.tflite")
    pair, reference = Pair(original, path), Reference(original)
    own = OwnErrors(pair, originals)
    samples = []
    for sample in repair.bench.samples[:DIAGNOSED]:
        reference.run(sample)
        samples.append((sample, own.add(reference)))
    names = [str(place) for place in range(repair.bench.outputs)]
    end = min(repair.deadline, time.monotonic() + SECONDS_TO_FOLLOW)
    layer_errors.follow(original, own.found, samples, names, end, in_groups=True)
    path.unlink()
    return {
        error.layer.makes: sum(one.noise / one.signal for one in error.final.values() if one.signal)
        for error in own.found
        if error.final
    }
