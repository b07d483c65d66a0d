"""Changes to a graph that keep it whole: replace, insert, remove, rename, prune, extract."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace as changed

from edgepipe.errors import UnsupportedModel
from edgepipe.tflite.graph import Graph, Model, Op, Signature, Tensor

CONTROL = ("subgraph", "_subgraph_index", "_subgraph_indices")
"""Endings of options that name other graphs by number."""


def replace(model: Model, graph: Graph, old: Tensor, new: Tensor) -> None:
    """Whatever reads `old` reads `new` instead: operators, outputs, signatures.

    An output of the graph keeps the name that it has: callers know it by that.
    """
    for op in graph.ops:
        op.inputs = [new if tensor is old else tensor for tensor in op.inputs]
    if old not in graph.outputs:
        return
    graph.outputs = [new if tensor is old else tensor for tensor in graph.outputs]
    for signature in model.signatures:
        if signature.graph is graph:
            signature.outputs = [
                (name, new if tensor is old else tensor) for name, tensor in signature.outputs
            ]
    if new not in graph.inputs:
        old.name, new.name = new.name, old.name


def insert(graph: Graph, ops: Iterable[Op], before: Op) -> None:
    """Put operators in front of another one."""
    place = _place(graph, before)
    graph.ops[place:place] = list(ops)


def remove(graph: Graph, ops: Iterable[Op]) -> None:
    """Take operators out; what still reads their results must have been given others."""
    gone = {id(op) for op in ops}
    made = {id(tensor) for op in graph.ops if id(op) in gone for tensor in op.outputs}
    graph.ops = [op for op in graph.ops if id(op) not in gone]
    made -= {id(tensor) for op in graph.ops for tensor in op.outputs}
    read = [tensor for op in graph.ops for tensor in op.reads()]
    for tensor in (*read, *graph.outputs):
        if id(tensor) in made:
            raise UnsupportedModel(
                f"{tensor.name!r} is still read, and what made it was removed",
                hint="edit.replace() it first.",
            )


def substitute(graph: Graph, old: Sequence[Op], new: Sequence[Op]) -> None:
    """New operators for old ones, where the last of the old ones stood."""
    insert(graph, new, before=max(old, key=lambda op: _place(graph, op)))
    remove(graph, old)


def rename(graph: Graph, tensor: Tensor, name: str) -> None:
    if any(other.name == name for other in graph.all_tensors() if other is not tensor):
        raise UnsupportedModel(f"two tensors can't be called {name!r}")
    tensor.name = name


def name_apart(model: Model) -> int:
    """Give each tensor of the model a name of its own, the ends of the main graph theirs."""
    tensors = [*model.main.inputs, *model.main.outputs]
    tensors += [tensor for graph in model.graphs for tensor in graph.all_tensors()]
    taken: dict[str, int] = {}
    changes = 0
    for tensor in dict.fromkeys(tensors):
        wish = name = tensor.name or "tensor"
        while name in taken:
            taken[wish] += 1
            name = f"{wish}_{taken[wish]}"
        taken[name] = 0
        changes += name != tensor.name
        tensor.name = name
    return changes


def sort(graph: Graph) -> None:
    """Bring operators into an order in which each reads what was made before, changing little."""
    waiting = list(graph.ops)
    producers = {id(tensor): op for op in graph.ops for tensor in op.outputs}
    done: dict[int, Op] = {}
    open_: set[int] = set()
    for first in waiting:
        stack = [first]
        while stack:
            op = stack[-1]
            needs = [
                producers[id(tensor)]
                for tensor in op.reads()
                if id(tensor) in producers and id(producers[id(tensor)]) not in done
            ]
            needs = [one for one in needs if one is not op]
            if id(op) in done or not needs:
                done.setdefault(id(op), op)
                open_.discard(id(op))
                stack.pop()
                continue
            open_.add(id(op))
            if any(id(one) in open_ for one in needs):
                raise UnsupportedModel(f"operators of graph {graph.name!r} wait for each other")
            stack.extend(needs)
    graph.ops = list(done.values())


_EFFECTS = {
    "ASSIGN_VARIABLE", "CALL_ONCE", "CALL", "WHILE", "IF", "CUSTOM", "HASHTABLE_IMPORT",
    "VAR_HANDLE", "HASHTABLE",
}  # fmt: skip
"""Operators that may do something besides making their outputs."""


def prune(graph: Graph) -> int:
    """Drop operators whose results nobody reads, then tensors that nothing names; says how many
    operators went. Inputs stay, read or not."""
    needed = {id(tensor) for tensor in graph.outputs}
    kept: list[Op] = []
    for op in reversed(graph.ops):
        writes_state = any(tensor.variable for tensor in op.reads())
        if op.name in _EFFECTS or writes_state or any(id(one) in needed for one in op.outputs):
            kept.append(op)
            needed.update(id(tensor) for tensor in op.reads())
    dropped = len(graph.ops) - len(kept)
    graph.ops = kept[::-1]
    used = set(Graph(graph.name, [], graph.ops, graph.inputs, graph.outputs).all_tensors())
    graph.tensors = [tensor for tensor in graph.tensors if tensor in used]
    return dropped


def extract(
    model: Model, ops: Sequence[Op], inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> Model:
    """Some operators as a model of its own, between the given tensors, in the order given.

    What they read and nothing there makes must be a constant or among the inputs. The operators
    and tensors are copies, their values are shared; the original stays as it is.
    """
    graph = next((one for one in model.graphs if ops and ops[0] in one.ops), model.main)
    chosen = {id(op) for op in ops}
    copies: dict[Tensor, Tensor] = {}
    made = Graph(graph.name or "main")
    made.inputs = [_copy(copies, tensor) for tensor in inputs]
    for tensor in made.inputs:
        tensor.data = None
    known = {id(tensor) for tensor in inputs}
    for op in (op for op in graph.ops if id(op) in chosen):
        for tensor in op.reads():
            if id(tensor) not in known and not tensor.is_constant and not tensor.variable:
                raise UnsupportedModel(
                    f"{op.label} reads {tensor.name!r}, which is no constant and no input",
                    hint="add it to the inputs, or add the operator that makes it.",
                )
        known.update(id(tensor) for tensor in op.outputs)
        made.ops.append(_copied(op, copies))
    for tensor in outputs:
        if id(tensor) not in known:
            raise UnsupportedModel(f"none of the operators makes {tensor.name!r}")
    made.outputs = [_copy(copies, tensor) for tensor in outputs]
    made.tensors = list(copies.values())
    others = list(model.graphs[1:]) if any(_calls(op) for op in made.ops) else []
    ends = [[(tensor.name, tensor) for tensor in side] for side in (made.inputs, made.outputs)]
    signature = Signature("serving_default", made, ends[0], ends[1])
    return Model([made, *others], [signature], [], model.description, model.version)


def copy(model: Model) -> Model:
    """A model that can be changed without changing this one; values are shared."""
    graphs: list[Graph] = []
    maps: list[dict[Tensor, Tensor]] = []
    for graph in model.graphs:
        copies: dict[Tensor, Tensor] = {}
        maps.append(copies)
        graphs.append(
            Graph(
                graph.name,
                [_copy(copies, tensor) for tensor in graph.all_tensors()],
                [_copied(op, copies) for op in graph.ops],
                [_copy(copies, tensor) for tensor in graph.inputs],
                [_copy(copies, tensor) for tensor in graph.outputs],
                graph.debug_metadata,
            )
        )
    signatures = []
    for one in model.signatures:
        number = next(i for i, graph in enumerate(model.graphs) if graph is one.graph)
        ends = [
            [(name, maps[number][tensor]) for name, tensor in side]
            for side in (one.inputs, one.outputs)
        ]
        signatures.append(Signature(one.key, graphs[number], ends[0], ends[1], one.old_tag))
    return changed(model, graphs=graphs, signatures=signatures, metadata=list(model.metadata))


def _copy(copies: dict[Tensor, Tensor], tensor: Tensor) -> Tensor:
    if tensor not in copies:
        copies[tensor] = changed(tensor)
        if tensor.quantization is not None and tensor.quantization.refers:
            refers = tuple((key, _copy(copies, one)) for key, one in tensor.quantization.refers)
            copies[tensor].quantization = changed(tensor.quantization, refers=refers)
    return copies[tensor]


def _copied(op: Op, copies: dict[Tensor, Tensor]) -> Op:
    options = op.options
    if options is not None:
        options = type(options)(options.kind, **options.values)

    def some(tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
        return [None if one is None else _copy(copies, one) for one in tensors]

    return changed(
        op,
        inputs=some(op.inputs),
        outputs=[_copy(copies, tensor) for tensor in op.outputs],
        options=options,
        rest=dict(op.rest),
        intermediates=None if op.intermediates is None else some(op.intermediates),
    )


def _calls(op: Op) -> bool:
    return op.options is not None and any(name.endswith(CONTROL) for name in op.options.values)


def _place(graph: Graph, op: Op) -> int:
    for place, one in enumerate(graph.ops):
        if one is op:
            return place
    raise UnsupportedModel(f"{op.label} is not in graph {graph.name!r}")
