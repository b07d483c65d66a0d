"""Which operators of a quantized model an Ethos-U runs: Vela is asked, and its words are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepipe import __version__, catalog, toolchain
from edgepipe.artifact import digest_file
from edgepipe.errors import LimitError, ModelNotFound
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.store import key as store_key
from edgepipe.targets.ethosu import fixes, quantized_ops
from edgepipe.targets.ethosu.figures import Figures
from edgepipe.targets.ethosu.vela_words import Fallback
from edgepipe.tflite import reader

STAGE = "ethosu_from_tflite"
ON_NPU, ON_CPU = "NPU", "CPU"


@dataclass(frozen=True)
class Verdict:
    """One operator's place, with Vela's reason and constraint where that is the CPU."""

    index: int
    op: str
    output: str
    place: str
    reason: str = ""
    constraint: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Preflight:
    """All operators in the model's order, and what Vela estimates of the whole."""

    verdicts: tuple[Verdict, ...]
    figures: Figures
    float_ops: int
    """Of those on the CPU: they compute in float, which no rewriting changes. What only turns
    floats into integers or back isn't counted."""

    @property
    def mapped(self) -> int:
        return sum(one.place == ON_NPU for one in self.verdicts)

    @property
    def full(self) -> bool:
        return self.mapped == len(self.verdicts)

    def check(self, name: str = "the model") -> None:
        """Raise where not every operator is on the NPU."""
        if not self.full:
            left = len(self.verdicts) - self.mapped
            raise LimitError(
                f"{name}: {left} of {len(self.verdicts)} ops would run on the CPU",
                hint="`edgepipe preflight` without --require-full-mapping shows each and its fix.",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "mapped": self.mapped,
            "cpu": len(self.verdicts) - self.mapped,
            "float_ops": self.float_ops,
            "vela": self.figures.to_json(),
            "ops": [asdict(one) for one in self.verdicts],
        }


def preflight(
    path: str | Path, target: str, options: Mapping[str, Mapping[str, Any]] | None = None
) -> Preflight:
    """Let Vela compile the model and say where its operators went; kept like any result."""
    path = Path(path).expanduser().absolute()
    if not path.is_file():
        raise ModelNotFound(f"no file {str(path)!r}", hint="give an int8 .tflite file.")
    model = reader.read(path)
    quantized_ops.check(model, path.name)
    lacking = toolchain.missing(["vela"])
    if lacking is not None:
        raise lacking
    found = _figures(path, target, (options or {}).get(STAGE, {}))
    left = {(one.op, one.output): one for one in found.fallbacks}
    ops = [
        (op.label, graph.tensors[op.outputs[0]].name if op.outputs else "")
        for graph in model.subgraphs
        for op in graph.operators
    ]
    verdicts = tuple(_verdict(index, *op, left.get(op)) for index, op in enumerate(ops))
    floats = {op for op in quantized_ops.float_ops(model) if op in left and op[0] not in fixes.ENDS}
    return Preflight(verdicts, found, len(floats))


def _verdict(index: int, op: str, output: str, left: Fallback | None) -> Verdict:
    if left is None:
        return Verdict(index, op, output, ON_NPU)
    reason = left.reason or fixes.UNTOLD
    return Verdict(index, op, output, ON_CPU, reason, left.constraint, fixes.fix_for(left))


def _figures(path: Path, target: str, said: Mapping[str, Any]) -> Figures:
    stage = catalog.stage(STAGE)
    settings = {**catalog.target(target).options[STAGE], **said}
    options = stage.options.from_settings(settings, STAGE)
    with Store() as store, Session(store) as session:
        key = store_key(
            {
                "step": "ethosu preflight",
                "edgepipe": __version__,
                "revision": stage.revision,
                "options": options.key(),
                "model": digest_file(path),
                "toolchain": session.interpreter(stage.toolchain).fingerprint,
            }
        )

        def ask(folder: Path) -> dict[str, Any]:
            answer = session.call(
                stage.toolchain,
                "edgepipe.converters.ethosu_from_tflite:foretell",
                session.log("preflight"),
                path=str(path),
                options=options.settings(),
                workdir=str(folder),
            )
            return dict(answer.value)

        entry = session.fetch(key, ask, f"preflight of {path.name}")
        return Figures.from_json(entry.facts)
