"""Sets what the compiler did beside what preflight foretold: every difference is one line."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgepipe.targets.edgetpu.compile_log import MAPPED, ModelLog
from edgepipe.targets.edgetpu.compiled import SourceOp
from edgepipe.targets.edgetpu.memory import Forecast
from edgepipe.targets.edgetpu.preflight import Preflight, Verdict
from edgepipe.tflite.graph import Graph

SHARE, LEAST_BYTES = 0.02, 1024
"""How far parameters may be from what was foretold: a share of them, and so many in any case."""
UNTOLD = "left on the CPU without a reason"


@dataclass(frozen=True)
class Disagreement:
    """`index` of -1: of all operators of that kind together."""

    index: int
    op: str
    output: str
    foretold: str
    compiler: str
    why: str = ""

    def words(self) -> str:
        which = f"op {self.index} {self.op} {self.output}" if self.index >= 0 else self.op
        why = f" ({self.why})" if self.why else ""
        return f"{which}: foretold {self.foretold!r}, the compiler: {self.compiler!r}{why}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    foretold: Preflight,
    happened: Sequence[SourceOp],
    log: ModelLog | None,
    behind: frozenset[int] = frozenset(),
) -> list[Disagreement]:
    """`happened` is read off the compiled file, the words off the log.

    `behind` are the operators that were left out by wish (-i).
    """
    statuses = _statuses(log)
    found = []
    agreed: list[Verdict] = []
    for verdict, real in zip(foretold.verdicts, happened, strict=True):
        if verdict.mapped == real.mapped:
            agreed.append(verdict)
            continue
        left = statuses.get(_kind(verdict.op), [])
        told = MAPPED if real.mapped else left[0] if len(left) == 1 else UNTOLD
        wished = "left out by -i" if verdict.index in behind and not real.mapped else ""
        found.append(
            Disagreement(verdict.index, verdict.op, verdict.output, verdict.status, told, wished)
        )
    return found + _other_words(agreed, found, log)


def compare_memory(foretold: Forecast, cached: int, streamed: int) -> list[Disagreement]:
    """Parameters, and what of them is streamed; for a file whose mapping is as foretold."""
    found = []
    total = cached + streamed
    if not _near(foretold.parameters, total):
        found.append(Disagreement(-1, "parameters", "", _bytes(foretold.parameters), _bytes(total)))
    least, most = foretold.streamed_least, foretold.streamed_most
    if not (least <= streamed <= most or _near(least, streamed) or _near(most, streamed)):
        told = _bytes(most) if least == most else f"{least:,} to {_bytes(most)}"
        found.append(Disagreement(-1, "streamed parameters", "", told, _bytes(streamed)))
    return found


def _near(one: int, other: int) -> bool:
    return abs(one - other) <= max(SHARE * other, LEAST_BYTES)


def _bytes(count: int) -> str:
    return f"{count:,} bytes"


def behind(graph: Graph, stops: Sequence[str]) -> frozenset[int]:
    """The operators that come after these tensors."""
    reached = {id(one) for op in graph.ops for one in op.outputs if one.name in stops}
    found = set()
    for index, op in enumerate(graph.ops):
        if any(id(one) in reached for one in op.reads()):
            found.add(index)
            reached |= {id(one) for one in op.outputs}
    return frozenset(found)


def log_against_file(happened: Sequence[SourceOp], log: ModelLog | None) -> list[str]:
    """Where the log counts other operators as mapped than the compiled file shows."""
    if log is None or not log.rows:
        return []
    in_file = Counter(_kind(one.name) for one in happened if one.mapped)
    in_log: Counter[str] = Counter()
    for (op, status), count in log.table.items():
        if status == MAPPED:
            in_log[op] += count
    return [
        f"the log counts {in_log[op]} {op} as mapped, the file {in_file[op]}"
        for op in sorted({*in_file, *in_log})
        if in_log[op] != in_file[op]
    ]


def _other_words(
    agreed: Sequence[Verdict], differing: Sequence[Disagreement], log: ModelLog | None
) -> list[Disagreement]:
    """On the CPU as foretold, but for another reason than the compiler gives."""
    if log is None or not log.rows:
        return []
    ours: dict[str, Counter[str]] = defaultdict(Counter)
    for verdict in agreed:
        if not verdict.mapped:
            ours[_kind(verdict.op)][verdict.status] += 1
    theirs: dict[str, Counter[str]] = defaultdict(Counter)
    for (op, status), count in log.table.items():
        if status != MAPPED:
            theirs[op][status] += count
    for one in differing:
        if one.compiler not in (MAPPED, UNTOLD):
            theirs[_kind(one.op)][one.compiler] -= 1
    found = []
    for op, counts in ours.items():
        extra, missing = counts - theirs[op], theirs[op] - counts
        if extra:
            found.append(Disagreement(-1, op, "", _counted(extra), _counted(missing) or UNTOLD))
    return found


def _statuses(log: ModelLog | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for op, status in log.table if log else ():
        if status != MAPPED:
            found[op].append(status)
    return found


def _kind(op: str) -> str:
    """A custom operator's name isn't in the compiler's table."""
    return op.partition(":")[0]


def _counted(counts: Counter[str]) -> str:
    return "; ".join(f"{count} x {status}" for status, count in sorted(counts.items()))
