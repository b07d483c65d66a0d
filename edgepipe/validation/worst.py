"""The samples on which both sides differ most, with what was fed and what each of them said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepipe.artifact import Port
from edgepipe.session import Session
from edgepipe.validation import outputs, picture
from edgepipe.validation.differing import NOISE, SAID, SIGNAL, WANTED, class_of
from edgepipe.validation.evaluating import Data, Evaluation, Task
from edgepipe.validation.evidence import Worst

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

SHOWN_NUMBERS = 4
JOBS = "edgepipe.validation.chunk_jobs"


def samples(
    session: Session, task: Task, data: Data, found: Evaluation, most: int
) -> tuple[Worst, ...]:
    """Run once more, since of the evaluation only rows are left. None without a baseline."""
    if task.baseline is None or not most:
        return ()
    errors, flipped = _errors(task.ends.outputs, found)
    order = np.lexsort((-errors, ~flipped))  # Another class first, then the largest error.
    chosen = [int(place) for place in order[:most] if errors[place] > 0]
    if not chosen:
        return ()
    error_at = {found.positions[place]: float(errors[place]) for place in chosen}
    folder = session.folder / "worst"
    folder.mkdir(exist_ok=True)
    picked = _pick(session, task, list(error_at), folder / "feeds.npz")
    fed = {"feeds": str(folder / "feeds.npz"), **picked}
    sides = []
    for name, subject in (("candidate", task.candidate), ("baseline", task.baseline)):
        path = folder / f"{name}.npz"
        session.call_with(subject, f"{JOBS}:run", session.log("worst"), samples=fed, path=str(path))
        sides.append(outputs.read(path))
    feeds = outputs.read(folder / "feeds.npz")
    names = picked["names"]
    told = [
        Worst(
            index=position,
            name=names[number],
            error=round(error_at[position], 6),
            candidate=_words(received, data.names),
            baseline=_words(wanted, data.names),
            truth=_class_name(picked["labels"][number], data.names),
            picture=_picture(task, sample),
        )
        for number, (position, received, wanted, sample) in enumerate(
            zip(picked["positions"], *sides, feeds, strict=True)
        )
    ]
    rank = {found.positions[place]: number for number, place in enumerate(chosen)}
    return tuple(sorted(told, key=lambda one: rank[one.index]))


def _errors(ports: Sequence[Port], found: Evaluation) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Of each sample the noise of all outputs, each beside what it is typically; and whether a
    class became another."""
    total = np.zeros(len(found.positions))
    flipped = np.zeros(len(found.positions), bool)
    for port in ports:
        rows = found.differences(port.name)
        typical = float(rows[:, SIGNAL].mean())
        total += rows[:, NOISE] / (typical or 1.0)
        flipped |= (rows[:, SAID] != rows[:, WANTED]) & (rows[:, WANTED] >= 0)
    return np.sqrt(total), flipped


def _pick(session: Session, task: Task, positions: list[int], path: Path) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "data": task.source.to_json(),
        "ends": task.ends.to_json(),
        "positions": positions,
        "path": str(path),
    }
    if task.source.toolchain:
        entry, log = f"{JOBS}:pick", session.log("worst")
        return dict(session.call(task.source.toolchain, entry, log, **arguments).value)
    from edgepipe.validation import chunk_jobs

    return chunk_jobs.pick(**arguments)


def _words(found: Tensors, names: Sequence[str]) -> str:
    """What a side said: the class with its score, a few numbers, or their range."""
    told = []
    for name, array in found.items():
        before = f"{name}: " if len(found) > 1 else ""
        told.append(before + _output_words(array, names))
    return "; ".join(told)


def _output_words(array: NDArray[Any], names: Sequence[str]) -> str:
    said = class_of(array)
    if said >= 0:
        score = "" if array.size == 1 else f" {float(array.max()):.4g}"
        return f"{_class_name(said, names)}{score}"
    if array.size <= SHOWN_NUMBERS:
        return ", ".join(f"{float(one):.4g}" for one in array.ravel())
    if not array.size:
        return "nothing"
    return f"{float(array.min()):.4g} to {float(array.max()):.4g}, mean {float(array.mean()):.4g}"


def _class_name(label: Any, names: Sequence[str]) -> str:
    if label is None:
        return ""
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else str(label)


def _picture(task: Task, feeds: Tensors) -> str:
    for port in task.ends.inputs:
        found = picture.of(feeds[port.name], port, task.source.preprocessing.of(port.name))
        if found:
            return found
    return ""
