"""What a bundle is made of: the models of a folder that `convert` wrote, or one model file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe import catalog, making
from edgepipe.artifact import IR, Artifact, Format, Signature
from edgepipe.errors import EdgepipeError, ModelNotFound, OptionError, TrustRequired
from edgepipe.request import Request, digest_model, open_model
from edgepipe.session import Session
from edgepipe.validation import matching

FORMS = {
    Format.TFLITE: "tflite",
    Format.TFLITE_QUANTIZED: "tflite",
    Format.EDGETPU: "edgetpu",
    Format.OPENVINO: "openvino",
    Format.OPENVINO_QUANTIZED: "openvino",
}
"""What a board's runtimes execute, in the words of the runner."""
ABSENT = {
    Format.ONNX: "a step on the way; no runtime of the board runs it",
    Format.ETHOSU: "an Ethos-U runs it in a microcontroller's program, not in Python",
}


@dataclass(frozen=True)
class Member:
    """One model of the bundle; `expected` is what its outputs on the host are taken from."""

    name: str
    artifact: Artifact
    precision: str
    expected: Artifact
    primary: bool = False

    @property
    def form(self) -> str:
        return FORMS[self.artifact.format]


@dataclass(frozen=True)
class Contents:
    """The source model, and its compiled forms."""

    source: Artifact
    members: tuple[Member, ...]
    absent: dict[str, str]


@dataclass(frozen=True)
class Recorded:
    """A folder that `convert` wrote, with its report; `name` is the target's where several are."""

    name: str
    folder: Path
    report: dict[str, Any]


def recorded(out: Path) -> list[Recorded]:
    """The folder's report; of several targets in one run, the reports of those that got done."""
    report = _read(out)
    if "targets" not in report:
        if not report.get("outputs"):
            raise OptionError(
                f"{out} is the result of a conversion that failed",
                hint="convert it again, then bundle it.",
            )
        return [Recorded("", out, report)]
    found = [
        Recorded(str(row["target"]), out / row["target"], _read(out / row["target"]))
        for row in report["targets"]
        if (out / row["target"] / "report.json").is_file()
    ]
    found = [one for one in found if one.report.get("outputs")]
    if not found:
        raise OptionError(
            f"{out}: the conversion failed for every target",
            hint="convert it again, then bundle it.",
        )
    sources = {one.report["source"]["sha256"] for one in found}
    if len(sources) > 1:
        raise OptionError(
            f"{out}: its targets were made of different models",
            hint="convert them again in one run, or bundle each alone.",
        )
    return found


def _read(out: Path) -> dict[str, Any]:
    try:
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        if not isinstance(report, dict) or "targets" not in report:
            _ = report["source"]["sha256"], report["request"], report["outputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelNotFound(
            f"{out} is no folder that `edgepipe convert` wrote: it has no report.json that can be"
            " read",
            hint="name such a folder, or a model file and, with --against, the model that it was"
            " made of.",
        ) from error
    return dict(report)


def of_folders(session: Session, found: Sequence[Recorded], request: Request) -> Contents:
    """By their reports; what was changed since then is refused. The same file is taken once."""
    members: dict[str, Member] = {}
    absent: dict[str, str] = {}
    for one in found:
        artifacts = {item["path"]: _artifact(one, item) for item in one.report["outputs"]}
        precision = str(one.report["request"].get("precision", catalog.FLOAT))
        for member in _members(artifacts, precision, len(found) == 1):
            named = replace(member, name=f"{one.name}/{member.name}".lstrip("/"))
            members.setdefault(member.artifact.digest, named)
        for name, artifact in artifacts.items():
            if artifact.format in ABSENT:
                absent[f"{one.name}/{name}".lstrip("/")] = ABSENT[artifact.format]
    if not members:
        raise OptionError(
            f"nothing in it runs on a board, of {', '.join(absent) or 'no files'}",
            hint="a board runs TFLite, Edge TPU and OpenVINO models.",
        )
    source = _source(session, found[0].report, request)
    return Contents(source, tuple(members.values()), absent)


def _artifact(one: Recorded, item: dict[str, Any]) -> Artifact:
    path, format = one.folder / item["path"], Format(item["format"])
    if not path.exists():
        raise ModelNotFound(f"{path} is gone, and the report beside it names it")
    if digest_model(path, format) != item["sha256"]:
        raise OptionError(
            f"{path} was changed after edgepipe wrote it: its proofs are of another file",
            hint="convert it again, or bundle the file alone with --against.",
        )
    return Artifact(path.absolute(), format, item["sha256"], Signature.from_json(item["signature"]))


def of_file(session: Session, path: Path, request: Request, pinned: Signature) -> Contents:
    """A single model, beside the one that it is compared `against`, whose ends are settled."""
    artifact = open_model(Request(model=path), session.folder)
    if artifact.format not in FORMS:
        words = ABSENT.get(artifact.format, "a board runs TFLite, Edge TPU and OpenVINO models")
        raise OptionError(
            f"{path.name} is {artifact.format}: {words}",
            hint="convert it first, then bundle the folder that convert wrote.",
        )
    if artifact.format is Format.EDGETPU:
        raise OptionError(
            f"{path.name} is compiled for the Edge TPU: the host can't say what it should give",
            hint="bundle the folder that `edgepipe convert --target edgetpu` wrote.",
        )
    source = open_model(request, session.folder).with_signature(pinned)
    described = making.describe(session, artifact).signature
    ends = matching.matched(described, pinned, (path.name, source.path.name))
    artifact = artifact.with_signature(ends)
    quantized = artifact.format in (Format.TFLITE_QUANTIZED, Format.OPENVINO_QUANTIZED)
    member = Member(path.name, artifact, "int8" if quantized else catalog.FLOAT, artifact, True)
    return Contents(source, (member,), {})


def _members(artifacts: dict[str, Artifact], precision: str, primary: bool) -> tuple[Member, ...]:
    """What a board can run; the last of them is what the others were made for."""
    found: list[Member] = []
    for name, artifact in artifacts.items():
        if artifact.format not in FORMS:
            continue
        plain = artifact.format in (Format.TFLITE, Format.OPENVINO)
        expected = artifact
        if artifact.format is Format.EDGETPU:
            before = [one for one in found if one.artifact.format is Format.TFLITE_QUANTIZED]
            if not before:
                raise OptionError(
                    f"{name} is there without the int8 model that it was compiled from",
                    hint="bundle the folder as convert wrote it.",
                )
            expected = before[-1].artifact
        found.append(Member(name, artifact, catalog.FLOAT if plain else precision, expected))
    if primary and found:
        found[-1] = replace(found[-1], primary=True)
    return tuple(found)


def _source(session: Session, report: dict[str, Any], request: Request) -> Artifact:
    told = report["source"]
    ends = Signature.from_json(told["signature"])
    said = report["request"]
    kept = {
        name: said[name]
        for name in ("weights", "model_args", "submodule", "custom_objects", "python_path")
        if said.get(name)
    }
    path = request.python_path or tuple(kept.get("python_path", ()))
    named = replace(request, **{**kept, "python_path": path})
    if (named.factory() or named.custom_objects) and not request.trust:
        raise TrustRequired(
            f"the model that this was made of is code ({named.model}), and running it runs that",
            hint="if you trust it, add --trust.",
        )
    try:
        source = open_model(named, session.folder)
    except EdgepipeError as error:
        raise ModelNotFound(
            f"the model that this was made of can't be read: {error.message}",
            hint="its outputs are the reference. Put it back, or name it with --against.",
        ) from error
    if source.digest != told["sha256"]:
        raise OptionError(
            f"{named.model} is not the model that was converted, or was changed since",
            hint="convert it again, then bundle it.",
        )
    return source.with_signature(ends)


def files(member: Member) -> dict[str, Path]:
    """The parts of a model as the runner asks for them."""
    from edgepipe.identify_openvino import files_of

    if member.artifact.format not in IR:
        return {"model": member.artifact.path}
    return dict(zip(("model", "weights"), files_of(member.artifact.path), strict=False))
