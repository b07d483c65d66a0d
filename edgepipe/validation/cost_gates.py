"""Limits on what a model costs: time, size, memory, energy, and what runs on the chip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edgepipe.validation import since
from edgepipe.validation.evidence import Gate, Interval, Validation, Verdict
from edgepipe.validation.limits import COSTS, Limit
from edgepipe.validation.placement import mapped_gate
from edgepipe.validation.ratio_gate import judge, quantile_gate, quantile_interval, ratio_gate

Accepted = Mapping[str, Any] | None


def absent(limit: Limit, why: str) -> Gate:
    """Undecided, too: what was not measured has kept no limit."""
    return Gate(
        limit.name, limit.text, "-", Verdict.UNDECIDED, f"{limit.name}: not measured: {why}"
    )


def gate(limit: Limit, found: Validation, accepted: Accepted) -> Gate:
    if limit.name in _TIMED:
        return _TIMED[limit.name](limit, found, accepted)
    if limit.name == "min-mapped":
        return _mapped(limit, found)
    if limit.name == "max-energy":
        return _energy(limit, found)
    if limit.name == "max-size-growth":
        return _size_growth(limit, found, accepted)
    return _bytes(limit, found)


def _ratio(limit: Limit, found: Validation, accepted: Accepted) -> Gate:
    if found.latency is None:
        return absent(limit, _why(found, "latency"))
    if found.latency.ratio is None and found.latency.baseline is None:
        return absent(limit, _why(found, "baseline"))
    spent = float(found.latency.machine.get("seconds", 0))
    return _named(ratio_gate(found.latency.ratio, limit.value, spent), limit)


def _quantile(share: float) -> Callable[[Limit, Validation, Accepted], Gate]:
    def made(limit: Limit, found: Validation, accepted: Accepted) -> Gate:
        if found.latency is None:
            return absent(limit, _why(found, "latency"))
        times = found.latency.candidate.times
        return _named(quantile_gate(limit.name, times, share, limit.value), limit)

    return made


def _growth(limit: Limit, found: Validation, accepted: Accepted) -> Gate:
    """Beside the float model of either run where there is one: that takes the machine out."""
    if accepted is None:
        return absent(limit, "no earlier run was accepted (--since FILE)")
    if found.latency is None:
        return absent(limit, _why(found, "latency"))
    then = accepted.get("latency")
    if not then:
        return absent(limit, "the accepted run measured no latency")
    if found.latency.ratio is not None and then.get("ratio"):
        grown = since.growth(found.latency.ratio, Interval(**then["ratio"]))
        what = "the latency beside the float model's"
    else:
        machine = found.latency.machine.get("cpu")
        if machine != (then.get("machine") or {}).get("cpu"):
            return absent(limit, "the accepted run was measured on another machine")
        middles = [_middle(found.latency.candidate.times), _middle(then["candidate"]["times"])]
        if middles[0] is None or middles[1] is None:
            return absent(limit, "there are too few runs")
        grown, what = since.growth(middles[0], middles[1]), "the median latency"
    seen = f"{grown.value:+.1%} ({grown.low:+.1%} to {grown.high:+.1%})"
    verdict = judge(grown, limit.value)
    words = f"{limit.name}: {what} changed by {seen} since the accepted run, "
    words += f"at most {limit.value:+.1%} is allowed"
    if verdict is Verdict.UNDECIDED:
        words += ": not enough runs to tell, measure longer with --latency-budget"
    return Gate(limit.name, limit.text, seen, verdict, words)


def _middle(times: tuple[float, ...]) -> Interval | None:
    return quantile_interval(times, 0.5)


def _mapped(limit: Limit, found: Validation) -> Gate:
    if found.placement is None and "placement" in found.absent:
        return absent(limit, found.absent["placement"])
    return _named(mapped_gate(found.placement, limit.value), limit)


def _energy(limit: Limit, found: Validation) -> Gate:
    if found.energy is None:
        return absent(limit, _why(found, "energy"))
    value = found.energy.candidate
    seen = f"{value.value:.4g} J ({value.low:.4g} to {value.high:.4g})"
    verdict = judge(value, limit.value)
    words = f"{limit.name}: one inference takes {seen}, at most {limit.value:.4g} J is allowed"
    if verdict is Verdict.UNDECIDED:
        words += ": not enough runs to tell"
    return Gate(limit.name, limit.text, seen, verdict, words)


def _bytes(limit: Limit, found: Validation) -> Gate:
    number = _BYTES[limit.name](found)
    if number is None:
        part = "memory" if limit.name in ("max-memory", "max-arena") else limit.name
        return absent(limit, _why(found, part))
    seen = f"{int(number):,} bytes"
    what = COSTS[limit.name][1]
    return _exact(limit, number, limit.value, seen,
                  f"{what} is {seen}, at most {int(limit.value):,} are allowed")  # fmt: skip


def _size_growth(limit: Limit, found: Validation, accepted: Accepted) -> Gate:
    if accepted is None:
        return absent(limit, "no earlier run was accepted (--since FILE)")
    now, then = found.candidate.get("size"), (accepted.get("candidate") or {}).get("size")
    if not now or not then:
        return absent(limit, "the size of one of both runs is not known")
    grown = now / then - 1
    seen = f"{grown:+.1%} ({now:,} bytes)"
    return _exact(limit, grown, limit.value, seen,
                  f"the size changed by {seen} since the accepted run, at most"
                  f" {limit.value:+.1%} is allowed")  # fmt: skip


def _exact(limit: Limit, number: float, most: float, seen: str, words: str) -> Gate:
    """Of what is counted there is no interval."""
    verdict = Verdict.PASSED if number <= most else Verdict.FAILED
    return Gate(limit.name, limit.text, seen, verdict, f"{limit.name}: {words}")


def _named(gate: Gate, limit: Limit) -> Gate:
    """The sentence stands alone, so it says which limit it is about."""
    return Gate(
        limit.name, limit.text, gate.seen, gate.verdict, f"{limit.name}: {gate.words}",
        gate.more_samples,
    )  # fmt: skip


def _why(found: Validation, part: str) -> str:
    return found.absent.get(part) or f"this run has no {part}"


_TIMED: dict[str, Callable[[Limit, Validation, Accepted], Gate]] = {
    "max-latency-ratio": _ratio,
    "max-latency": _quantile(0.5),
    "max-p99": _quantile(0.99),
    "max-latency-growth": _growth,
}
_BYTES: dict[str, Callable[[Validation], int | None]] = {
    "max-size": lambda found: found.candidate.get("size"),
    "max-memory": lambda found: None if found.memory is None else found.memory.process,
    "max-arena": lambda found: None if found.memory is None else found.memory.arena,
    "max-streamed-bytes": lambda found: found.candidate.get("streamed_bytes"),
}
