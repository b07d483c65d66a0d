"""`edgepipe.bundle`: models, samples, references and limits as one file for a board."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe import __version__, api, catalog, given_data, inputs, making, toolchain
from edgepipe.artifact import Format, Signature
from edgepipe.bundling import archive, contents, limits
from edgepipe.bundling.contents import Contents, Recorded
from edgepipe.bundling.members import Made
from edgepipe.bundling.sealing import Sealing
from edgepipe.dataset import DataSource
from edgepipe.errors import OptionError, PathError
from edgepipe.layers import request_for
from edgepipe.request import Request, open_model
from edgepipe.samples import SampleSource
from edgepipe.session import Session
from edgepipe.store import Store
from edgepipe.story import Listener, Silent

SCHEMA = 1
SAMPLES = 200
SUFFIX = ".edgebundle"


@dataclass(frozen=True)
class Bundle:
    """The file, and what its manifest says."""

    path: Path
    manifest: dict[str, Any]
    notes: tuple[str, ...] = ()


def bundle(
    out: str | Path,
    *,
    data: str | Path,
    path: str | Path | None = None,
    against: str | Path | None = None,
    samples: int = SAMPLES,
    raw: bool | None = None,
    gates: Sequence[str] | Mapping[str, Any] = (),
    sign: str | Path | None = None,
    encrypt: bool = False,
    key: str | Path | None = None,
    listener: Listener | None = None,
    **arguments: Any,
) -> Bundle:
    """Bundle a folder that `convert` wrote, or a model file and the one it was made of (`against`).

    `against` says where the source of such a folder is now, too. `data` is where samples are;
    `raw` True wants them as bytes with the preprocessing, False as the model sees them, None as
    bytes where that gives the same. Other arguments are convert's.
    """
    heard = listener or Silent()
    named = Path(out).expanduser()
    if samples < 1:
        raise OptionError(f"--samples takes a number from 1 on, received {samples}")
    said = limits.read(gates)
    sealing = Sealing.of(sign, encrypt, key)
    alone = against is not None and not (named / "report.json").is_file()
    found = [] if alone else contents.recorded(named)
    model = against or found[0].report["source"]["path"]
    request = _request(model, arguments, found)
    source = replace(request.data(data), limit=min(samples, request.limit or samples))
    target = _target(path, named)
    lacking = toolchain.missing(_toolchains(source, found, request))
    if lacking is not None:
        raise lacking
    with Store() as store, Session(store, heard, SampleSource(source)) as session:
        if found:
            what = contents.of_folders(session, found, request)
        else:
            what = _single(session, named, request)
        return _write(session, what, source, raw, said, sealing, target)


def _request(model: str | Path, arguments: Mapping[str, Any], found: Sequence[Recorded]) -> Request:
    """What is said of the data now goes over what was said of it at the conversion."""
    request = request_for(model, dict(arguments))
    for one in found:
        told = one.report.get("calibration") or one.report.get("samples") or {}
        if told.get("preprocessing") and not request.preprocessing:
            request = replace(request, preprocessing=told["preprocessing"])
    return request


def _toolchains(source: DataSource, found: Sequence[Recorded], request: Request) -> list[str]:
    formats = {Format(item["format"]) for one in found for item in one.report["outputs"]}
    formats &= set(contents.FORMS)
    if found:
        formats.add(Format(found[0].report["source"]["format"]))
    else:
        formats |= {api.format_of(request), Format.TFLITE}
    names = {catalog.runner(format).toolchain for format in formats}
    return sorted({*names, source.toolchain or "edge"})


def _target(path: str | Path | None, out: Path) -> Path:
    target = Path(path).expanduser() if path else Path(f"{out.resolve().stem}{SUFFIX}")
    if target.is_dir():
        raise PathError(f"{target} is a folder", hint="name the file: -o model.edgebundle.")
    if not target.absolute().parent.is_dir():
        raise PathError(f"{target.parent} is no folder", hint="make it, or name another with -o.")
    return target


def _single(session: Session, out: Path, request: Request) -> Contents:
    source = open_model(request, session.folder)
    described = making.describe(session, source)
    specs = [inputs.parse(text) for text in request.inputs]
    pinned = inputs.pin(described.signature, specs, described.facts.get("optional_inputs", ()))
    return contents.of_file(session, out, request, pinned)


def _unlike(answer: dict[str, Any], ends: Signature) -> str:
    """Why the labels are not the classes of the model's first output, if they aren't."""
    shape = ends.outputs[0].given_shape() or ()
    classes, names = shape[-1] if shape else None, answer["label_names"]
    highest = max(answer["labels"])
    if classes is None or classes < 2 or highest < 0:
        return ""
    if highest < classes and len(names) in (0, classes):
        return ""
    told = f"{len(names)} classes" if names else f"labels up to {highest}"
    return (
        f"no accuracy will be measured: the data has {told}, the model's output {classes}; give"
        " the model's classes in its order with --labels NAMES.txt"
    )


def _write(
    session: Session,
    found: Contents,
    data: DataSource,
    raw: bool | None,
    said: list[dict[str, Any]],
    sealing: Sealing,
    target: Path,
) -> Bundle:
    ends = found.source.ends()
    given_data.look(session, data, ends)
    session.listener.step_started("bundle", "samples", data.toolchain or "edge")
    folder = session.folder / f"bundle-{time.monotonic_ns()}"
    folder.mkdir()
    feeds = folder / "feeds.npz"
    answer = session.call(
        data.toolchain or "edge",
        "edgepipe.bundling.samples:write",
        session.log("samples"),
        source=data.to_json(),
        signature=ends.to_json(),
        path=str(feeds),
        raw=raw is not False,
    ).value
    notes = list(answer["problems"])
    if answer["left_out"]:
        notes.append(f"{answer['left_out']} samples were left out: together they are too large")
    if raw and not answer["raw"]:
        raise OptionError(
            "--raw: no bytes can be kept from which numpy makes the very same numbers",
            hint="leave it out; they are kept as the model sees them.",
        )
    made = Made(session, found, folder, feeds, answer, data.key(ends))
    models = [made.model(member, sealing) for member in found.members]
    count = len(answer["labels"])
    wrong = _unlike(answer, ends)
    labelled = any(label >= 0 for label in answer["labels"]) and not wrong
    notes += [wrong] if wrong else []
    needy = [limit["name"] for limit in said if limit["name"] in limits.OF_LABELS]
    if needy and not labelled:
        raise OptionError(
            f"--gate {needy[0]} needs labels, and {data.words()} has none"
            + (f" that fit: {wrong}" if wrong else ""),
            hint="name them with --labels.",
        )
    if labelled:
        made.labels()
    manifest = {
        "kind": "edgepipe bundle",
        "schema": SCHEMA,
        "edgepipe": __version__,
        "name": found.source.loading.factory or found.source.path.name,
        "source": {"format": found.source.format.value, "sha256": found.source.digest},
        "samples": {
            "count": count,
            "from": data.words(),
            "random": data.random,
            "raw": sorted(answer["raw"]),
            "labels": "samples/labels.npy" if labelled else None,
            "label_names": answer["label_names"],
        },
        "models": models,
        "not_included": found.absent,
        "limits": said,
        "encrypted": bool(sealing.key),
    }
    made.runner()
    written = archive.write(
        target, manifest, made.members, sealing.sign if sealing.signing else None
    )
    return Bundle(target, written, tuple(notes))
