"""What the Edge TPU compiler will do with a model, op by op, before it is asked."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepipe.errors import LimitError, UnknownFormat, UnsupportedModel
from edgepipe.targets.edgetpu import op_releases, remedies, rules
from edgepipe.targets.edgetpu.compiled import is_compiled
from edgepipe.targets.edgetpu.memory import Forecast, forecast
from edgepipe.targets.edgetpu.rules import Rule
from edgepipe.tflite import loading
from edgepipe.tflite.graph import Graph, Model, Op

MAPPED = "Mapped to Edge TPU"
SECOND = "More than one subgraph is not supported"


@dataclass(frozen=True)
class Verdict:
    """One operator's fate, in the compiler's words; what it rests on, and what would help."""

    index: int
    op: str
    output: str
    mapped: bool
    status: str
    rule: str
    source: str
    confidence: str
    fix: str


@dataclass(frozen=True)
class Preflight:
    """`refused` are reasons for which the compiler won't read the model at all."""

    verdicts: tuple[Verdict, ...]
    refused: tuple[str, ...]
    warnings: tuple[str, ...]
    memory: Forecast

    @property
    def mapped(self) -> int:
        return sum(one.mapped for one in self.verdicts)

    @property
    def full(self) -> bool:
        return not self.refused and self.mapped == len(self.verdicts)

    def table(self) -> dict[tuple[str, str], int]:
        """How many of an operator have a status, as the compiler's own table."""
        return dict(Counter((one.op, one.status) for one in self.verdicts))

    def check(self, name: str = "the model") -> None:
        """Raise where not every operator is mapped."""
        if self.full:
            return
        left = len(self.verdicts) - self.mapped
        why = self.refused or (f"{left} of {len(self.verdicts)} ops would run on the CPU",)
        raise LimitError(
            f"{name}: {'; '.join(why)}",
            hint="`edgepipe preflight` without --require-full-mapping shows each op and its fix.",
        )

    def summary(self) -> dict[str, Any]:
        """The table, without each operator."""
        rows = [
            {"op": op, "status": status, "count": count}
            for (op, status), count in self.table().items()
        ]
        return {
            "mapped": self.mapped,
            "cpu": len(self.verdicts) - self.mapped,
            "refused": list(self.refused),
            "warnings": list(self.warnings),
            "table": rows,
            "memory": self.memory.to_json(),
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "mapped": self.mapped,
            "cpu": len(self.verdicts) - self.mapped,
            "refused": list(self.refused),
            "warnings": list(self.warnings),
            "memory": self.memory.to_json(),
            "ops": [asdict(one) for one in self.verdicts],
        }


def preflight(path: str | Path, multiple: bool = False) -> Preflight:
    """Foretell the mapping of a quantized TFLite file; `multiple` as with the compiler's `-a`."""
    path = Path(path).expanduser()
    return of_model(loading.load(path), multiple, path.name)


def of_model(model: Model, multiple: bool = False, name: str = "the model") -> Preflight:
    graph = model.main
    if is_compiled(graph):
        raise UnsupportedModel(
            f"{name} is compiled for the Edge TPU already",
            hint="give the int8 model that it was made of, or use `edgepipe inspect`.",
        )
    try:
        return _foretold(model, multiple)
    except (IndexError, ValueError, UnsupportedModel) as error:
        raise UnknownFormat(f"{name} is damaged: {error}") from error


def _foretold(model: Model, multiple: bool) -> Preflight:
    graph = model.main
    found = [rules.broken(op) for op in graph.ops]
    refused = _refused(model)
    chosen = _first_subgraph(graph, found) if not multiple else [one is None for one in found]
    if refused:
        chosen = [False] * len(chosen)
    verdicts = [
        _verdict(index, op, rule, on_chip)
        for index, (op, rule, on_chip) in enumerate(zip(graph.ops, found, chosen, strict=True))
    ]
    # A model that is refused takes nothing; what it would take is of use all the same.
    mapped = [op for op, rule in zip(graph.ops, found, strict=True) if rule is None]
    if not refused:
        mapped = [op for op, on_chip in zip(graph.ops, chosen, strict=True) if on_chip]
    memory = forecast(graph, mapped)
    return Preflight(tuple(verdicts), tuple(refused), tuple(_warnings(graph)), memory)


def _refused(model: Model) -> list[str]:
    reasons = []
    if len(model.graphs) > 1:
        reasons.append(f"the model has {len(model.graphs)} subgraphs, and one can be compiled")
    if not any(one.dtype in rules.EIGHT_BITS for op in model.main.ops for one in rules.data(op)):
        reasons.append("Model not quantized: nothing in it is int8 or uint8")
    codes = {(op.name, op.version) for op in model.main.ops}
    for name, version in sorted(codes):
        if not op_releases.readable(name, version):
            reasons.append(f"Didn't find op for builtin opcode '{name}' version '{version}'")
    return reasons


def _warnings(graph: Graph) -> list[str]:
    codes = sorted({(op.name, op.version) for op in graph.ops})
    return [
        f"{name} version {version} needs TensorFlow Lite 2.4 to 2.6; the newest that the compiler"
        " was seen to read is 2.3's"
        for name, version in codes
        if op_releases.readable(name, version) and not op_releases.certain(name, version)
    ]


def _first_subgraph(graph: Graph, found: list[Rule | None]) -> list[bool]:
    """Compilation stops at the first operator that can't be mapped behind one that is mapped.

    What comes before the first mapped one may stay on the CPU: a QUANTIZE of float inputs does in
    real files. Behind a break, all that depends on it stays there as well.
    """
    begun: set[int] = set()
    ended: set[int] = set()
    chosen = []
    for op, rule in zip(graph.ops, found, strict=True):
        inputs = [id(one) for one in op.reads()]
        outputs = {id(one) for one in op.outputs}
        after_break = any(one in ended for one in inputs)
        on_chip = rule is None and not after_break
        if on_chip:
            begun |= outputs
        elif after_break or any(one in begun for one in inputs):
            ended |= outputs
        chosen.append(on_chip)
    return chosen


def _verdict(index: int, op: Op, rule: Rule | None, on_chip: bool) -> Verdict:
    output = op.outputs[0].name if op.outputs else ""
    if rule is not None:
        facts = (rule.status, rule.words, rule.source, rule.confidence, remedies.fix_of(op, rule))
    elif on_chip:
        seen = op.name in rules.SEEN_MAPPED
        facts = (MAPPED, "", rules.CORAL, rules.SEEN if seen else rules.DOCUMENTED, "")
    else:
        facts = (
            SECOND, "An operator before it stays on the CPU, or the whole model is refused.",
            "DeepLab v3 in a real file", rules.SEEN,
            "mend the operator before it, or compile with -a",
        )  # fmt: skip
    return Verdict(index, op.label, output, on_chip, *facts)
