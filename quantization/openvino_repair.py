"""Leaves in float those layers of an int8 IR that add the most noise, as few as the limit takes."""

from __future__ import annotations

import importlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgepipe.errors import StageFailed

Feeds = Mapping[str, Any]
Make = Callable[[tuple[str, ...], str, str], Any]
"""Names of ops that stay in float, the preset and the ranges -> the quantized model."""
MARGIN_DB = 1.0
"""Held-out samples may lose a little more than those that a repair was chosen on."""
PLENTY_DB = 15.0
"""Below this much over the limit other ranges are tried: that costs a calibration, and nothing
later; a mean of extremes may be far off for the few samples that lie beyond it."""
SURE_DB = 0.1
"""Over so many samples it holds with this, too."""
WORTH_DB = 0.3
"""A gain below this is chance."""
LOOKED_INTO = 16
"""Samples on which each op's noise is measured."""
JUDGED = 512
"""Samples, from all over the data, on which a result is judged. On 64 a transformer was at 35 dB
that clipped a few of the others, and at 19.7 dB held out."""
MOST_BYTES = 32 << 20
"""Of what is judged on, for both time and memory: 53 images of 224x224."""
WRONG_DB = 6.0
"""What a kernel may differ from the same computation elsewhere; a rounding is far less."""
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
APART = {**EXACT, "SNIPPETS_MODE": "DISABLE"}
PRODUCTS = (
    "MatMul",
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "GroupConvolutionBackpropData",
)
MOST = 2
"""One over the share of layers that may become float: with more of them, int8 is no gain."""


@dataclass(frozen=True)
class Feeding:
    """Samples as they are fed, read while they are iterated over."""

    data: Iterable[Any]
    available: int
    fed: Callable[[Any], Feeds]

    def spread(self, count: int) -> list[Feeds]:
        """So many from all over the data, which may be in an order."""
        step = max(1, self.available // count)
        return [self.fed(one) for one in itertools.islice(self.data, 0, step * count, step)]


@dataclass
class OpenvinoRepair:
    """The tries so far; `best` is the model to save."""

    given: Any
    best: Any
    make: Make
    feeding: Feeding
    limit_db: float
    deadline: float
    preset: str
    ranges: str = "auto"
    spared: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)

    def run(self) -> None:
        self.feeds = self.feeding.spread(min(JUDGED, max(LOOKED_INTO, MOST_BYTES // self._bytes())))
        self.goal_db = self.limit_db + MARGIN_DB
        self.wanted = list(_run(self.given, self.feeds))
        self.best_db = self._judge(self.best)
        if self.best_db >= self.limit_db + PLENTY_DB:
            return
        if (
            self.best_db < self.goal_db
            and self._apart_db() > self.best_db + WRONG_DB
            and self._in_time()
        ):
            self._part_products()
        if self.ranges == "auto" and self._in_time():
            self._try_widest()
        if self.best_db < self.goal_db and self.preset == "auto" and self._in_time():
            self._try_mixed()
        # From here on it costs time at every inference, so a small margin is enough.
        if self.best_db < self.limit_db + SURE_DB and self._in_time():
            self._spare_all_but_products()
        if self.best_db < self.limit_db + SURE_DB and self._in_time():
            self._spare_layers()
        if self.best_db < self.limit_db:
            self._check_plugin()

    def _apart_db(self) -> float:
        """With the kernels switched off that the CPU plugin puts together of several ops."""
        try:
            return _decibels(self.wanted, _run(self.best, self.feeds, how=APART))
        except RuntimeError:  # A plugin without such kernels doesn't know the word.
            return self.best_db

    def _part_products(self) -> None:
        """Quantized products without a bias, with ReLUs between, on two-dimensional data come out
        as zeros where the CPU plugin makes one kernel of them (OpenVINO 2026.4.1, MLP snippets);
        not so where no two of them follow each other."""
        start, before = time.monotonic(), self.best_db
        nodes = self.given.get_ordered_ops()
        products = [one.get_friendly_name() for one in nodes if one.get_type_name() == "MatMul"]
        names = products[1::2]
        if names:
            self._spare(names)
            words = f"every other of {len(products)} products in float, for the plugin is wrong"
            self._note(words, before, self.best_db, start, bool(self.spared))

    def _check_plugin(self) -> None:
        apart = self._apart_db()
        if apart > self.best_db + WRONG_DB:
            raise StageFailed(
                f"OpenVINO's CPU plugin computes the int8 model wrongly: {self.best_db:.1f} dB from"
                f" float, and {apart:.1f} dB with the kernels that it puts together switched off"
                " (SNIPPETS_MODE)",
                hint="take a batch of 1 (--input), --precision int8-weights or float16; or give the"
                " products of the model a bias.",
            )

    def _in_time(self) -> bool:
        return time.monotonic() < self.deadline

    def _bytes(self) -> int:
        """Of one sample: what is fed and what comes out."""
        ends = [*self.given.inputs, *self.given.outputs]
        return sum(math.prod(end.shape) * end.element_type.size for end in ends) or 1

    def _judge(self, model: Any) -> float:
        return _decibels(self.wanted, _run(model, self.feeds))

    def _try_widest(self) -> None:
        """By itself NNCF takes the mean of the samples' extremes. Of a vector of a few numbers
        those lie far apart, and everything beyond their mean is cut off."""
        start, before = time.monotonic(), self.best_db
        made = self.make(self.spared, self.preset, "widest")
        db = self._judge(made)
        kept = db >= before + WORTH_DB
        if kept:
            self.best, self.best_db, self.ranges = made, db, "widest"
        self._note("the widest ranges seen", before, db, start, kept)

    def _try_mixed(self) -> None:
        start, before = time.monotonic(), self.best_db
        made = self.make(self.spared, "mixed", self.ranges)
        db = self._judge(made)
        kept = db >= before + WORTH_DB
        if kept:
            self.best, self.best_db, self.preset = made, db, "mixed"
        self._note("asymmetric activations", before, db, start, kept)

    def _spare_all_but_products(self) -> None:
        """Sums and normalisations cost little time in float, and carry the outliers of all."""
        start, before = time.monotonic(), self.best_db
        kinds = {node.get_friendly_name(): node.get_type_name() for node in self.given.get_ops()}
        ranked = noisiest(self.given, self.best, self.feeds[:LOOKED_INTO])
        names = [name for name in ranked if kinds[name] not in PRODUCTS]
        if not names or len(names) == len(ranked):
            return
        self._spare((*self.spared, *(name for name in names if name not in self.spared)))
        words = f"{len(names)} ops that are no products in float"
        self._note(words, before, self.best_db, start, bool(self.spared))

    def _spare_layers(self) -> None:
        """Twice as many until it is enough, then halfway back: each try calibrates anew."""
        start, before = time.monotonic(), self.best_db
        base = self.spared
        found = noisiest(self.given, self.best, self.feeds[:LOOKED_INTO])
        ranked = [name for name in found if name not in base]
        most = len(ranked) // MOST
        failed, enough, count = 0, 0, max(1, len(ranked) // 32)
        while not enough and failed < most and self._in_time():
            count = min(count, most)
            if self._spare((*base, *ranked[:count])):
                enough = count
            else:
                failed, count = count, 2 * count
        while enough - failed > 1 and self._in_time():
            count = (failed + enough) // 2
            if self._spare((*base, *ranked[:count])):
                enough = count
            else:
                failed = count
        more = len(self.spared) - len(base)
        words = f"the noisiest {more or failed} of {len(ranked)} quantized ops in float"
        self._note(words, before, self.best_db, start, more > 0)

    def _spare(self, names: Sequence[str]) -> bool:
        """Whether that is enough. What is enough with fewer ops is better than what was before."""
        made = self.make(tuple(names), self.preset, self.ranges)
        db = self._judge(made)
        if db >= self.goal_db or db >= self.best_db + WORTH_DB:
            self.best, self.best_db, self.spared = made, db, tuple(names)
        return db >= self.goal_db

    def _note(self, name: str, before: float, after: float, start: float, kept: bool) -> None:
        self.notes.append(
            f"repair, {name}: {before:.1f} to {after:.1f} dB in {time.monotonic() - start:.1f} s,"
            f" {'kept' if kept else 'not kept'}"
        )


def decibels(given: Any, other: Any, feeds: Sequence[Feeds]) -> float:
    """How near the other model's worst output is to that of the given one."""
    return _decibels(_run(given, feeds), _run(other, feeds))


def noisiest(given: Any, quantized: Any, feeds: Sequence[Feeds]) -> list[str]:
    """Names of the ops that take quantized values, by what each adds to the noise it is given."""
    known = {
        node.get_friendly_name()
        for node in given.get_ordered_ops()
        if node.get_type_name() not in ("Constant", "Result")
        and node.get_output_size() == 1
        and node.get_output_element_type(0).is_real()
    }
    sources: dict[str, list[str]] = {}
    for node in quantized.get_ordered_ops():
        name = node.get_friendly_name()
        makers = [value.get_node() for value in node.input_values()]
        quantizers = [maker for maker in makers if maker.get_type_name() == "FakeQuantize"]
        if name in known and quantizers and node.get_type_name() != "FakeQuantize":
            before = [each.input_value(0).get_node().get_friendly_name() for each in quantizers]
            sources[name] = [each for each in before if each in known]
    watched = sorted({*sources, *(each for names in sources.values() for each in names)})
    noise = dict.fromkeys(watched, 0.0)
    signal = dict.fromkeys(watched, 1e-30)
    pairs = (_run(model, feeds, watched) for model in (given, quantized))
    for wanted, received in zip(*pairs, strict=True):
        for name, a, b in zip(watched, wanted[-len(watched) :], received[-len(watched) :],
                              strict=True):  # fmt: skip
            signal[name] += float(np.sum(np.square(a, dtype=np.float64)))
            noise[name] += float(np.sum(np.square(a.astype(np.float64) - b)))
    share = {name: noise[name] / signal[name] for name in watched}
    added = {
        name: share[name] - max((share[each] for each in names), default=0.0)
        for name, names in sources.items()
    }
    return sorted(added, key=lambda name: -added[name])


def _decibels(all_wanted: Iterable[Any], all_received: Iterable[Any]) -> float:
    """Of the worst output, over all samples together."""
    noise: dict[int, float] = {}
    signal: dict[int, float] = {}
    for wanted, received in zip(all_wanted, all_received, strict=True):
        for place, (a, b) in enumerate(zip(wanted, received, strict=True)):
            if a.dtype.kind == "f":
                lost = a.astype(np.float64) - b
                signal[place] = signal.get(place, 0.0) + float(
                    np.sum(np.square(a, dtype=np.float64))
                )
                noise[place] = noise.get(place, 0.0) + float(np.sum(np.square(lost)))
    decibels = [
        10 * math.log10((signal[place] + 1e-30) / (noise[place] + 1e-30))
        for place in signal
        if signal[place] > 0
    ]
    return min(decibels, default=300.0)


def _run(
    model: Any,
    feeds: Iterable[Feeds],
    watched: Sequence[str] = (),
    how: Mapping[str, str] = EXACT,
) -> Any:
    """The outputs of each sample, and behind them what the watched ops give."""
    openvino = importlib.import_module("openvino")
    if watched:
        model = model.clone()
        by_name = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
        # By `add_outputs` an op that makes an output already would get no second one.
        more = [openvino.opset13.result(by_name[name].output(0)) for name in watched]
        model.add_results(more)
    compiled = openvino.Core().compile_model(model, "CPU", dict(how))
    request = compiled.create_infer_request()
    for each in feeds:
        request.infer(dict(each))
        yield [tensor.data.copy() for tensor in request.output_tensors]
