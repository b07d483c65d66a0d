"""What a validation saw, as data: one document for the terminal, the page, JUnit and CI.

Written as plain JSON (`Validation.to_json`) into `report.json` under `validation`, or as
`validation.json`. Those who show it read the JSON, for it may come from another run.
A part that was not measured is None, and `absent` says why, in words.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

SCHEMA = 1


class Verdict(str, Enum):
    """Undecided is neither: there are not enough samples (or repeats) to tell."""

    PASSED = "passed"
    FAILED = "failed"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Interval:
    """A figure with its confidence interval."""

    value: float
    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True)
class Score:
    """One metric of one output, on both sides. `difference` is paired: candidate less baseline."""

    metric: str
    output: str
    unit: str
    higher_is_better: bool
    samples: int
    candidate: Interval
    baseline: Interval | None = None
    difference: Interval | None = None
    p_value: float | None = None
    test: str = ""
    """How the difference was judged: `McNemar, exact`, `paired bootstrap, 2000 resamples`."""
    differing: int | None = None
    """On how many samples the evidence of both sides is not the same."""
    kept: str = ""
    """Of a share of samples: which of the candidate's are right, so that a later run can be
    compared with this one sample by sample; see `edgepipe.validation.since`."""


@dataclass(frozen=True)
class Timing:
    """Latency of one side, in seconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    runs: int
    load: float | None = None
    cold: float | None = None
    """The first inference after loading."""
    times: tuple[float, ...] = ()
    """In the order of measurement, thinned to 2,000 at most."""
    throughput: tuple[dict[str, Any], ...] = ()
    """{"threads": 2, "batch": 1, "per_second": 812.0}."""


@dataclass(frozen=True)
class Latency:
    candidate: Timing
    baseline: Timing | None = None
    ratio: Interval | None = None
    """Candidate to baseline, of interleaved runs; below 1 is faster."""
    machine: dict[str, Any] = field(default_factory=dict)
    """Frequency, governor, load, threads, as far as they can be read."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Memory:
    """Bytes. `process` is the growth of the peak by loading and running, `arena` the tensors'."""

    process: int | None
    arena: int | None = None
    process_baseline: int | None = None


@dataclass(frozen=True)
class Energy:
    """Joules for one inference, and the counter that was read."""

    source: str
    candidate: Interval
    baseline: Interval | None = None


@dataclass(frozen=True)
class Placement:
    """Which device each operator ran on. `rows`: {"op", "name", "device", "seconds"?}."""

    device: str
    on_device: int
    ops: int
    rows: tuple[dict[str, Any], ...] = ()
    fell_back: str = ""
    """Why it did not run where it was asked to, in words."""


@dataclass(frozen=True)
class Gate:
    """One limit, what was seen against it, and what comes of that."""

    name: str
    """As in edgepipe.toml: `max-drop`."""
    limit: str
    """As the user gave it: `0.5 points`, `512 KiB`."""
    seen: str
    """`0.32 ± 0.21 points`."""
    verdict: Verdict
    words: str
    """One sentence that stands alone, for a terminal, a JUnit failure, a pull request."""
    more_samples: int | None = None
    """Undecided: how many more would probably tell."""


@dataclass(frozen=True)
class Worst:
    """A sample on which the two sides differ most."""

    index: int
    name: str
    error: float
    candidate: str
    baseline: str
    truth: str = ""
    picture: str = ""
    """A data URI (PNG) of what was fed, where it is a picture or a signal."""


@dataclass(frozen=True)
class Confusion:
    """Rows are what is true, columns what the candidate said."""

    output: str
    names: tuple[str, ...]
    candidate: tuple[tuple[int, ...], ...]
    baseline: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True)
class Validation:
    """All of it. `candidate` and `baseline` say what was run: file, sha256, size, runner, device,
    threads, runtime's version. `data`: where, digest, samples, seconds."""

    candidate: dict[str, Any]
    baseline: dict[str, Any] | None
    data: dict[str, Any] | None
    scores: tuple[Score, ...] = ()
    confusion: tuple[Confusion, ...] = ()
    latency: Latency | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    placement: Placement | None = None
    gates: tuple[Gate, ...] = ()
    worst: tuple[Worst, ...] = ()
    absent: dict[str, str] = field(default_factory=dict)
    """Of a part that is None: why. {"energy": "no counter can be read here"}."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """Failed if any gate failed; undecided if any is; passed if there is none to break."""
        found = {gate.verdict for gate in self.gates}
        for worse in (Verdict.FAILED, Verdict.UNDECIDED):
            if worse in found:
                return worse
        return Verdict.PASSED

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "verdict": self.verdict.value, **asdict(self)}
