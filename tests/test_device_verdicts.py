"""What a board is held to: each limit passes, fails and is undecided where it should."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

run_on_device: Any = importlib.import_module("edgepipe.device_tests.run_on_device")


def outcome(limits: dict[str, float], **changed: Any) -> dict[str, str]:
    """The verdicts on what a made-up run saw."""
    column = {"sqnr_db": 30.0, "agreement": 0.9, "rows": 100, "same": 90}
    host = {"share": 0.1, "most_steps": 3, "most": 0.1, "sqnr_db": 30.0}
    seen = {
        "runtime": {"name": "x", "version": "1", "threads": 0},
        "form": "tflite",
        "placement": {"used": None, "asked": "auto", "why": ""},
        "outputs": {"y": {"host": host, "reference": column, "not_finite": 0}},
        "accuracy": None,
        "latency": {"p50": 0.01, "p90": 0.02, "p99": 0.02, "load": 1.0, "cold": 0.1,
                    "slowed": 1.0, "times": [0.01] * 90 + [0.02] * 10},
        "memory": {"growth": 10 << 20, "model": 1 << 20},
        "heat": {"highest": {}, "throttled": None, "throttled_since_boot": None},
        **changed,
    }  # fmt: skip
    args = run_on_device.parser().parse_args(["x"])
    return {one["check"]: one["verdict"] for one in run_on_device.judge(seen, limits, args)}


@pytest.mark.parametrize(
    ("name", "check", "fine", "bad"),
    [
        ("max-memory", "memory", 11 << 20, 9 << 20),
        ("max-latency", "latency", 11, 9),
        ("max-p99", "latency", 21, 9),
        ("max-steps", "host", 3, 2),
        ("min-host-sqnr", "host", 30, 31),
        ("min-sqnr", "reference", 30, 31),
        ("min-agreement", "reference", 0.8, 0.99),
    ],
)
def test_each_limit_passes_and_fails(name: str, check: str, fine: float, bad: float) -> None:
    assert outcome({})[check] == "seen"
    assert outcome({name: fine})[check] == "passed"
    assert outcome({name: bad})[check] == "failed"


def test_limit_on_what_was_not_seen_never_passes() -> None:
    nothing = {"share": 0.1, "most_steps": None, "most": 0.1, "sqnr_db": 30.0}
    column = {"sqnr_db": 30.0, "agreement": None, "rows": 0, "same": 0}
    outputs = {"y": {"host": nothing, "reference": column, "not_finite": 0}}
    assert outcome({"max-memory": 1}, memory=None)["memory"] == "undecided"
    assert outcome({"max-steps": 9}, outputs=outputs)["host"] == "undecided"
    assert outcome({"min-agreement": 0.1}, outputs=outputs)["reference"] == "undecided"
    assert outcome({"max-drop": 9})["accuracy"] == "failed"


def test_nothing_agreeing_is_no_agreement() -> None:
    column = {"sqnr_db": 30.0, "agreement": 0.0, "rows": 100, "same": 0}
    outputs = {"y": {"reference": column, "not_finite": 0}}
    assert outcome({"min-agreement": 0.5}, outputs=outputs)["reference"] == "failed"


def test_numbers_that_are_none_fail_the_host_check() -> None:
    host = {"share": 0.1, "most_steps": 3, "most": 0.1, "sqnr_db": 30.0}
    assert outcome({}, outputs={"y": {"host": host, "not_finite": 2}})["host"] == "failed"
