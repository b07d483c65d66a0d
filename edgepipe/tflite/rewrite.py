"""Rewrites of TFLite graphs, each proven by running the model before and after it.

A rewrite is a small class, one a file in `edgepipe/tflite/rewrites/`: where its pattern begins
(`places`) and what it puts there (`rewrite`). `prepare` applies them to a float model before it
is quantized. What changes the result is undone: all places of a rewrite are tried together,
then by halves, until those that hold are found.
"""

from __future__ import annotations

import importlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgepipe.errors import BrokenOutput, InputError
from edgepipe.tflite import edit, loading, saving
from edgepipe.tflite.graph import Graph, Model, Op

Feeds = Mapping[str, NDArray[Any]]
Results = list[NDArray[Any]]
Run = Callable[[Path, Sequence[Feeds]], list[Results]]
"""Runs a file on samples: for each, its outputs in the file's order."""

FLOAT_LIMIT = 80.0
"""Decibels between the float results before and after: a changed order of additions costs 120 to
140, a wrong constant leaves less than 40."""

PERFECT = 200.0
"""Stands for no error at all."""

ROUNDS = 8
"""Times that a rewrite is applied to what it left: transposes move past one operator each time."""

TRIES = 40
"""Candidates of one rewrite that are run; what is left after them stays as it was."""

REWRITES = (
    "static_shapes", "comparisons", "embeddings", "activations", "softmax", "masks", "padding",
    "division", "zero_products", "neutral", "constant_matmul", "depthwise", "normalization",
    "affine", "integer_forms", "channel_constants", "transposes", "reshapes",
)  # fmt: skip
"""Modules in `edgepipe.tflite.rewrites`, or with dots, in the order in which they are applied."""


class Rewrite(ABC):
    """One pattern and what replaces it. The class docstring says why."""

    name: ClassVar[str]
    says: ClassVar[str]
    """What was done, for the note that the user reads."""
    limit_db: ClassVar[float] = FLOAT_LIMIT
    """Less where a function is only approached; what is lost is said in the note."""
    integer_db: ClassVar[float | None] = None
    """The same of a graph of integers, where it can't be the same to the bit."""

    @abstractmethod
    def places(self, graph: Graph) -> Iterator[Op]:
        """The operators where the pattern is, told by the one whose result stays."""

    @abstractmethod
    def rewrite(self, model: Model, graph: Graph, op: Op) -> bool:
        """Change the graph there; False where it isn't possible after all."""


class CannotRun(BrokenOutput):
    """The model as it was given doesn't run: there is nothing to compare with."""


@dataclass
class Outcome:
    """What became of a model: how often each rewrite held, and where it was undone."""

    applied: dict[str, int] = field(default_factory=dict)
    undone: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load_rewrites(names: Sequence[str] = REWRITES) -> list[Rewrite]:
    found: list[Rewrite] = []
    for name in names:
        dotted = name if "." in name else f"edgepipe.tflite.rewrites.{name}"
        module = importlib.import_module(dotted)
        found.append(module.REWRITE)
    return found


def prepare(
    path: Path,
    out: Path,
    samples: Sequence[Feeds] = (),
    names: Sequence[str] = REWRITES,
    run: Run | None = None,
) -> list[str]:
    """Write a float model to `out` so that it quantizes well; what was done, as notes.

    Called in a worker with LiteRT. Without samples, noise is used. A model that doesn't run is
    passed on as it is.
    """
    model = loading.load(path)
    # ai-edge-quantizer keeps what it learns by name, and stops where two tensors share one.
    edit.name_apart(model)
    prover = Prover(path, samples, run or run_litert)
    model, outcome = prover.apply(model, load_rewrites(names))
    saving.save(model, out)
    return outcome.notes


class Prover:
    """Runs candidates on the same samples as the original, and compares."""

    def __init__(
        self, path: Path, samples: Sequence[Feeds], run: Run, plain: Run | None = None
    ) -> None:
        self.path, self.run, self.plain = path, run, plain
        self.held: Model | None = None
        """The candidate that held last; none yet: the original."""
        self.samples = list(samples) or noise(loading.load(path))
        self.expected: list[Results] | None = None
        self.nearest = 0.0
        """Decibels of the candidate that held last."""

    def apply(self, model: Model, rewrites: Sequence[Rewrite]) -> tuple[Model, Outcome]:
        """The model with all rewrites that hold. The given one is left alone."""
        outcome, given = Outcome(), model
        with tempfile.TemporaryDirectory(prefix="edgepipe-rewrite-") as folder:
            try:
                for rewrite in rewrites:
                    model = self.one(model, rewrite, outcome, Path(folder))
            except CannotRun as error:
                return given, Outcome(notes=[f"not rewritten: {error.message}"])
        return model, outcome

    def one(self, model: Model, rewrite: Rewrite, outcome: Outcome, folder: Path) -> Model:
        """As long as one place gives way to the next; what failed once isn't tried again."""
        held, failed, tries, lost = 0, set[str](), 0, PERFECT
        for _ in range(ROUNDS):
            found = [op.outputs[0].name for graph in model.graphs for op in rewrite.places(graph)]
            todo = [[name for name in dict.fromkeys(found) if name not in failed]]
            before = held
            while todo:
                names = todo.pop(0)
                candidate, count = changed(model, rewrite, set(names))
                if not count:
                    continue
                tries += 1
                if tries > TRIES:
                    failed.update(names)
                elif self.holds(candidate, folder, rewrite):
                    model, held, lost = candidate, held + count, min(lost, self.nearest)
                elif len(names) > 1:
                    middle = len(names) // 2
                    todo[:0] = [names[:middle], names[middle:]]
                else:
                    failed.update(names)
            if held == before:
                break
        if held:
            outcome.applied[rewrite.name] = held
            near = f", {lost:.0f} dB at the outputs" if lost < FLOAT_LIMIT else ""
            outcome.notes.append(f"{rewrite.name}: {rewrite.says} ({held}x{near})")
        if failed:
            outcome.undone[rewrite.name] = len(failed)
            outcome.notes.append(f"{rewrite.name}: undone {len(failed)}x, the result changed")
        return model

    def holds(self, model: Model, folder: Path, rewrite: Rewrite | None = None) -> bool:
        """Whether it gives what the original gave. What is near enough for a rewrite that only
        approaches a function is what the next one is measured by."""
        expected = self.wanted()
        candidate = folder / "candidate.tflite"
        saving.save(model, candidate)
        try:
            received = self.run(candidate, self.samples)
        except BrokenOutput:
            return False
        pairs = list(zip(expected, received, strict=True))
        if all(same(before, after) for before, after in pairs):
            self.nearest = PERFECT
        elif self.same_plainly(candidate, folder):
            self.nearest, self.expected = PERFECT, received
        elif rewrite is None or not all(
            near(before, after, rewrite.limit_db, rewrite.integer_db) for before, after in pairs
        ):
            return False
        else:
            self.nearest = min(decibels(before, after) for before, after in pairs)
            self.expected = received
        self.held = model
        return True

    def same_plainly(self, candidate: Path, folder: Path) -> bool:
        """Whether the plain kernels give the same. XNNPACK takes no operator of open shape and
        rounds others its own way: once a shape is pinned it may be one step away."""
        if self.plain is None:
            return False
        last = self.path
        if self.held is not None:
            last = folder / "held.tflite"
            saving.save(self.held, last)
        try:
            pair = [self.plain(path, self.samples) for path in (last, candidate)]
        except BrokenOutput:
            return False
        return all(same(before, after) for before, after in zip(*pair, strict=True))

    def wanted(self) -> list[Results]:
        if self.expected is None:
            try:
                self.expected = self.run(self.path, self.samples)
            except BrokenOutput as error:
                raise CannotRun(error.message) from error
        return self.expected


def changed(model: Model, rewrite: Rewrite, names: set[str]) -> tuple[Model, int]:
    """A copy with the rewrite at the operators that make these tensors, and how many there were."""
    candidate, count = edit.copy(model), 0
    for graph in candidate.graphs:
        before = count
        for op in list(rewrite.places(graph)):
            still_there = any(op is one for one in graph.ops)
            if still_there and op.outputs[0].name in names:
                count += rewrite.rewrite(candidate, graph, op)
        if count > before:
            edit.sort(graph)
            edit.prune(graph)
    if count:
        edit.name_apart(candidate)
    return candidate, count


def same(before: Results, after: Results) -> bool:
    """To the bit where integers are, within `FLOAT_LIMIT` where floats are."""
    return near(before, after, FLOAT_LIMIT, None)


def near(before: Results, after: Results, float_db: float, integer_db: float | None) -> bool:
    """The same, or where a limit says less, as near as that; integers also within one step."""
    if len(before) != len(after):
        return False
    for one, other in zip(before, after, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if one.dtype.kind != "f":
            if integer_db is None or one.dtype.itemsize > 2:
                if not np.array_equal(one, other):
                    return False
            elif _noise(one, other) > one.size and decibels([one], [other]) < integer_db:
                return False
            continue
        finite = np.array_equal(np.isfinite(one), np.isfinite(other))
        if not finite or (_noise(one, other) > 1e-24 and decibels([one], [other]) < float_db):
            return False
    return True


def decibels(before: Results, after: Results) -> float:
    """Signal to noise of the worst result; integers are taken from their mean, since what they
    stand for is not known here."""
    found = [PERFECT]
    for one, other in zip(before, after, strict=True):
        noise, wide = _noise(one, other), one[np.isfinite(one)].astype(np.float64)
        if one.dtype.kind != "f" and wide.size:
            wide = wide - wide.mean()
        signal = float(np.sum(wide**2))
        if noise:
            found.append(10 * float(np.log10(max(signal, 1e-30) / noise)))
    return min(found)


def _noise(before: NDArray[Any], after: NDArray[Any]) -> float:
    finite = np.isfinite(before) & np.isfinite(after)
    wide = before[finite].astype(np.float64)
    return float(np.sum((wide - after[finite]) ** 2))


def noise(model: Model, count: int = 2) -> list[Feeds]:
    """Samples where none are given: noise of two scales, small integers, no signal of anything."""
    random = np.random.default_rng(0)
    samples: list[Feeds] = []
    for scale in (1.0, 4.0)[:count]:
        feeds = {}
        for tensor in model.main.inputs:
            if tensor.dtype in ("int8", "uint8") and tensor.quantization is not None:
                low = -128 if tensor.dtype == "int8" else 0
                values: NDArray[Any] = random.integers(low, low + 256, tensor.shape)
            elif tensor.dtype.startswith(("float", "bfloat")):
                values = scale * random.standard_normal(tensor.shape)
            else:
                values = random.integers(0, 2 if tensor.dtype == "bool" else 4, tensor.shape)
            feeds[tensor.name] = values.astype(tensor.dtype)
        samples.append(feeds)
    return samples


def run_plain(path: Path, samples: Sequence[Feeds]) -> list[Results]:
    """The same on LiteRT's own kernels, without XNNPACK."""
    return run_litert(path, samples, "BUILTIN_WITHOUT_DEFAULT_DELEGATES")


def run_litert(path: Path, samples: Sequence[Feeds], kernels: str = "AUTO") -> list[Results]:
    """The outputs in LiteRT; feeds are named after the tensors or the signature's ends."""
    litert = importlib.import_module("ai_edge_litert.interpreter")
    model = loading.load(path)
    try:
        interpreter: Any = litert.Interpreter(
            model_path=str(path), experimental_op_resolver_type=litert.OpResolverType[kernels]
        )
        inputs = interpreter.get_input_details()
        results: list[Results] = []
        for feeds in samples:
            given = [_feed(model, feeds, number) for number in range(len(inputs))]
            for one, values in zip(inputs, given, strict=True):
                if tuple(one["shape"]) != values.shape:
                    interpreter.resize_tensor_input(one["index"], values.shape)
            interpreter.allocate_tensors()
            for one, values in zip(inputs, given, strict=True):
                interpreter.set_tensor(one["index"], values.astype(one["dtype"], copy=False))
            interpreter.invoke()
            outputs = interpreter.get_output_details()
            results.append([interpreter.get_tensor(one["index"]).copy() for one in outputs])
    except (RuntimeError, ValueError) as error:
        raise BrokenOutput(f"LiteRT can't run {path.name}: {error}") from error
    return results


def _feed(model: Model, feeds: Feeds, number: int) -> NDArray[Any]:
    tensor = model.main.inputs[number]
    names = [tensor.name]
    for signature in model.signatures:
        names += [name for name, one in signature.inputs if one is tensor]
    for name in names:
        if name in feeds:
            return np.asarray(feeds[name])
    raise InputError(
        f"no sample for the input {names[-1]!r}; received {', '.join(sorted(feeds)) or 'none'}"
    )
