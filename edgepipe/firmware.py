"""`--emit c`: the result of a run as C for firmware, with the arena that it needs where known."""

from __future__ import annotations

from pathlib import Path

from edgepipe import c_source, micro
from edgepipe.artifact import Artifact, Format
from edgepipe.c_source import Arena
from edgepipe.pipeline import Candidate
from edgepipe.session import Session
from edgepipe.targets.ethosu.figures import KEY
from edgepipe.tflite.inline import write_inline

ROUND = 16


def write(session: Session, chosen: Candidate, model: Path) -> list[Path]:
    """The files, in the run's own folder, of the model that was delivered."""
    if chosen.result.format is Format.ETHOSU:
        return c_source.write(model, session.folder, _of_compiled(chosen))
    inline = session.folder / model.name
    write_inline(model, inline)
    return c_source.write(inline, session.folder, _of_quantized(session, chosen.result))


def _of_quantized(session: Session, artifact: Artifact) -> Arena | None:
    found = micro.measure(session, artifact)
    if found.why:
        return None
    words = "Arena: as TensorFlow Lite Micro measured it on x86-64, its reference kernels."
    return Arena(_up(found.arena), words)


def _of_compiled(chosen: Candidate) -> Arena:
    """The NPU's own memory, and for bookkeeping what the model before compiling takes, which has
    more operators and so takes more."""
    from edgepipe.targets.ethosu import compiled

    step = chosen.trial.steps[-1]
    held = compiled.read(chosen.result.path)
    figures = step.summary[KEY]
    fast = held.fast_scratch_bytes
    tensors = held.scratch_bytes if fast else max(held.scratch_bytes, figures["sram_bytes"])
    tail = int((step.proof.micro or {}).get("tail", 0)) if step.proof else 0
    if tail:
        words = (
            f"Arena: {tensors} for tensors by Vela, and {tail} for bookkeeping, at most: what"
            " TensorFlow Lite Micro takes for the model before Vela."
        )
    else:
        words = f"Arena: {tensors} for tensors by Vela; the interpreter's bookkeeping comes on top."
    return Arena(_up(tensors + tail), words, _up(fast))


def _up(size: int) -> int:
    return -(-size // ROUND) * ROUND
