"""Which operators of a model a device of OpenVINO runs, with which kernels, and what helps."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe import making, toolchain
from edgepipe.artifact import IR, Format
from edgepipe.errors import LimitError, ModelNotFound, UnsupportedModel
from edgepipe.identify_openvino import graph_of
from edgepipe.request import Request, open_model
from edgepipe.runners.openvino_devices import check_name
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.targets.openvino.devices import TOOLCHAIN

READ = (*IR, Format.ONNX, Format.TFLITE)
RUNS, GONE, SLOW, FLOAT = "kernel", "vanishes", "reference code", "float, though quantized"
MISSING, UNREAD = "no kernel", "not read"
FIXES = {
    SLOW: "it works, in plain code that wasn't made for this processor. Where that takes time"
    " (`edgepipe openvino profile`), replace it by operators that the table shows with kernels.",
    FLOAT: "this processor's plugin has no integer kernel for it, so that it turns integers into"
    " floats and back. Compare both precisions with `edgepipe openvino profile`; leaving such ops"
    " in float (-O openvino_quantize.float_types={op}) saves the way there and back.",
    MISSING: "share the model out (--device HETERO:{device},CPU), run it on another device, or"
    " replace the operator in the model.",
    UNREAD: "where shapes are open, let `edgepipe convert MODEL --target openvino` fix them first,"
    " and ask of what that makes; else replace it in the model, export with another opset, or take"
    " another way: `edgepipe plan MODEL --target openvino` lists them.",
}
MOVERS = (
    "Broadcast", "Concat", "Convert", "Gather", "Pad", "Reshape", "Slice", "Split", "StridedSlice",
    "Tile", "Transpose", "VariadicSplit",
)  # fmt: skip
"""Of these plain code is as good as any: they copy and compute nothing."""


@dataclass(frozen=True)
class Verdict:
    """One operator: whether it runs, on which device, by which kernel and in which type."""

    index: int
    op: str
    name: str
    status: str
    device: str = ""
    kernel: str = ""
    precision: str = ""
    layer: str = ""
    """The layer that does its work, where that is another's."""
    reason: str = ""
    fix: str = ""

    @property
    def mapped(self) -> bool:
        return self.status not in (MISSING, UNREAD)


@dataclass(frozen=True)
class Preflight:
    """All operators in OpenVINO's order. Of a model that it can't read whole, those it can't."""

    openvino: str
    device: str
    verdicts: tuple[Verdict, ...]
    runs_on: tuple[str, ...] = ()
    """Where it would run: of AUTO, the device that it takes. Empty where that was not compiled."""
    lacking: dict[str, dict[str, int]] | None = None
    """Device -> types that it has no kernel for; None where the model could not be read."""
    unread_of: int = 0
    """How many operators the file has, where not all can be read."""
    refused: str = ""
    """What the device says of the whole model, where it has all operators and refuses it."""

    @property
    def mapped(self) -> int:
        if self.unread_of:
            return self.unread_of - sum(not one.mapped for one in self.verdicts)
        return sum(one.mapped for one in self.verdicts)

    @property
    def total(self) -> int:
        return self.unread_of or len(self.verdicts)

    @property
    def full(self) -> bool:
        return self.mapped == self.total and not self.refused

    @property
    def fell_back(self) -> str:
        """In words, where the model doesn't run where it was asked to, or not well."""
        told = []
        parts = {one.device for one in self.verdicts if one.device}
        head = self.device.partition(":")[0]
        if head == "HETERO" and len(parts) > 1:
            shares = {p: sum(one.device == p for one in self.verdicts) for p in sorted(parts)}
            told.append(", ".join(f"{count} ops on {name}" for name, count in shares.items()))
        if head == "AUTO":
            told += [
                f"{name} lacks {', '.join(types)}: AUTO falls back to {', '.join(self.runs_on)}"
                for name, types in (self.lacking or {}).items()
                if types and name not in self.runs_on
            ]
        for status, words in ((SLOW, "run in reference code"), (FLOAT, "compute in float")):
            count = sum(one.status == status for one in self.verdicts)
            told += [f"{count} ops {words}"] if count else []
        return "; ".join(told)

    def check(self, name: str = "the model") -> None:
        """Raise where not every operator has a kernel on the device."""
        if not self.full:
            why = self.refused or f"{self.total - self.mapped} of {self.total} ops have no kernel"
            raise LimitError(
                f"{name} can't run on {self.device}: {why}",
                hint="`edgepipe preflight` without --require-full-mapping shows each and its fix.",
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "openvino": self.openvino,
            "device": self.device,
            "runs_on": list(self.runs_on),
            "mapped": self.mapped,
            "unmapped": self.total - self.mapped,
            "refused": self.refused,
            "fell_back": self.fell_back,
            "lacking": self.lacking,
            "ops": [asdict(one) for one in self.verdicts],
        }


def preflight(path: str | Path, device: str = "") -> Preflight:
    """Ask OpenVINO (`query_model`), and its compiled model for the kernels; on a device here."""
    name = check_name(device)
    if not Path(path).expanduser().exists():
        raise ModelNotFound(f"no file {str(path)!r}", hint="give an .xml, .onnx or .tflite file.")
    artifact = open_model(Request(model=path), Path())
    if artifact.format not in READ:
        raise UnsupportedModel(
            f"OpenVINO's preflight takes its IR, ONNX and float TFLite, and {artifact.path.name}"
            f" is {artifact.format}",
            hint=f"edgepipe convert {artifact.path.name} --target openvino -o out, then"
            " edgepipe preflight out/openvino --target openvino",
        )
    lacking = toolchain.missing([TOOLCHAIN])
    if lacking is not None:
        raise lacking
    with Store() as store, Session(store) as session:
        file = graph_of(artifact.path) if artifact.format in IR else artifact.path
        # Nothing is kept: a device may come, go, or get another driver.
        answer = session.call(
            TOOLCHAIN,
            "edgepipe.runners.openvino_support:support",
            session.log("openvino-preflight"),
            path=str(file),
            device=name,
        )
        told = dict(answer.value)
        if "unread" in told:
            counts = making.describe(session, artifact).ops
            return _unread(told, counts)
    verdicts = verdicts_of(told)
    return Preflight(
        told["openvino"],
        told["device"],
        verdicts if told["compiled"] else tuple(map(_uncompiled, verdicts)),
        tuple(told["runs_on"]),
        told["lacking"],
        refused=told["refused"],
    )


def verdicts_of(told: dict[str, Any]) -> tuple[Verdict, ...]:
    """Of what the worker's job `support` found."""
    return tuple(_verdict(index, one, told["device"]) for index, one in enumerate(told["ops"]))


def _verdict(index: int, told: dict[str, Any], device: str) -> Verdict:
    kernel, precision = told.get("kernel", ""), told.get("precision", "")
    layer = told.get("layer", "")
    if not told["device"]:
        status, reason = MISSING, f"{device} has no kernel for it"
    elif not kernel:
        status, reason = GONE, ""
    elif kernel.startswith("ref") and told["op"] not in MOVERS:
        status, reason = SLOW, f"{told['device']} has no kernel of its own: {kernel}"
    elif told["quantized"] and precision.startswith(("f", "bf")):
        status, reason = FLOAT, f"it is given integers and computes in {precision}: {kernel}"
    else:
        status, reason = RUNS, ""
    fix = FIXES.get(status, "").replace("{op}", told["op"])
    return Verdict(
        index,
        told["op"],
        told["name"],
        status,
        told["device"],
        kernel,
        precision,
        "" if layer == told["name"] else layer,
        reason,
        fix.replace("{device}", device.rpartition(":")[2].partition(",")[0]),
    )


def _uncompiled(one: Verdict) -> Verdict:
    """Where the model was not compiled, nothing is known of kernels but that they are there."""
    return replace(one, status=RUNS) if one.status == GONE else one


def _unread(told: dict[str, Any], counts: dict[str, int]) -> Preflight:
    """Each of the file's operators of a type that OpenVINO's reader doesn't take."""
    verdicts: list[Verdict] = []
    for name, reason in told["unread"].items():
        domain, _, kind = name.rpartition(".")
        for _ in range(counts.get(f"{domain}:{kind}" if domain else kind, 1)):
            verdicts.append(
                Verdict(len(verdicts), kind, "", UNREAD, reason=reason, fix=FIXES[UNREAD])
            )
    total = max(sum(counts.values()), len(verdicts))
    return Preflight(told["openvino"], told["device"], tuple(verdicts), unread_of=total)
