"""Fewest transposes between channels-first and channels-last, in onnx2tf's graph before writing.

onnx2tf puts a transpose around each operator that is native to channels last and removes
pairs by some 200 patterns; what fits none stays (119 in a DenseNet). Here the layout of every
operator that can work in either is a variable, a transpose is the cost of two neighbours that
differ, and a minimum cut gives the cheapest assignment. Cases:
1. operators without axes, and those whose axes, pads or sizes are constants, can change layout;
2. all others, and the ends of the model, keep theirs;
3. a RESHAPE between (N, C, 1, 1) and (N, 1, 1, C) counts as a transpose that costs nothing;
4. what isn't understood is left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import tflite_flip
from .min_cut import FAR, INFINITE, NEAR, MinCut
from .tflite_flip import FIRST, LAST, RANKS

NATIVE = {
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D", "MAX_POOL_2D",
    "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "DEPTH_TO_SPACE", "SPACE_TO_DEPTH",
}  # fmt: skip
"""Operators that TFLite defines on channels last."""

_A_TRANSPOSE = 1000
_A_RESHAPE = 2
_FIRST_INSTEAD_OF_LAST = 1
"""Costs: kernels and delegates are written for channels last, which settles ties."""


@dataclass
class _Value:
    """One value in whatever layouts: the tensors that transposes make of each other."""

    root: str
    members: dict[str, str] = field(default_factory=dict)
    """Tensor name -> layout."""
    readers: list[tuple[int, int]] = field(default_factory=list)
    """(operator, input position), transposes aside."""


def optimize(ir: Any) -> int:
    """Place transposes anew; the number of them that went. 0 when nothing was changed."""
    graph = _Graph(ir)
    values = graph.values()
    if not values:
        return 0
    chosen = _choose(graph, values)
    before = _count_transposes(ir)
    graph.apply(values, chosen)
    return before - _count_transposes(ir)


def _count_transposes(ir: Any) -> int:
    return sum(1 for op in ir.operators if op.op_type == "TRANSPOSE")


class _Graph:
    def __init__(self, ir: Any) -> None:
        self.ir = ir
        self.maker = {name: i for i, op in enumerate(ir.operators) for name in op.outputs}
        self.readers: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for i, op in enumerate(ir.operators):
            for position, name in enumerate(op.inputs):
                self.readers[name].append((i, position))
        self.moves = {i: move for i in range(len(ir.operators)) if (move := self._move(i))}
        self.layouts = self._label()
        self.moves = {i: move for i, move in self.moves.items() if self._is_live(i, move)}
        self.free = {i for i in range(len(ir.operators)) if self._is_free(i)}

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(size) for size in self.ir.tensors[name].shape)

    def is_constant(self, name: str) -> bool:
        return self.ir.tensors[name].data is not None

    def _move(self, index: int) -> tuple[str, str] | None:
        """(layout before, layout after) of a transpose, and of a RESHAPE that is one (3)."""
        op = self.ir.operators[index]
        if op.op_type not in ("TRANSPOSE", "RESHAPE") or self.is_constant(op.inputs[0]):
            return None
        before, after = self.shape(op.inputs[0]), self.shape(op.outputs[0])
        rank = len(before)
        if rank not in RANKS or len(after) != rank or (before == after and op.op_type == "RESHAPE"):
            return None
        for layout, other in ((FIRST, LAST), (LAST, FIRST)):
            axes = tflite_flip.axes_to(layout, rank)
            if op.op_type == "RESHAPE":
                same = tuple(before[axis] for axis in axes) == after
                found = same and tflite_flip.moves_nothing(before, axes)
            else:
                data = self.ir.tensors[op.inputs[1]].data
                found = data is not None and tuple(np.ravel(data)) == axes
            if found:
                return other, layout
        return None

    def _label(self) -> dict[str, str]:
        """Layout of each tensor that has one, spread over operators that keep it."""
        groups = _Groups()
        for op in self.ir.operators:
            groups.join(tflite_flip.ends(self.ir, op))
        found: dict[str, set[str]] = defaultdict(set)
        for i, (before, after) in self.moves.items():
            op = self.ir.operators[i]
            if op.op_type == "TRANSPOSE":
                found[groups.find(op.inputs[0])].add(before)
                found[groups.find(op.outputs[0])].add(after)
        for op in self.ir.operators:
            if op.op_type in NATIVE:
                for name in self._native_ends(op):
                    found[groups.find(name)].add(LAST)
        self._spread_over_reshapes(groups, found)
        labels = {}
        for name in self.ir.tensors:
            layouts = found.get(groups.find(name), set())
            if len(layouts) == 1 and len(self.shape(name)) in RANKS:
                labels[name] = next(iter(layouts))
        return labels

    def _spread_over_reshapes(self, groups: _Groups, found: dict[str, set[str]]) -> None:
        """A RESHAPE tells nothing by itself, only what lies beyond one that is a transpose."""
        reshapes = {
            i: move for i, move in self.moves.items() if self.ir.operators[i].op_type == "RESHAPE"
        }
        changed = True
        while changed:
            changed = False
            for i, (before, after) in reshapes.items():
                op = self.ir.operators[i]
                here, there = groups.find(op.inputs[0]), groups.find(op.outputs[0])
                if found.get(here) == {before} and not found.get(there):
                    found[there] = {after}
                    changed = True
                elif found.get(there) == {after} and not found.get(here):
                    found[here] = {before}
                    changed = True

    def _native_ends(self, op: Any) -> list[str]:
        names = [name for name in op.inputs if name and not self.is_constant(name)]
        return [name for name in (*names, *op.outputs) if len(self.shape(name)) == 4]

    def _is_live(self, index: int, move: tuple[str, str]) -> bool:
        op = self.ir.operators[index]
        found = (self.layouts.get(op.inputs[0]), self.layouts.get(op.outputs[0]))
        return found == move and op.outputs[0] not in self.ir.inputs

    def _is_free(self, index: int) -> bool:
        """Whether an operator can work in either layout (1)."""
        op = self.ir.operators[index]
        ends = tflite_flip.ends(self.ir, op)
        if not ends or index in self.moves:
            return False
        made = all(end in self.maker or end in self.ir.inputs for end in ends)
        return made and all(end in self.layouts for end in ends)

    def values(self) -> list[_Value]:
        """Every value that has a layout, with all its readers."""
        found: dict[str, _Value] = {}
        root_of: dict[str, str] = {}
        order = [*self.ir.inputs, *(name for op in self.ir.operators for name in op.outputs)]
        for name in order:
            if name not in self.layouts:
                continue
            made_by = self.maker.get(name, -1)
            moved = made_by in self.moves
            source = self.ir.operators[made_by].inputs[0] if moved else name
            root = root_of.setdefault(name, root_of.get(source, source))
            value = found.setdefault(root, _Value(root))
            value.members[name] = self.layouts[name]
            value.readers += [one for one in self.readers[name] if one[0] not in self.moves]
        return list(found.values())

    def cost(self, value: _Value) -> int:
        """A transpose that moves nothing is a RESHAPE."""
        shape = self.shape(value.root)
        other = LAST if value.members[value.root] == FIRST else FIRST
        free = tflite_flip.moves_nothing(shape, tflite_flip.axes_to(other, len(shape)))
        return _A_RESHAPE if free else _A_TRANSPOSE

    def apply(self, values: list[_Value], chosen: dict[int, str]) -> None:
        """Rewrite the graph; every operator in the layout chosen for it."""
        plan = {value.root: self._needs(value, chosen) for value in values}
        if not all(self._can_name(value, plan[value.root][0]) for value in values):
            return
        present = {index: self._present(index) for index in chosen}
        edits = tflite_flip.Edits(self.ir)
        inserted: dict[int, list[Any]] = defaultdict(list)
        for value in values:
            inserted[self.maker.get(value.root, -1)] += self._rewire(value, edits, plan[value.root])
        for index, layout in chosen.items():
            before, rank = present[index]
            if before != layout:
                edits.flip(self.ir.operators[index], rank, layout)
        rebuilt = list(inserted[-1])
        for index, op in enumerate(self.ir.operators):
            if index not in self.moves:
                rebuilt.append(op)
            rebuilt += inserted.get(index, [])
        self.ir.operators[:] = rebuilt
        edits.finish()

    def _rewire(
        self, value: _Value, edits: tflite_flip.Edits, plan: tuple[str, dict[tuple[int, int], str]]
    ) -> list[Any]:
        """Give a value's maker and readers its names; the transposes that must follow the maker."""
        made, needed = plan
        names = self._names(value, made)
        layouts = {made, *needed.values(), *self._outputs(value).values()}
        for layout in layouts:
            edits.shape(names[layout], value.root, value.members[value.root], layout)
        for (op, position), layout in needed.items():
            self.ir.operators[op].inputs[position] = names[layout]
        maker = self.maker.get(value.root)
        if maker is not None:
            outputs = self.ir.operators[maker].outputs
            outputs[outputs.index(value.root)] = names[made]
        return [edits.move(names[made], names[one], one) for one in sorted(layouts - {made})]

    def _present(self, index: int) -> tuple[str, int]:
        end = tflite_flip.ends(self.ir, self.ir.operators[index])[0]
        return self.layouts[end], len(self.shape(end))

    def _needs(
        self, value: _Value, chosen: dict[int, str]
    ) -> tuple[str, dict[tuple[int, int], str]]:
        """The layout that a value is made in, and the one that each reader wants."""
        maker = self.maker.get(value.root, -1)
        made = chosen.get(maker, value.members[value.root])
        needed = {}
        for op, position in value.readers:
            name = self.ir.operators[op].inputs[position]
            needed[op, position] = chosen.get(op, value.members[name])
        return made, needed

    def _outputs(self, value: _Value) -> dict[str, str]:
        """The model's outputs among the members, with their layouts."""
        return {name: value.members[name] for name in self.ir.outputs if name in value.members}

    def _can_name(self, value: _Value, made: str) -> bool:
        """Whether outputs can keep their names: one for each layout, none that is an input's."""
        outputs = self._outputs(value)
        if len(set(outputs.values())) < len(outputs):
            return False
        is_input = value.root in self.ir.inputs
        return not (is_input and any(layout == made for layout in outputs.values()))

    def _names(self, value: _Value, made: str) -> dict[str, str]:
        """One tensor name for each layout; the model's own ends keep theirs."""
        other = LAST if made == FIRST else FIRST
        names = {made: value.root, other: f"{value.root}_channels_{other}"}
        for name, layout in self._outputs(value).items():
            names[layout] = name
            if name == value.root and layout != made:
                names[made] = f"{value.root}_channels_{made}"
        return names


def _choose(graph: _Graph, values: list[_Value]) -> dict[int, str]:
    """Operator -> layout, for all that may choose, at the lowest cost."""
    cut = MinCut()
    for index in graph.free:
        cut.edge(NEAR, index, _FIRST_INSTEAD_OF_LAST)

    def node(op: int, layout: str) -> int | str:
        if op in graph.free:
            return op
        return NEAR if layout == LAST else FAR

    for number, value in enumerate(values):
        source = node(graph.maker.get(value.root, -1), value.members[value.root])
        names = ((op, graph.ir.operators[op].inputs[position]) for op, position in value.readers)
        readers = {node(op, value.members[name]) for op, name in names}
        readers |= {node(-1, layout) for layout in graph._outputs(value).values()}
        cost = graph.cost(value)
        to_first, to_last = ("first", number), ("last", number)
        cut.edge(source, to_first, cost)
        cut.edge(to_last, source, cost)
        for reader in readers:
            cut.edge(to_first, reader, INFINITE)
            cut.edge(reader, to_last, INFINITE)
    near = cut.near_side()
    return {index: LAST if index in near else FIRST for index in graph.free}


class _Groups:
    """Tensors that must share a layout."""

    def __init__(self) -> None:
        self.parents: dict[str, str] = {}

    def find(self, name: str) -> str:
        while (parent := self.parents.get(name, name)) != name:
            self.parents[name] = self.parents.get(parent, parent)
            name = parent
        return name

    def join(self, names: Iterable[str]) -> None:
        roots = [self.find(name) for name in names]
        for root in roots[1:]:
            self.parents[root] = roots[0]
            roots[0] = self.find(roots[0])
