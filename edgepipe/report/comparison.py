"""Two reports of the same request: versions, digests, files, figures, outcome; what is worse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LESS_DB = 1.0
"""A proof that lost as much is worse; less comes from other kernels of the same version."""
MOST_PACKAGES = 12
ORDER = {"passed": 0, "undecided": 1, "failed": 2}


@dataclass(frozen=True)
class Difference:
    """`kind`: version, machine, input, route, file, figure, gate or outcome."""

    kind: str
    what: str
    before: str
    after: str
    worse: bool = False

    def words(self) -> str:
        mark = " (worse)" if self.worse else ""
        return f"{self.kind} {self.what}: {self.before} → {self.after}{mark}"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """What was, and what is now; times and memory are not compared, they differ each time."""
    yield from _versions(before, after)
    yield from _inputs(before, after)
    if before["status"] != after["status"]:
        fell = after["status"] != "done"
        yield Difference("outcome", "status", before["status"], after["status"], fell)
    if before["chosen"] != after["chosen"]:
        yield Difference("route", "chosen", str(before["chosen"]), str(after["chosen"]))
    yield from _files(before, after)
    yield from _proofs(before, after)
    yield from _validation(before.get("validation"), after.get("validation"))


def _versions(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    if before["edgepipe"] != after["edgepipe"]:
        yield Difference("version", "edgepipe", before["edgepipe"], after["edgepipe"])
    for name in ("system", "processor", "python"):
        then, now = before["machine"].get(name), after["machine"].get(name)
        if then != now:
            yield Difference("machine", name, str(then), str(now))
    for name, now in after["toolchains"].items():
        then = before["toolchains"].get(name)
        if then is None or then["fingerprint"] == now["fingerprint"]:
            continue
        packages = sorted({*then["versions"], *now["versions"]})
        pairs = [(one, then["versions"].get(one), now["versions"].get(one)) for one in packages]
        moved = [pair for pair in pairs if pair[1] != pair[2]]
        for package, old, new in moved[:MOST_PACKAGES]:
            yield Difference("version", f"{package} in {name}", old or "absent", new or "absent")
        if len(moved) > MOST_PACKAGES or not moved:
            rest = f"{len(moved) - MOST_PACKAGES} more packages" if moved else "its Python"
            yield Difference("version", f"{rest} in {name}", "one", "another")


def _inputs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    pairs = [("source", before["source"]["sha256"], after["source"]["sha256"])]
    for name in ("samples", "calibration"):
        then, now = before.get(name), after.get(name)
        if then and now:
            pairs.append((name, then["digest"], now["digest"]))
    for name, old, new in pairs:
        if old != new:
            yield Difference("input", name, _short(old), _short(new))


def _files(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    then = {item["path"]: item for item in before["outputs"]}
    now = {item["path"]: item for item in after["outputs"]}
    for name in [*then, *(name for name in now if name not in then)]:
        old, new = then.get(name), now.get(name)
        if old is None or new is None:
            yield Difference("file", name, _there(old), _there(new), worse=new is None)
        elif old["sha256"] != new["sha256"]:
            yield Difference("file", name, _told(old), _told(new))


def _there(item: Mapping[str, Any] | None) -> str:
    return "absent" if item is None else _told(item)


def _told(item: Mapping[str, Any]) -> str:
    return f"{_short(item['sha256'])}, {item['size']:,} bytes"


def _short(digest: object) -> str:
    return f"{str(digest)[:12]}…" if digest else "none"


def _proofs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    """Of the same steps; the end of the route as well."""
    then, now = _figures(before), _figures(after)
    for name, old in then.items():
        new = now.get(name)
        if new is None or f"{old:.1f}" == f"{new:.1f}":
            continue
        fell = old - new > LESS_DB
        yield Difference("figure", f"SQNR of {name}", f"{old:.1f} dB", f"{new:.1f} dB", fell)


def _figures(report: Mapping[str, Any]) -> dict[str, float]:
    chosen = next((one for one in report["routes"] if one["status"] == "chosen"), None)
    if chosen is None:
        return {}
    proofs = {step["stage"]: step["proof"] for step in chosen["steps"]}
    proofs["the whole route"] = chosen["end_to_end"]
    return {
        name: float(proof["sqnr_db"])
        for name, proof in proofs.items()
        if proof and not proof["not_run"]
    }


def _validation(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> Iterator[Difference]:
    if before is None or after is None:
        return
    then = {(one["metric"], one["output"]): one["candidate"]["value"] for one in before["scores"]}
    for one in after["scores"]:
        old, new = then.get((one["metric"], one["output"])), one["candidate"]["value"]
        if old is not None and f"{old:.6g}" != f"{new:.6g}":
            unit = f" {one['unit']}" if one["unit"] else ""
            what = f"{one['metric']} of {one['output']}"
            fell = _fell(one, before, after)
            yield Difference("figure", what, f"{old:.6g}{unit}", f"{new:.6g}{unit}", fell)
    verdicts = {gate["name"]: gate["verdict"] for gate in before["gates"]}
    for gate in after["gates"]:
        earlier = verdicts.get(gate["name"])
        if earlier is not None and earlier != gate["verdict"]:
            fell = ORDER[gate["verdict"]] > ORDER[earlier]
            yield Difference("gate", gate["name"], earlier, gate["verdict"], fell)


def _fell(one: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a score is worse by more than chance, sample by sample where both runs kept that."""
    from edgepipe.validation import since
    from edgepipe.validation.evidence import Interval, Score, Validation

    sides = {
        name: None if one.get(name) is None else Interval(**one[name])
        for name in ("candidate", "baseline", "difference")
    }
    now = Validation(after["candidate"], after.get("baseline"), after.get("data"))
    change = since.change(Score(**{**one, **sides}), now, before).interval
    if change is None:
        return False
    return change.high < 0 if one["higher_is_better"] else change.low > 0
