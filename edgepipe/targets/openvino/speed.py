"""Whether an int8 IR is faster than the float one that it was made of, on this very device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from edgepipe import __version__, making
from edgepipe.artifact import Artifact, Format
from edgepipe.errors import EdgepipeError, StageFailed
from edgepipe.identify_openvino import graph_of
from edgepipe.session import Session
from edgepipe.stage import Stage
from edgepipe.store import key as store_key
from edgepipe.targets.openvino.devices import TOOLCHAIN
from edgepipe.validation.evidence import Interval, Latency
from edgepipe.validation.latency import Plan, Side, measure
from edgepipe.validation.machine import machine
from edgepipe.validation.subject import Subject

REVISION = 3
SECONDS, MORE_SECONDS = 2.0, 6.0
"""The second where so few runs fitted into the first that there is no interval at all."""
NARROW = 1.25
"""Its upper end to its lower one. A wider interval is of a busy machine, and isn't kept."""
SAME = ("system", "cpu", "cores", "usable", "quota")
"""Of a machine: what makes it another one, for which it is measured again."""
SETTINGS = {"precision": "native"}
"""As a program runs it that says nothing: the question is what is faster there."""


def compare(session: Session, stage: Stage, artifacts: Sequence[Artifact]) -> dict[str, Any] | None:
    """What the last stage made, beside the float IR on its way; None where that isn't int8.

    What keeps it from being measured is told in `words`: the conversion is proven all the same.
    """
    given = [one for one in artifacts if one.format is Format.OPENVINO]
    if not given or getattr(session.options(stage), "scheme", "") != "int8":
        return None
    before, after = given[-1], artifacts[-1]
    key = store_key(
        {
            "step": "openvino speed",
            "edgepipe": __version__,
            "revision": REVISION,
            "before": before.digest,
            "after": after.digest,
            "device": session.device.upper(),
            "machine": {name: value for name, value in machine().items() if name in SAME},
            "toolchain": session.interpreter(TOOLCHAIN).fingerprint,
        }
    )

    kept = session.store.find(key)
    if kept is not None:
        return kept.facts
    try:
        told = _told(session, before, after)
    except EdgepipeError as error:
        return {"ratio": None, "slower": None, "words": f"int8 was not timed: {error.message}"}
    if narrow(Interval(**told["ratio"])):
        session.fetch(key, lambda folder: told, f"speed of {after.path.name}")
    return told


def _measured(session: Session, before: Artifact, after: Artifact) -> Latency:
    ends = before.ends()
    feeds = making.feeds_file(session, ends, session.samples.key(ends))
    subjects = [
        Subject.of(one, device=session.device, settings=dict(SETTINGS)) for one in (after, before)
    ]
    with (
        Side(session, subjects[0], feeds, "int8") as candidate,
        Side(session, subjects[1], feeds, "float32") as baseline,
    ):
        for side in (candidate, baseline):
            side.start()
        found = measure(candidate, baseline, Plan(SECONDS))
        return found if found.ratio else measure(candidate, baseline, Plan(MORE_SECONDS))


def slower(ratio: Interval) -> bool | None:
    """By the whole interval; None where it doesn't tell."""
    if ratio.low <= 1 <= ratio.high:
        return None
    return ratio.low > 1


def narrow(ratio: Interval) -> bool:
    return ratio.high <= NARROW * ratio.low


def _in_float(session: Session, artifact: Artifact) -> dict[str, int]:
    """Types of the products that are given integers and compute in float, and how many."""
    from edgepipe.targets.openvino.preflight import FLOAT, verdicts_of

    told = session.call(
        TOOLCHAIN,
        "edgepipe.runners.openvino_support:support",
        session.log("openvino-kernels"),
        path=str(graph_of(artifact.path)),
        device=session.device,
    ).value
    return dict(Counter(one.op for one in verdicts_of(told) if one.status == FLOAT))


def _told(session: Session, before: Artifact, after: Artifact) -> dict[str, Any]:
    found = _measured(session, before, after)
    ratio, baseline = found.ratio, found.baseline
    if ratio is None or baseline is None:
        raise StageFailed("too few runs fitted into the time that it is given")
    device = session.device.upper() or "CPU"
    kinds = {} if slower(ratio) is False else _in_float(session, after)
    return {
        "against": "float32",
        "device": device,
        "compute": SETTINGS["precision"],
        "ratio": dict(vars(ratio)),
        "slower": slower(ratio),
        "int8_ms": round(found.candidate.p50 * 1000, 4),
        "float32_ms": round(baseline.p50 * 1000, 4),
        "in_float": kinds,
        "words": words(ratio, device, kinds),
        "notes": list(found.notes),
    }


def words(ratio: Interval, device: str, kinds: dict[str, int]) -> str:
    """What was seen, and the better choice where that isn't int8."""
    figures = f"{ratio.value:.2f} times float32's ({ratio.low:.2f} to {ratio.high:.2f})"
    if slower(ratio) is False:
        return f"int8's time on {device} is {figures}"
    if slower(ratio):
        told = (
            f"int8 is slower than float on {device}: its time is {figures};"
            " better take --precision float16, which has half the size of float32 and its speed"
        )
    elif not narrow(ratio):
        told = (
            f"it can't be told whether int8 is faster on {device}, for the machine was busy:"
            f" its time is {figures}"
        )
    else:
        told = (
            f"int8 is not seen to be faster on {device}: its time is {figures};"
            " --precision float16 is nearer to the model, if speed is what int8 is for"
        )
    if not kinds:
        return told
    listed = " and ".join(f"{count} {kind}" for kind, count in kinds.items())
    return (
        f"{told}. {listed} compute in float there: leave them in float,"
        f" -O openvino_quantize.float_types={','.join(kinds)}"
    )
