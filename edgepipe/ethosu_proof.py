"""The proof of a file for an Ethos-U: the model before it stands in, and its ends must match.

A file that Vela wrote runs on no host. So the integers that it was made of run in LiteRT, its
ends are compared with theirs in name, shape, type and scale, and what it needs is held against
the memory that there is. That is less than a run on the chip, and the proof says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edgepipe import making
from edgepipe.artifact import Artifact, Signature, digest_file
from edgepipe.errors import BrokenOutput
from edgepipe.gates import Gates
from edgepipe.micro import measure
from edgepipe.process_memory import words
from edgepipe.proof import PERFECT_DB, Proof
from edgepipe.session import Session
from edgepipe.stage import Product
from edgepipe.targets.ethosu.figures import KEY, Figures
from edgepipe.targets.ethosu.legalising import FILE
from edgepipe.tflite import reader
from edgepipe.tflite.model import Tensor, TfliteModel

NOT_RUN = (
    "not run on an NPU: the quantized model that it was made of stands in for it, in LiteRT, and"
    " inputs and outputs were compared with those of that model"
)

UNRESOLVED = "unresolved custom op: "
NO_STAND_IN = (
    "not run on an NPU, nor in LiteRT in its place, which has no {}: inputs and outputs were"
    " compared with those of the model that it was made of, and nothing else of it is proven"
)


def prove(
    session: Session, before: Artifact, after: Artifact, product: Product | None
) -> tuple[Proof, bool]:
    """Of the compiled file; `before` is what it was compiled of."""
    quantized = reader.read(before.path)
    _check_ends(quantized, reader.read(after.path))
    before = _fed_as_given(session, before, quantized)
    legal = after.path.parent / FILE
    given = replace(before, path=legal, digest=digest_file(legal)) if legal.is_file() else before
    unrunnable = ""
    try:
        _, ran, kept = making.prove(session, before, given, None)
    except BrokenOutput as error:
        if given is not before or UNRESOLVED not in error.message:
            raise
        ran, kept, unrunnable = Proof(0), False, error.message.partition(UNRESOLVED)[2]
    failures = []
    if given is not before and ran.sqnr_db < PERFECT_DB:
        failures.append(
            f"what was rewritten for Vela changed numbers ({ran.sqnr_db:.0f} dB):"
            " -O ethosu_from_tflite.legalise=false leaves it as it is"
        )
    elif ran.failed:
        failures.append(f"its stand-in can't be relied on: {ran.why()}")
    if product is not None:
        failures += _worse(session.gates, Figures.from_json(product.facts[KEY]))
    micro = None if unrunnable else measure(session, before).to_json()
    not_run = NO_STAND_IN.format(unrunnable.split(".")[0].strip()) if unrunnable else NOT_RUN
    proof = Proof(
        ran.samples,
        (),
        tuple(failures),
        (not_run, *ran.notes),
        quantized=True,
        micro=micro,
        not_run=not_run,
    )
    return proof, kept


def _fed_as_given(session: Session, before: Artifact, model: TfliteModel) -> Artifact:
    """The user's samples are real numbers where the model that was given is a float one; the
    runner makes integers of them. Noise is drawn as integers, which reaches all of them."""
    if session.samples.data is None or session.learning is None:
        return before
    scaled = {
        model.main.tensors[index].name
        for index in model.main.inputs
        if model.main.tensors[index].quantization is not None
    }
    ends = before.ends()
    inputs = tuple(
        replace(port, dtype="float32") if (port.tensor or port.name) in scaled else port
        for port in ends.inputs
    )
    return before.with_signature(Signature(inputs, ends.outputs))


def _check_ends(before: TfliteModel, after: TfliteModel) -> None:
    for kind, wanted, received in (
        ("inputs", _ends(before, before.main.inputs), _ends(after, after.main.inputs)),
        ("outputs", _ends(before, before.main.outputs), _ends(after, after.main.outputs)),
    ):
        if wanted != received:
            raise BrokenOutput(f"Vela changed the {kind}: expected {wanted}, received {received}")


def _ends(model: TfliteModel, indices: tuple[int, ...]) -> list[tuple[Any, ...]]:
    return [_end(model.main.tensors[index]) for index in indices]


def _end(tensor: Tensor) -> tuple[Any, ...]:
    scales = None if tensor.quantization is None else vars(tensor.quantization)
    return tensor.name, tensor.shape, tensor.dtype, scales


def _peak(found: Figures) -> str:
    """Where most is needed, by Vela's table."""
    if not found.layers:
        return "at most of its layers"
    layer = max(found.layers, key=lambda one: one.staging_bytes)
    return f"most at {layer.op} {layer.name}"


def _worse(gates: Gates, found: Figures) -> list[str]:
    """What is worse than the limits, in words, with both figures."""
    worse = [
        f"{what}: {words(used)} ({used:,} bytes) are needed and {words(limit)} ({limit:,} bytes)"
        f" are there: {used - limit:,} bytes too many; {advice}"
        for what, used, limit, advice in (
            (
                "SRAM", found.sram_bytes, gates.max_sram,
                f"{_peak(found)}; take smaller inputs, fewer channels there, or a Dedicated_Sram"
                " mode if the board has DRAM",
            ),
            (
                "flash", found.file_bytes, gates.max_flash,
                "make the model narrower, or share and prune its weights",
            ),
        )
        if limit is not None and used > limit
    ]  # fmt: skip
    if gates.require_full_mapping and found.fallbacks:
        worse.append(f"not all is on the NPU: {len(found.fallbacks)} of {found.ops} ops are not")
    return worse
