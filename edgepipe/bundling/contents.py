"""What a bundle is made of: the models of a folder that `convert` wrote, or one model file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe import catalog, making
from edgepipe.artifact import IR, Artifact, Format, Signature
from edgepipe.errors import EdgepipeError, ModelNotFound, OptionError, TrustRequired
from edgepipe.request import Request, digest_model, open_model
from edgepipe.session import Session

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
    """The source model, its compiled forms, and what was said of the data when it was converted."""

    source: Artifact
    members: tuple[Member, ...]
    absent: dict[str, str]
    preprocessing: dict[str, Any]
    report: dict[str, Any]


def recorded(out: Path) -> dict[str, Any]:
    """The report of a folder that `convert` wrote."""
    try:
        report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
        if report["status"] != "done" or not report["outputs"]:
            raise OptionError(
                f"{out} is the result of a conversion that failed",
                hint="convert it again, then bundle it.",
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelNotFound(
            f"{out} is no folder that `edgepipe convert` wrote: it has no report.json that can be"
            " read",
            hint="name such a folder, or a model file and, with --against, the model that it was"
            " made of.",
        ) from error
    return report


def of_folder(session: Session, out: Path, report: dict[str, Any], request: Request) -> Contents:
    """By its report; what was changed since then is refused."""
    artifacts = {}
    for item in report["outputs"]:
        path = out / item["path"]
        if not path.exists():
            raise ModelNotFound(f"{path} is gone, and the report of {out} names it")
        format = Format(item["format"])
        if digest_model(path, format) != item["sha256"]:
            raise OptionError(
                f"{path} was changed after edgepipe wrote it: its proofs are of another file",
                hint="convert it again, or bundle the file alone with --against.",
            )
        ends = Signature.from_json(item["signature"])
        artifacts[item["path"]] = Artifact(path.absolute(), format, item["sha256"], ends)
    precision = str(report["request"].get("precision", catalog.FLOAT))
    source = _source(session, report, request)
    return Contents(
        source,
        _members(artifacts, precision),
        {name: ABSENT[one.format] for name, one in artifacts.items() if one.format in ABSENT},
        dict((report.get("calibration") or report["samples"]).get("preprocessing", {})),
        report,
    )


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
    artifact = artifact.with_signature(making.describe(session, artifact).signature)
    source = open_model(request, session.folder).with_signature(pinned)
    _check_names(path, artifact.ends(), source.ends())
    quantized = artifact.format in (Format.TFLITE_QUANTIZED, Format.OPENVINO_QUANTIZED)
    member = Member(path.name, artifact, "int8" if quantized else catalog.FLOAT, artifact, True)
    return Contents(source, (member,), {}, {}, {})


def _members(artifacts: dict[str, Artifact], precision: str) -> tuple[Member, ...]:
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
    if not found:
        raise OptionError(
            "nothing in it runs on a board: "
            + ", ".join(str(a.format) for a in artifacts.values()),
            hint="a board runs TFLite, Edge TPU and OpenVINO models.",
        )
    return (*found[:-1], replace(found[-1], primary=True))


def _source(session: Session, report: dict[str, Any], request: Request) -> Artifact:
    told = report["source"]
    ends = Signature.from_json(told["signature"])
    said = report["request"]
    kept = {
        name: said[name]
        for name in ("weights", "model_args", "submodule", "custom_objects", "python_path")
        if said.get(name)
    }
    named = replace(
        request, model=told["path"], **{**kept, "python_path": tuple(kept.get("python_path", ()))}
    )
    if (named.factory() or named.custom_objects) and not request.trust:
        raise TrustRequired(
            f"the model that this was made of is code ({told['path']}), and running it runs that",
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
            f"{told['path']} was changed after it was converted",
            hint="convert it again, then bundle it.",
        )
    return source.with_signature(ends)


def _check_names(path: Path, found: Signature, wanted: Signature) -> None:
    for kind in ("inputs", "outputs"):
        here = [port.name for port in getattr(found, kind)]
        there = [port.name for port in getattr(wanted, kind)]
        if here != there:
            raise OptionError(
                f"{path.name} has the {kind} {here}, the model that it is compared with {there}",
                hint="bundle the folder that convert wrote, whose report knows which is which.",
            )


def files(member: Member) -> dict[str, Path]:
    """The parts of a model as the runner asks for them."""
    from edgepipe.identify_openvino import files_of

    if member.artifact.format not in IR:
        return {"model": member.artifact.path}
    return dict(zip(("model", "weights"), files_of(member.artifact.path), strict=False))
