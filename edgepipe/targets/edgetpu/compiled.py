"""A compiled model as a whole: its packages, what stayed on the CPU, which ops were mapped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepipe.errors import LimitError, UnsupportedModel
from edgepipe.targets.edgetpu import package
from edgepipe.targets.edgetpu.package import Package
from edgepipe.tflite import loading
from edgepipe.tflite.graph import Graph, Model, Op

CODE = "edgetpu-custom-op"
LABEL = f"CUSTOM:{CODE}"

CYCLES_ARE_NO_LATENCY = (
    "the compiler's cycles count computing only, no transfer and no waiting: they are no latency "
    "(0.92 ms for a MobileNetV2 at 500 MHz, where 2.6 ms were published)"
)


@dataclass(frozen=True)
class SourceOp:
    """An operator of the source model and whether the compiled file runs it on the chip."""

    index: int
    name: str
    output: str
    mapped: bool


@dataclass(frozen=True)
class Compiled:
    """`cpu` are the operators that were left, in order; `source` what a given source tells."""

    packages: tuple[Package, ...]
    cpu: tuple[str, ...]
    source: tuple[SourceOp, ...] = ()

    @property
    def runtime_version(self) -> int:
        return max(one.runtime_version for one in self.packages)

    @property
    def cached_bytes(self) -> int:
        return sum(one.cached_bytes for one in self.packages)

    @property
    def streamed_bytes(self) -> int:
        return sum(one.streamed_bytes for one in self.packages)

    @property
    def mapped(self) -> dict[str, int]:
        """Operators of the source that run on the chip, by name."""
        return dict(Counter(one.name for one in self.source if one.mapped))

    @property
    def unmapped(self) -> dict[str, int]:
        """Those on the CPU: of the source where it was given, else those of the file."""
        if self.source:
            return dict(Counter(one.name for one in self.source if not one.mapped))
        return dict(Counter(self.cpu))

    def check(
        self, max_streamed: int | None, full: bool, runtime: int | None, name: str = "the model"
    ) -> None:
        """Raise where it is worse than these limits; all that is worse is said at once."""
        worse = []
        if max_streamed is not None and self.streamed_bytes > max_streamed:
            worse.append(
                f"{self.streamed_bytes:,} bytes of parameters are streamed at every inference, "
                f"and at most {max_streamed:,} may be"
            )
        if full and self.unmapped:
            left = ", ".join(f"{count} {op}" for op, count in self.unmapped.items())
            worse.append(f"not all is mapped: {left} on the CPU")
        if runtime is not None and self.runtime_version > runtime:
            worse.append(
                f"it needs runtime version {self.runtime_version}, and the device has {runtime}"
            )
        if worse:
            raise LimitError(
                f"{name}: {'; '.join(worse)}",
                hint="`edgepipe preflight` says why an op isn't mapped; a smaller or cut model "
                "streams less; compile with `-m` for an older runtime.",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "runtime_version": self.runtime_version,
            "cached_bytes": self.cached_bytes,
            "streamed_bytes": self.streamed_bytes,
            "cpu_ops": dict(Counter(self.cpu)),
            "packages": [one.to_json() for one in self.packages],
            **({"mapped": self.mapped, "unmapped": self.unmapped} if self.source else {}),
            "cycles_note": CYCLES_ARE_NO_LATENCY,
        }


def is_compiled(graph: Graph) -> bool:
    return any(op.custom == CODE for op in graph.ops)


def read(path: str | Path, source: str | Path = "") -> Compiled:
    """Decode a compiled file; with the model that it was made of, tell which ops were mapped."""
    path = Path(path).expanduser()
    model = loading.load(path)
    found = of_model(model, path.name)
    if not str(source):
        return found
    original = loading.load(Path(source).expanduser())
    return Compiled(found.packages, found.cpu, tuple(_compare(model.main, original.main)))


def of_model(model: Model, name: str = "the model") -> Compiled:
    ops = [op for graph in model.graphs for op in graph.ops]
    packages = [
        one
        for op in ops
        if op.custom == CODE
        for one in package.of_operator(op.custom_options or b"")
    ]
    if not packages:
        raise UnsupportedModel(
            f"{name} holds no {CODE}: it isn't compiled for the Edge TPU",
            hint="give the file that edgetpu_compiler wrote, NAME_edgetpu.tflite.",
        )
    return Compiled(tuple(packages), tuple(op.label for op in ops if op.custom != CODE))


def _compare(compiled: Graph, source: Graph) -> list[SourceOp]:
    """An op that is still there, by its name and the tensors that it makes, runs on the CPU.

    The compiler keeps the names of tensors, which every pair of files seen confirms.
    """
    left = Counter(_makes(op) for op in compiled.ops if op.custom != CODE)
    found = []
    for index, op in enumerate(source.ops):
        made = _makes(op)
        here = left[made] > 0
        left[made] -= here
        output = op.outputs[0].name if op.outputs else ""
        found.append(SourceOp(index, op.label, output, not here))
    strange = [made[0] for made, count in left.items() if count > 0]
    # A file that is mapped in whole leaves no op to compare. Ends of a segment are inside.
    known = {tensor.name for tensor in source.all_tensors()}
    ends = (*compiled.inputs, *compiled.outputs)
    strange += [repr(one.name) for one in ends if one.name not in known]
    if strange:
        raise UnsupportedModel(
            f"the compiled file has {', '.join(sorted(set(strange))[:5])} that the source lacks: "
            "it was made of another model",
            hint="give the very file that was compiled with --source.",
        )
    return found


def _makes(op: Op) -> tuple[str, tuple[str, ...]]:
    return op.label, tuple(tensor.name for tensor in op.outputs)
