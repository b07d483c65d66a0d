"""What workers do with a stretch of the samples: run a subject on it, see what metrics see."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe.artifact import Signature
from edgepipe.data.reader import Sample
from edgepipe.data.streaming import Stream
from edgepipe.dataset import DataSource
from edgepipe.errors import InputError, SamplesError
from edgepipe.runner import Runner
from edgepipe.validation import outputs
from edgepipe.validation.differing import difference
from edgepipe.validation.metrics.planned import Planned
from edgepipe.validation.sight import Sight
from edgepipe.validation.subject import Subject

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgepipe.runner import Tensors

KEPT_OPEN = 4
"""Runners and data sets that a worker holds between jobs: loading one costs more than a stretch."""


@functools.lru_cache(KEPT_OPEN)
def _runner(subject: str) -> Runner:
    return Subject.from_json(json.loads(subject)).open().__enter__()


@functools.lru_cache(KEPT_OPEN)
def _stream(source: str, ends: str, reader: str) -> Stream:
    """`reader` is who reads: two that take turns would each start from the beginning."""
    del reader
    found = DataSource.from_json(json.loads(source))
    return Stream(found.open(Signature.from_json(json.loads(ends))))


def facts(data: dict[str, Any], ends: dict[str, Any]) -> dict[str, Any]:
    """How many samples there are, and what their labels are."""
    dataset = DataSource.from_json(data).open(Signature.from_json(ends))
    labels = dataset.labels
    return {
        "count": len(dataset),
        "labels": labels,
        "names": list(dataset.label_names),
    }


def write_feeds(
    data: dict[str, Any], ends: dict[str, Any], stretch: list[int], path: str
) -> dict[str, Any]:
    """The stretch's samples as a file, for a toolchain that can't read the data itself."""
    samples, passed = _parted(_stream(json.dumps(data), json.dumps(ends), "feeds"), stretch)
    outputs.write(Path(path), [sample.feeds for _, sample in samples])
    return {
        "positions": [position for position, _ in samples],
        "labels": [sample.label for _, sample in samples],
        "passed": passed,
    }


def run(subject: dict[str, Any], samples: dict[str, Any], path: str) -> dict[str, Any]:
    """The subject's outputs on a stretch, as a file."""
    runner = _runner(json.dumps(subject))
    made, passed = [], []
    for found in _samples(samples, subject):
        if isinstance(found, str):
            passed.append(found)
        else:
            made.append(runner.infer(found[1].feeds))
    outputs.write(Path(path), made)
    return {"samples": len(made), "passed": passed}


def see(
    subject: dict[str, Any],
    samples: dict[str, Any],
    reference: str,
    planned: list[dict[str, Any]],
    sight: dict[str, Any],
    path: str,
) -> dict[str, Any]:
    """The candidate on a stretch, beside the baseline's outputs in the file `reference`."""
    runner = _runner(json.dumps(subject))
    metrics = [Planned.from_json(one).opened() for one in planned]
    looked = Sight.from_json(sight)
    wanted = outputs.read(Path(reference)) if reference else None
    rows: dict[str, list[NDArray[np.float64]]] = {}
    positions, passed = [], []
    for found in _samples(samples, subject):
        if isinstance(found, str):
            passed.append(found)
            continue
        position, sample = found
        received = runner.infer(sample.feeds)
        beside = next(wanted) if wanted is not None else None
        _compare(rows, sample.label, received, beside)
        truth = looked.truth_at(position, sample.label)
        own = looked.outputs(received)
        _measure(rows, metrics, truth, own, None if beside is None else looked.outputs(beside))
        positions.append(position)
    outputs.write_rows(Path(path), rows)
    return {"positions": positions, "passed": passed}


def _compare(
    rows: dict[str, list[NDArray[np.float64]]],
    label: int | None,
    received: Tensors,
    beside: Tensors | None,
) -> None:
    """How far both sides lie apart on one sample, as the models gave it."""
    for name, output in received.items():
        reference = None if beside is None else beside[name]
        if reference is not None and reference.ndim != output.ndim:
            raise InputError(
                f"output {name!r} is of shape {list(output.shape)} and the baseline's of"
                f" {list(reference.shape)}: are both of the same model?"
            )
        if reference is not None and reference.shape != output.shape:
            reference = None  # As many boxes as were found on either side.
        rows.setdefault(f"own/{name}", []).append(difference(output, reference, label))


def _measure(
    rows: dict[str, list[NDArray[np.float64]]],
    metrics: list[Planned],
    truth: Any,
    own: Tensors,
    beside: Tensors | None,
) -> None:
    """What one sample says to each metric, on both sides."""
    for number, one in enumerate(metrics):
        reference = None if beside is None else beside[one.output]
        row = one.metric.see(own[one.output], truth, reference)
        rows.setdefault(f"candidate/{number}", []).append(row)
        if reference is not None and one.metric.judges_baseline():
            row = one.metric.see(reference, truth, None)
            rows.setdefault(f"baseline/{number}", []).append(row)


def pick(
    data: dict[str, Any], ends: dict[str, Any], positions: list[int], path: str
) -> dict[str, Any]:
    """A few samples as a file, and what they are, for people to look at."""
    stream = _stream(json.dumps(data), json.dumps(ends), "pick")
    picked = [one for at in sorted(positions) for one in _parted(stream, [at, at + 1])[0]]
    outputs.write(Path(path), [sample.feeds for _, sample in picked])
    return {
        "positions": [position for position, _ in picked],
        "names": [sample.name for _, sample in picked],
        "labels": [sample.label for _, sample in picked],
    }


def _samples(
    samples: dict[str, Any], subject: dict[str, Any]
) -> Iterator[tuple[int, Sample] | str]:
    """Each with its position, or why one was passed over; read here or written by another."""
    if samples["feeds"]:
        found = outputs.read(Path(samples["feeds"]))
        for position, label, feeds in zip(
            samples["positions"], samples["labels"], found, strict=True
        ):
            yield position, Sample(feeds, label)
        return
    data, ends = json.dumps(samples["data"]), json.dumps(samples["ends"])
    start, stop = samples["stretch"]
    for position, one in _stream(data, ends, json.dumps(subject)).take(start, stop):
        if isinstance(one, Sample):
            yield position, one
        else:
            yield f"{one.name} can't be read: {one.reason}"


def _parted(stream: Stream, stretch: list[int]) -> tuple[list[tuple[int, Sample]], list[str]]:
    samples, passed = [], []
    for position, found in stream.take(*stretch):
        if isinstance(found, Sample):
            samples.append((position, found))
        else:
            passed.append(f"{found.name} can't be read: {found.reason}")
    if not samples and not passed:
        raise SamplesError(f"{stream.dataset.source.where} holds no sample")
    return samples, passed
