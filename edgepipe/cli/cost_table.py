"""Shows what a model costs: by type of operator, by layer, and against the size of its inputs."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgepipe.cost.counting import Costs
from edgepipe.cost.network import Scale, Shape
from edgepipe.cost.tally import Cost, Layer, Sum
from edgepipe.inputs import shape_words
from edgepipe.process_memory import words as size_words

UNKNOWN = "?"


def show(console: Console, costs: Costs, layers: bool) -> None:
    if not costs.sizes:
        if costs.why:
            console.print(f"cost: not counted, {costs.why}", markup=False, highlight=False)
        return
    cost = costs.sizes[0]
    if layers:
        console.print(_by_layer(cost))
        console.print()
    if any(line.endswith("--input NAME=SHAPE") for line in cost.notes) or len(costs.sizes) > 1:
        console.print(f"at {_inputs(cost)}:", markup=False, highlight=False)
    console.print(_by_type(cost))
    for line in _facts(cost):  # names may be long; --json has them whole
        console.print(line, markup=False, highlight=False, no_wrap=True, overflow="ellipsis")
    for line in cost.notes:
        console.print(line, markup=False, highlight=False)
    if len(costs.sizes) > 1:
        console.print()
        console.print(_growth(costs))


def scale_words(scale: Scale) -> str:
    """Quantization of an end for people: `int8, scale 0.0039, zero point -128, 0 to 0.996`."""
    if len(scale.scale) != 1:
        return f"{scale.dtype}, {len(scale.scale)} scales along an axis"
    zero = scale.zero_point[0] if scale.zero_point else 0
    found = f"{scale.dtype}, scale {scale.scale[0]:.6g}, zero point {zero}"
    return found if scale.range is None else (
        f"{found}, {scale.range[0]:.4g} to {scale.range[1]:.4g}"
    )  # fmt: skip


def number_words(value: int | None) -> str:
    """A count for people: 300.8 M."""
    if value is None:
        return UNKNOWN
    size = float(value)
    for unit in ("", " k", " M", " G"):
        if size < 1000:
            return f"{size:.0f}" if not unit else f"{size:.1f}{unit}"
        size /= 1000
    return f"{size:.1f} T"


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title, is_number in columns:
        table.add_column(
            title, justify="right" if is_number else "left", no_wrap=True, overflow="ellipsis"
        )
    return table


def _by_type(cost: Cost) -> Table:
    table = _table(("type", False), ("count", True), ("parameters", True), ("MACs", True),
                   ("elements", True), ("bytes moved", True), ("ops/byte", True))  # fmt: skip
    table.columns[0].no_wrap = False  # the one to give way
    for name, found in cost.by_type.items():
        table.add_row(escape(name), *_row(found))
    table.add_section()
    table.add_row("total", *_row(cost.total), style="bold")
    return table


def _row(found: Sum) -> Iterator[str]:
    """A plus behind a figure says that it is at least this much."""
    yield f"{found.count:,}"
    yield f"{found.parameters:,}"
    known, sized = found.count - found.unknown, found.count - found.unmoved
    computed, travelled = ("+" if some else "" for some in (found.unknown, found.unmoved))
    yield number_words(found.macs) + computed if known else UNKNOWN
    yield number_words(found.elements) + computed if known else UNKNOWN
    yield size_words(found.moved) + travelled if sized else UNKNOWN
    whole = found.intensity is not None and not (found.unknown or found.unmoved)
    yield f"{found.intensity:.1f}" if whole else UNKNOWN


def _facts(cost: Cost) -> Iterator[str]:
    if cost.peak_at is not None:
        at = cost.peak_at
        where = f"at op {at.index}, {at.kind} {at.name}"
        yield f"peak activation memory: {_peak(cost)}, {where}"
    if cost.stored:
        kinds = (f"{size_words(size)} {name}" for name, (_, size) in cost.stored.items())
        yield f"constants: {', '.join(kinds)}"


def _peak(cost: Cost) -> str:
    return size_words(cost.peak) + ("" if cost.peak_whole else "+")


def _by_layer(cost: Cost) -> Table:
    table = _table(("op", True), ("type", False), ("name", False), ("output", False),
                   ("MACs", True), ("params", True), ("active", True))  # fmt: skip
    table.columns[1].max_width = 18
    table.columns[2].ratio = 1
    table.columns[3].max_width = 16
    table.expand = True
    for layer in cost.layers:
        table.add_row(*(escape(text) for text in _cells(layer)))
    return table


def _cells(layer: Layer) -> Iterator[str]:
    yield str(layer.index)
    yield layer.kind
    yield f"{layer.graph}: {layer.name}" if layer.graph else layer.name
    yield _shape(layer.shapes[0]) if layer.shapes else ""
    yield number_words(layer.macs)
    yield number_words(layer.parameters)
    yield UNKNOWN if layer.live is None else size_words(layer.live)


def _growth(costs: Costs) -> Table:
    table = _table(("inputs", False), ("MACs", True), ("bytes moved", True),
                   ("peak memory", True), ("ops/byte", True))  # fmt: skip
    table.columns[0].no_wrap, table.columns[0].overflow = False, "fold"
    for cost in costs.sizes:
        _, _, macs, _, moved, intensity = _row(cost.total)
        table.add_row(escape(_inputs(cost)), macs, moved, _peak(cost), intensity)
    return table


def _inputs(cost: Cost) -> str:
    return " ".join(f"{name}={_shape(shape)}" for name, shape in cost.inputs.items())


def _shape(shape: Shape | None) -> str:
    return UNKNOWN if shape is None else shape_words(shape)
