"""The kept steps of a run: describe an artifact, make one by a stage, run one, prove an arrow.

Each is fetched from the store under the hash of everything that decides it, or made in a
worker. The checks that a stage's author can't be trusted with stand here: that the output
exists, has the format, and keeps the names and order of inputs and outputs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe import __version__, catalog, given_data, summary
from edgepipe.artifact import COMPILED, IR, Artifact, Port, Signature
from edgepipe.errors import BrokenOutput, EdgepipeError, StageFailed
from edgepipe.identify import identify
from edgepipe.learning import data_of
from edgepipe.proof import REVISION as PROOF_REVISION
from edgepipe.proof import Proof
from edgepipe.request import digest_model
from edgepipe.runner import Description
from edgepipe.session import Session
from edgepipe.stage import Product, ProgramStage, Stage
from edgepipe.store import key as store_key

Ahead = Callable[[], None]
"""Called when something must be made, to start the workers that will be needed next."""

REMEMBERED = (StageFailed, BrokenOutput)
"""Failures that the same inputs give again; a crash or a time-out may not come back."""

PASSING = ("ImportError", "ModuleNotFoundError", "OSError", "PermissionError", "FileNotFoundError")
"""What a tool raises over the state of the machine, not over the model."""


def nothing_ahead() -> None:
    """There is no next worker to start."""


@dataclass(frozen=True)
class Made:
    """A stage's result, with what it took when it was made: now or in an earlier run."""

    artifact: Artifact
    product: Product
    kept: bool
    seconds: float
    peak: int
    log: str
    summary: dict[str, Any]


def describe(session: Session, artifact: Artifact, ahead: Ahead = nothing_ahead) -> Description:
    """Names, shapes, ops and parameters of an artifact, as its own framework reads it."""
    runner = catalog.runner(artifact.format)
    if runner.describes_in_core:
        return runner.describe(artifact)
    interpreter = session.interpreter(runner.toolchain)
    parts = {
        "step": "describe",
        "edgepipe": __version__,
        "artifact": _identity(artifact),
        # Without consent the model is read again, and refused again.
        "trust": artifact.loading.trust,
        "toolchain": interpreter.fingerprint,
    }

    def make(folder: Path) -> dict[str, Any]:
        ahead()
        log = session.log(f"describe-{artifact.format}")
        answer = session.call(
            runner.toolchain, "edgepipe.work:describe", log, artifact=artifact.to_json()
        )
        return dict(answer.value)

    entry = session.fetch(store_key(parts), make, f"description of {artifact.path.name}")
    return Description.from_json(entry.facts)


def make(session: Session, stage: Stage, artifact: Artifact, ahead: Ahead) -> Made:
    """What the stage makes of the artifact, kept or made now. Raises why it can't."""
    options = session.options(stage)
    stage.check(artifact, options)
    if isinstance(stage, ProgramStage):
        tools = stage.identity(options)
    else:
        tools = session.interpreter(stage.toolchain).fingerprint
    data, data_key = data_of(session.learning, stage.learns(options), artifact)
    key = store_key(
        {
            "step": "stage",
            "edgepipe": __version__,
            "stage": stage.name,
            "revision": stage.revision,
            "options": options.key(),
            "artifact": _identity(artifact),
            "toolchain": tools,
            "data": data_key,
        }
    )

    def run(folder: Path) -> dict[str, Any]:
        _recall(session, key)
        ahead()
        log = session.log(stage.name)
        try:
            if isinstance(stage, ProgramStage):
                return _drive(stage, artifact, options, folder, log)
            settings = {
                "options": options.settings(),
                "data": given_data.readable(session, stage, data, artifact),
            }
            return _run(session, stage, artifact, settings, folder, log)
        except REMEMBERED as error:
            if error.details.get("type") not in PASSING:
                _remember(session, key, error)
            raise

    entry = session.fetch(key, run, f"{stage.name} of {artifact.path.name}")
    product = Product.from_json(entry.facts["product"])
    made = Artifact(
        entry.path / product.path, stage.target, entry.facts["digest"], product.signature
    )
    return Made(
        made,
        product,
        entry.kept,
        entry.facts["seconds"],
        entry.facts["peak"],
        entry.facts["log"],
        entry.facts["summary"],
    )


def _run(
    session: Session,
    stage: Stage,
    artifact: Artifact,
    settings: dict[str, Any],
    folder: Path,
    log: Path,
) -> dict[str, Any]:
    answer = session.call(
        stage.toolchain,
        "edgepipe.work:run_stage",
        log,
        stage=catalog.STAGES[stage.name],
        artifact=artifact.to_json(),
        workdir=str(folder),
        **settings,
    )
    product = Product.from_json(answer.value)
    return _facts(stage, artifact, product, folder, log, answer.seconds, answer.peak)


def _drive(
    stage: ProgramStage, artifact: Artifact, options: Any, folder: Path, log: Path
) -> dict[str, Any]:
    start = time.perf_counter()
    product = stage.drive(artifact, options, folder, log)
    return _facts(stage, artifact, product, folder, log, time.perf_counter() - start, 0)


def _facts(
    stage: Stage,
    artifact: Artifact,
    product: Product,
    folder: Path,
    log: Path,
    seconds: float,
    peak: int,
) -> dict[str, Any]:
    """What is kept of a result, once it was seen to be what was promised."""
    _check_promise(stage, artifact, product, folder, log)
    relative = replace(product, path=product.path.relative_to(folder))
    return {
        "product": relative.to_json(),
        "digest": digest_model(product.path, stage.target),
        "seconds": seconds,
        "peak": peak,
        "log": str(log),
        "summary": {**summary.of(product.path, stage.target), **product.facts},
    }


def _check_promise(
    stage: Stage, artifact: Artifact, product: Product, folder: Path, log: Path
) -> None:
    if not product.path.exists():
        raise BrokenOutput(f"it ended well but wrote no {product.path.name}", log=str(log))
    if folder not in product.path.parents:
        raise BrokenOutput(f"it wrote to {product.path}, outside its folder", log=str(log))
    try:
        found = identify(product.path)
    except EdgepipeError as error:
        raise BrokenOutput(f"its output is damaged: {error.message}", log=str(log)) from error
    if found is not stage.target:
        raise BrokenOutput(f"it promised {stage.target} and wrote {found}", log=str(log))
    _check_names("inputs", artifact.ends().inputs, product.signature.inputs, log)
    if artifact.ends().outputs:
        _check_names("outputs", artifact.ends().outputs, product.signature.outputs, log)


def _check_names(kind: str, before: tuple[Port, ...], after: tuple[Port, ...], log: Path) -> None:
    expected, received = [port.name for port in before], [port.name for port in after]
    if expected != received:
        raise BrokenOutput(
            f"it changed the {kind}: expected {expected}, received {received}", log=str(log)
        )


def _remember(session: Session, key: str, error: EdgepipeError) -> None:
    """Keep the failure, so that an unchanged run doesn't walk into it again."""
    facts = error.to_json()
    facts["details"] = {
        name: value for name, value in error.details.items() if name in ("log", "peak", "tail")
    }
    session.fetch(_failure_key(key), lambda folder: facts, "failure")


def _recall(session: Session, key: str) -> None:
    failure_key = _failure_key(key)
    if session.retry:
        session.store.remove(failure_key)
        return
    entry = session.store.find(failure_key)
    if entry is not None:
        error = EdgepipeError.from_json(entry.facts)
        error.details["kept"] = True
        raise error


def _failure_key(key: str) -> str:
    return store_key({"step": "failure", "of": key})


def _identity(artifact: Artifact) -> dict[str, Any]:
    """What of an artifact decides what becomes of it."""
    signature = artifact.signature
    return {
        "format": artifact.format.value,
        "digest": artifact.digest,
        "signature": None if signature is None else signature.to_json(),
        "loading": artifact.loading.key(),
    }


def outputs_key(session: Session, artifact: Artifact, samples: str) -> str:
    toolchain = session.interpreter(catalog.runner(artifact.format).toolchain)
    return store_key(
        {
            "step": "outputs",
            "edgepipe": __version__,
            "artifact": _identity(artifact),
            "samples": samples,
            "toolchain": toolchain.fingerprint,
            "device": _device(session, artifact),
            # What a device gave once says nothing of the one that is plugged in now.
            "run": session.started if _elsewhere(session, artifact) else None,
        }
    )


def _device(session: Session, artifact: Artifact) -> str:
    """Where its runner is to run it; of a model on the way to a device, on the CPU."""
    return session.device if artifact.format in (*COMPILED, *IR) else ""


def _elsewhere(session: Session, artifact: Artifact) -> bool:
    return artifact.format in COMPILED or _device(session, artifact).upper() not in ("", "CPU")


def outputs(session: Session, artifact: Artifact, samples: str, feeds: Path | None = None) -> Path:
    """The file with the artifact's outputs on the samples, the first one run twice."""

    def run(folder: Path) -> dict[str, Any]:
        answer = session.call(
            catalog.runner(artifact.format).toolchain,
            "edgepipe.work:infer",
            session.log(f"infer-{artifact.format}"),
            artifact=artifact.to_json(),
            feeds=str(feeds or feeds_file(session, artifact.ends(), samples)),
            outputs=str(folder / "outputs.npz"),
            device=_device(session, artifact),
        )
        return {"names": answer.value, "seconds": answer.seconds, "peak": answer.peak}

    key = outputs_key(session, artifact, samples)
    entry = session.fetch(key, run, f"outputs of {artifact.path.name}")
    return entry.path / "outputs.npz"


def prove(
    session: Session, before: Artifact, after: Artifact, product: Product | None
) -> tuple[Artifact, Proof, bool]:
    """Run both on the same samples: `after` with its layouts settled, the proof, was it kept."""
    samples = session.samples.key(before.ends())
    layouts = product.layouts if product else {}
    tolerance = session.tolerance
    key = store_key(
        {
            "step": "proof",
            "revision": PROOF_REVISION,
            "before": outputs_key(session, before, samples),
            "after": outputs_key(session, after, samples),
            "tolerance": vars(tolerance),
            "layouts": layouts,
        }
    )

    def compare(folder: Path) -> dict[str, Any]:
        from edgepipe import tensors, verify

        feeds = feeds_file(session, before.ends(), samples)
        reference = list(tensors.read(outputs(session, before, samples, feeds)))
        candidate = list(tensors.read(outputs(session, after, samples, feeds)))
        far = session.samples.far()
        reference, candidate, notes = verify.without_overflows(reference, candidate, far)
        given = session.samples.data is not None
        proof = verify.compare(reference, candidate, after.ends(), tolerance, layouts, given)
        return replace(proof, notes=(*notes, *proof.notes)).to_json()

    entry = session.fetch(key, compare, f"proof of {after.path.name}")
    proof = Proof.from_json(entry.facts)
    return _settled(after, proof), proof, entry.kept


def _settled(artifact: Artifact, proof: Proof) -> Artifact:
    ends = artifact.ends()
    settled = tuple(
        replace(port, permutation=proof.permutations.get(port.name, port.permutation))
        for port in ends.outputs
    )
    return artifact.with_signature(Signature(ends.inputs, settled))


def feeds_file(session: Session, ends: Signature, samples: str) -> Path:
    """The samples as a file for the workers, with the first one again at the end."""
    from edgepipe import tensors

    path = session.folder / f"feeds-{samples[:16]}.npz"
    if not path.exists():
        data = session.samples.data
        made = (
            session.samples.make(ends) if data is None else given_data.samples(session, data, ends)
        )
        partial = path.with_suffix(f".{time.monotonic_ns()}")
        tensors.write(partial, [*made, made[0]])
        partial.rename(path)
    return path
