"""Which rewrites make a model legal for the Edge TPU, in order, and applying them to integers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepipe.errors import BrokenOutput, UnsupportedModel
from edgepipe.targets.edgetpu.compiled import is_compiled
from edgepipe.targets.edgetpu.legalise import float_ends
from edgepipe.tflite import edit, flatbuffer, loading, record, rewrite, saving
from edgepipe.tflite.graph import Model

_HERE = "edgepipe.targets.edgetpu.legalise"


def _ours(*names: str) -> tuple[str, ...]:
    return tuple(f"{_HERE}.{name}" for name in names)


FLOAT = (
    "static_shapes", "comparisons", "embeddings", "activations", *_ours("hard_swish", "gelu"),
    "softmax", "masks",
    *_ours("upsampling", "gathers", "single_pixels", "large_means", "pooled_transposes",
           "stacked_sums", "strided_slices"),
    "padding", *_ours("mirror_padding"), "division", "zero_products", "neutral",
    "constant_matmul", "depthwise", *_ours("grouped_convolutions", "line_dilations"),
    "normalization", "affine", "integer_forms", *_ours("dense_rows", "ranks"),
    "channel_constants", "transposes", "reshapes",
)  # fmt: skip
"""For a float model that is quantized afterwards: the calibration sees what activations are
rebuilt from, each part with a range of its own."""

INTEGER = (
    "static_shapes",
    *_ours("integer_constants", "zero_padding", "mirror_padding", "upsampling", "gathers",
           "single_pixels", "large_means", "pooled_transposes", "stacked_sums", "views",
           "strided_slices", "fused_activations", "grouped_convolutions", "line_dilations",
           "hard_swish", "gelu", "leaky_relu", "dense_rows", "ranks"),
    "transposes", "reshapes", *_ours("float_islands"),
)  # fmt: skip
"""For one of integers, whoever quantized it: the same to the bit, but for activations that are
rebuilt."""


def legalise(
    path: Path, out: Path, run: rewrite.Run | None = None, names: tuple[str, ...] = INTEGER
) -> list[str]:
    """Write an int8 or uint8 model to `out` so that the compiler reads and maps it, and say what
    was done. Called in a worker with LiteRT: each change is run before and after, on noise."""
    model = loading.load(path)
    if is_compiled(model.main):
        raise UnsupportedModel(
            f"{path.name} is compiled for the Edge TPU already",
            hint="give the int8 model that it was made of.",
        )
    runner = _without_customs(run or rewrite.run_litert)
    before = _versions(model)
    edit.name_apart(model)
    with tempfile.TemporaryDirectory(prefix="edgepipe-legalise-") as folder:
        start = Path(folder) / "start.tflite"
        model, notes = _without_float_ends(path, model, start, runner)
        plain = _without_customs(run or rewrite.run_plain)
        prover = rewrite.Prover(start, (), runner, plain)
        model, outcome = prover.apply(model, rewrite.load_rewrites(names))
        notes += outcome.notes
        _prove(prover, model, Path(folder), path)
    saving.save(model, out)
    after = _versions(loading.load(out))
    notes += _lowered(before, after)
    if not notes and before == after and not has_buffers_outside(path):
        shutil.copyfile(path, out)  # What is legal stays as it is, to the byte.
    return notes


def has_buffers_outside(path: Path) -> bool:
    """Whether weights lie behind the FlatBuffer, where readers of 2021 don't look."""
    reader = flatbuffer.Reader(path.read_bytes())
    buffers = record.decode(reader, reader.follow(0), "Model").buffers or ()
    return any(one.offset > 1 for one in buffers)


def _without_customs(run: rewrite.Run) -> rewrite.Run:
    """Custom operators stay on the CPU, and LiteRT doesn't know all of them: what they read is
    compared instead of what they give."""

    def run_visible(path: Path, samples: Sequence[rewrite.Feeds]) -> list[rewrite.Results]:
        model = loading.load(path)
        seen = visible(model)
        if seen is model:
            return run(path, samples)
        with tempfile.TemporaryDirectory(prefix="edgepipe-legalise-") as folder:
            shorter = Path(folder) / path.name
            saving.save(seen, shorter)
            return run(shorter, samples)

    return run_visible


def visible(model: Model) -> Model:
    """The model up to its custom operators; itself where it has none, or something reads them."""
    graph = model.main
    customs = graph.operators("CUSTOM")
    made = {id(one) for op in customs for one in op.outputs}
    others = [op for op in graph.ops if op.name != "CUSTOM"]
    if not customs or any(id(one) in made for op in others for one in op.reads()):
        return model
    ends = [one for op in customs for one in op.reads() if not one.is_constant]
    ends += [one for one in graph.outputs if id(one) not in made]
    return edit.extract(model, others, graph.inputs, list(dict.fromkeys(ends)))


def _prove(prover: rewrite.Prover, model: Model, folder: Path, path: Path) -> None:
    """Once more as a whole: versions and buffers change where no rewrite does."""
    try:
        held = prover.holds(model, folder)
    except rewrite.CannotRun as error:
        raise BrokenOutput(
            f"{path.name} doesn't run in LiteRT, so no change could be proven: {error.message}"
        ) from error
    if not held:
        raise BrokenOutput(f"{path.name} computes otherwise once it is written anew")


def _without_float_ends(
    path: Path, model: Model, start: Path, run: rewrite.Run
) -> tuple[Model, list[str]]:
    """With integers at the ends, where the same numbers come out; otherwise as it was."""
    changed = edit.copy(model)
    ends = float_ends.drop(changed)
    if ends:
        saving.save(changed, start)
        if _same_numbers(path, model, start, changed, run):
            names = ", ".join(one.name for one in ends)
            return changed, [f"float_ends: inputs and outputs are integers now ({names})"]
    saving.save(model, start)
    undone = ["float_ends: undone, the result changed"] if ends else []
    return model, undone


def _same_numbers(path: Path, model: Model, start: Path, changed: Model, run: rewrite.Run) -> bool:
    stored = rewrite.noise(changed)
    fed = [float_ends.reals(changed.main.inputs, feeds) for feeds in stored]
    given = [_by_number(model, changed, feeds) for feeds in fed]
    try:
        expected, received = run(path, given), run(start, stored)
    except BrokenOutput:
        return False
    for before, after in zip(expected, received, strict=True):
        meant = [
            float_ends.real(tensor, values)
            for tensor, values in zip(visible(changed).main.outputs, after, strict=True)
        ]
        wanted = [
            float_ends.real(tensor, values)
            for tensor, values in zip(visible(model).main.outputs, before, strict=True)
        ]
        pairs = zip(wanted, meant, strict=True)
        if not all(np.allclose(one, other, rtol=1e-6, atol=0) for one, other in pairs):
            return False
    return True


def _by_number(model: Model, changed: Model, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """Feeds by the names in the file as it was given; ends that stayed integers are fed those."""
    found = {}
    for old, new in zip(model.main.inputs, changed.main.inputs, strict=True):
        values = feeds[new.name]
        if old.dtype == new.dtype and old.quantization is not None and old.quantization.scales:
            scale, zero = old.quantization.spread(values.ndim)
            values = np.round(values / scale + zero)
        found[old.name] = values
    return found


def _versions(model: Model) -> dict[str, int]:
    """The highest version of each operator. Some quantizers write too low a one, and the compiler
    finds out when it runs the model."""
    found: dict[str, int] = {}
    for op in (op for graph in model.graphs for op in graph.ops):
        found[op.label] = max(op.version, found.get(op.label, 0))
    return found


def _lowered(before: dict[str, int], after: dict[str, int]) -> list[str]:
    changes = [
        f"{name} {before[name]} to {version}"
        for name, version in sorted(after.items())
        if version < before.get(name, 0)
    ]
    return [f"versions: lowered to what is needed ({', '.join(changes)})"] if changes else []


def run(path: str, out: str) -> list[str]:
    """For a worker: paths as text."""
    return legalise(Path(path), Path(out))
