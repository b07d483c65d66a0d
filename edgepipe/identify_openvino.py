"""OpenVINO's IR: an .xml and the .bin that belongs to it, or their folder, checked by size."""

from __future__ import annotations

import re
from pathlib import Path

from edgepipe.artifact import Format
from edgepipe.identify_sample import Sample, damaged, unknown

KIND = "an OpenVINO model"
HEAD = 4096
SLACK = 4096
"""Bytes behind the last constant that a writer may have filled up with."""
_CONSTANT = re.compile(rb"<data\b[^>]*>")
_FEWER_BITS = re.compile(
    rb'type="FakeQuantize"|<data\b[^>]*element_type="f16"|<weight_compression>'
)
"""Integers are simulated by that op, float16 is told by the type of constants, and NNCF writes
into the file that it compressed the weights."""
_GRAPH = re.compile(rb"\s*(<\?xml[^>]*\?>)?\s*<net\b")
_PLACE = re.compile(rb'\b(offset|size)="(\d+)"')


def recognise(folder: Path) -> Format | None:
    """By the .xml in it whose root is `net`; its weights must be there, and all of them."""
    graphs = [path for path in sorted(folder.glob("*.xml")) if path.is_file() and is_graph(path)]
    if not graphs:
        return None
    if len(graphs) > 1:
        raise unknown(
            folder,
            f"a folder with {len(graphs)} OpenVINO models: {', '.join(p.name for p in graphs)}",
            "give a folder with one of them and its .bin.",
        )
    return _checked(folder, graphs[0])


def recognise_graph(sample: Sample) -> Format | None:
    """The .xml itself, given as a file; its .bin lies beside it."""
    if not _GRAPH.match(sample.head):
        return None
    return _checked(sample.path, sample.path)


def _checked(given: Path, graph: Path) -> Format:
    text = _check_weights(given, graph)
    return Format.OPENVINO_QUANTIZED if _FEWER_BITS.search(text) else Format.OPENVINO


def is_graph(path: Path) -> bool:
    """Whether an .xml file is the graph of an IR, told by its root."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return _GRAPH.match(head) is not None


def graph_of(path: Path) -> Path:
    """The .xml of a folder that was recognised, or the one that was given itself."""
    if path.is_file():
        return path
    return next(each for each in sorted(path.glob("*.xml")) if is_graph(each))


def files_of(path: Path) -> list[Path]:
    """What belongs to an IR: the graph, and its weights where it has some."""
    graph = graph_of(path)
    weights = graph.with_suffix(".bin")
    return [graph, weights] if weights.is_file() else [graph]


def _check_weights(folder: Path, graph: Path) -> bytes:
    """The text of the graph, when all that it refers to is there."""
    text = graph.read_bytes()
    if not text.rstrip().endswith(b"</net>"):
        raise damaged(folder, KIND, f"{graph.name} does not end with </net>")
    weights = graph.with_suffix(".bin")
    needed = _bytes_needed(text)
    if not weights.is_file():
        if needed:
            raise unknown(
                folder,
                f"{KIND}, and {weights.name} with its weights is missing",
                f"put the {weights.name} that was written with {graph.name} beside it.",
            )
        return text
    size = weights.stat().st_size
    if size < needed:
        raise damaged(
            folder,
            KIND,
            f"{graph.name} needs {needed:,} bytes of weights, {weights.name} has {size:,}:"
            " it belongs to another model, or was cut",
        )
    if size > needed + SLACK:
        raise unknown(
            folder,
            f"{KIND} whose {graph.name} uses {needed:,} bytes of weights, and {weights.name} has"
            f" {size:,}: it belongs to another model",
            "put the .bin beside the .xml that was written with it.",
        )
    return text


def _bytes_needed(text: bytes) -> int:
    """The end of the last constant, as the graph says it."""
    ends = [0]
    for data in _CONSTANT.findall(text):
        place = {name: int(digits) for name, digits in _PLACE.findall(data)}
        if len(place) == 2:
            ends.append(place[b"offset"] + place[b"size"])
    return max(ends)
