"""Which layers of the int8 model cost the accuracy, and why: `edgepipe.diagnose`."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe import (
    __version__,
    api,
    delivery,
    given_data,
    making,
    manifest,
    model_explorer,
    toolchain,
)
from edgepipe.artifact import Artifact, Format, Signature, digest_file
from edgepipe.dataset import DataSource
from edgepipe.errors import OptionError
from edgepipe.layers import request_for
from edgepipe.request import Request, open_model
from edgepipe.session import Session
from edgepipe.shown import Shown
from edgepipe.store import Store
from edgepipe.store import key as store_key
from edgepipe.story import Listener, Silent

TOOLCHAIN = "edge"
REVISION = 3
"""Raised when the same models and samples would give other findings."""
DIAGNOSIS, OVERLAY = "diagnosis.json", "model_explorer.json"
FORGIVING_DB = 0.0
"""A bad model is what one wants to diagnose, so no limit stops it on the way."""


@dataclass(frozen=True)
class Diagnosis(Shown):
    """Findings, the costliest layer first; the files are there where a folder was named."""

    report: dict[str, Any]
    files: dict[str, Path]

    @property
    def layers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.report["layers"]
        return found


def diagnose(
    model: str | Path,
    *,
    int8: str | Path | None = None,
    out: str | Path | None = None,
    count: int = 8,
    seconds: float = 90.0,
    listener: Listener | None = None,
    **arguments: Any,
) -> Diagnosis:
    """Quantize the model and measure every layer; or a float TFLite and the `int8` one made of it.

    `count` samples are used, of --calibration's held-out part or of --samples; layers are
    followed to the outputs for `seconds` at most. Other arguments are those of `convert`.
    """
    request = request_for(model, {"precision": "int8", **arguments})
    if not (request.calibration or request.samples):
        raise OptionError(
            "diagnose needs data to run both models on",
            hint="--calibration DATA (or --samples DATA beside --int8).",
        )
    if out is not None:
        delivery.check_folder(Path(out))
    lacking = toolchain.missing([TOOLCHAIN])
    if lacking is not None:
        raise lacking
    heard = listener or Silent()
    with tempfile.TemporaryDirectory() as scratch:
        if int8 is not None:
            before, after = Path(model), Path(int8)
            ends: tuple[Signature | None, Signature | None] = (None, None)
        else:
            before, after, ends = _quantized(model, Path(scratch), heard, arguments)
        report = _measured(request, (before, after), ends, (count, seconds), heard)
    report["model"] = {"float": str(model), "int8": str(int8) if int8 else "made of it"}
    return Diagnosis(report, _written(report, out))


def _quantized(
    model: str | Path, folder: Path, listener: Listener, arguments: dict[str, Any]
) -> tuple[Path, Path, tuple[Signature, Signature]]:
    """The float TFLite and the int8 one, made as `convert` makes them."""
    said = {"precision": "int8", "min_sqnr": FORGIVING_DB, "repair": "off", **arguments}
    result = api.convert(model, out=folder, listener=listener, **said)
    written = {item["path"]: item["signature"] for item in result.report["outputs"]}
    before, after = folder / "model_float32.tflite", result.model
    ends = (Signature.from_json(written[before.name]), Signature.from_json(written[after.name]))
    return before, after, ends


def _measured(
    request: Request,
    paths: tuple[Path, Path],
    ends: tuple[Signature | None, Signature | None],
    budget: tuple[int, float],
    listener: Listener,
) -> dict[str, Any]:
    count, seconds = budget
    with Store() as store, Session(store, listener) as session:
        pair = [_artifact(session, path, known) for path, known in zip(paths, ends, strict=True)]
        data = _held_out(request)
        facts = {
            "step": "diagnosis",
            "edgepipe": __version__,
            "revision": REVISION,
            "models": [artifact.digest for artifact in pair],
            "data": data.key(pair[0].ends()),
            "seconds": seconds,
            "count": count,
            "toolchain": session.interpreter(TOOLCHAIN).fingerprint,
        }

        def measure(folder: Path) -> dict[str, Any]:
            from edgepipe import tensors

            listener.step_started("diagnose", "measure layers", TOOLCHAIN)
            feeds = folder / "feeds.npz"
            tensors.write(feeds, given_data.samples(session, data, pair[0].ends(), count))
            answer = session.call(
                TOOLCHAIN,
                "edgepipe.quantization.diagnosis:run",
                session.log("diagnose"),
                original=pair[0].to_json(),
                quantized=pair[1].to_json(),
                feeds=str(feeds),
                seconds=seconds,
            )
            feeds.unlink()
            return {"found": answer.value, "seconds": answer.seconds}

        entry = session.fetch(store_key(facts), measure, f"diagnosis of {paths[1].name}")
        found = dict(entry.facts["found"])
        return {
            "schema": 1,
            "edgepipe": __version__,
            "data": data.words(),
            "seconds": round(entry.facts["seconds"], 2),
            "digests": facts["models"],
            **found,
        }


def _held_out(request: Request) -> DataSource:
    """Samples that the calibration did not see, where it was made here."""
    learning = request.learning()
    return learning.proof if learning is not None else request.data_sources()["samples"]


def _artifact(session: Session, path: Path, ends: Signature | None) -> Artifact:
    artifact = open_model(Request(model=path), session.folder)
    if not str(artifact.format).startswith(str(Format.TFLITE)):
        raise OptionError(
            f"{path.name} is {artifact.format}, expected a TFLite file",
            hint="--int8 goes with the float TFLite that it was made of.",
        )
    if ends is None:
        ends = making.describe(session, artifact).signature
    return replace(artifact, signature=ends, digest=digest_file(path))


def _written(report: dict[str, Any], out: str | Path | None) -> dict[str, Path]:
    if out is None:
        return {}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files = {DIAGNOSIS: report, OVERLAY: model_explorer.overlay(report["layers"])}
    for name, content in files.items():
        partial = folder / f".{name}.partial"
        partial.write_text(json.dumps(content, indent=2) + "\n")
        partial.replace(folder / name)
    delivery.page_again(folder)
    manifest.add(folder, [*files, delivery.PAGE])
    return {name: folder / name for name in files}
