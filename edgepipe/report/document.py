"""`report.json`: everything that a run saw, and everything needed to do it again."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepipe import __version__, given_data, process_memory
from edgepipe.artifact import Artifact
from edgepipe.dataset import DataSource
from edgepipe.errors import EdgepipeError
from edgepipe.report import activations
from edgepipe.request import Request
from edgepipe.session import Session
from edgepipe.story import Trial

SCHEMA = 1


@dataclass(frozen=True)
class Written:
    """One file that went to the output folder."""

    path: Path
    artifact: Artifact
    size: int

    def to_json(self, folder: Path) -> dict[str, Any]:
        return {
            "path": self.path.relative_to(folder).as_posix(),
            "format": self.artifact.format.value,
            "sha256": self.artifact.digest,
            "size": self.size,
            "signature": self.artifact.ends().to_json(),
        }


@dataclass(frozen=True)
class Account:
    """What the report tells of."""

    request: Request
    source: Artifact
    trials: Sequence[Trial]
    written: Sequence[Written]
    seconds: float
    warnings: Sequence[str]
    error: EdgepipeError | None = None


def of(account: Account, session: Session, folder: Path) -> dict[str, Any]:
    """The report as JSON-able data."""
    error = account.error
    report = {
        "schema": SCHEMA,
        "edgepipe": __version__,
        "status": "done" if error is None else "failed",
        "error": None if error is None else _without_trials(error),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": sys.argv,
        "folder": str(Path.cwd()),
        "request": _request(account.request),
        "source": _source(account.source),
        "samples": {
            "from": session.samples.words(),
            "seed": session.samples.seed,
            "digest": session.samples.key(account.source.ends()),
            **_data(session.samples.data),
        },
        "calibration": _calibration(account, session),
        "tolerance": vars(session.tolerance),
        "chosen": next((trial.route for trial in account.trials if trial.status == "chosen"), None),
        "routes": [trial.to_json() for trial in account.trials],
        "outputs": [item.to_json(folder) for item in account.written],
        "activations": activations.of(session, account.written),
        "toolchains": _toolchains(session),
        "machine": _machine(),
        "warnings": list(account.warnings),
        "seconds": round(account.seconds, 3),
        "peak_memory": {
            "edgepipe": process_memory.own_peak(),
            "workers": session.peak_memory,
        },
        "workers": session.workers_started,
        "network_cut": session.isolated,
    }
    # As it will be read back: lists for tuples, and nothing that JSON can't say.
    plain: dict[str, Any] = json.loads(json.dumps(report, allow_nan=False))
    return plain


def _request(request: Request) -> dict[str, Any]:
    data = asdict(request)
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in data.items()
        if value not in (None, "", (), {}, False)
    }


def _data(source: DataSource | None) -> dict[str, Any]:
    """What was done to the user's data, in the words of [preprocessing]."""
    if source is None:
        return {}
    return {"limit": source.limit, "preprocessing": source.preprocessing.to_json()}


def _calibration(account: Account, session: Session) -> dict[str, Any] | None:
    source = account.request.data_sources().get("calibration")
    if source is None:
        return None
    return {
        "from": source.words(),
        "random": source.random,
        "seed": source.seed,
        "digest": source.key(account.source.ends()),
        "prints": _prints(account, session),
        **_data(source),
    }


def _prints(account: Account, session: Session) -> list[str]:
    """Of each sample that something was learnt from, so that a validation knows it again."""
    learning = session.learning
    if learning is None or account.error is not None:
        return []
    found = given_data.prints(session, learning.calibration, account.source.ends())
    return [digest for _, digest in found]


def _source(source: Artifact) -> dict[str, Any]:
    return {
        "path": source.loading.factory or str(source.path),
        "format": source.format.value,
        "sha256": source.digest,
        "signature": source.ends().to_json(),
    }


def _toolchains(session: Session) -> dict[str, Any]:
    return {
        name: {
            "python": str(found.python),
            "how": found.how,
            "fingerprint": found.fingerprint,
            "versions": found.versions,
        }
        for name, found in session.interpreters().items()
    }


def _machine() -> dict[str, Any]:
    return {
        "system": _system(),
        "processor": platform.machine(),
        "memory": process_memory.machine_total(),
        "python": platform.python_version(),
    }


def _system() -> str:
    """As `platform.platform` says it, which starts a process to name the processor."""
    told = os.uname()
    libc = "".join(platform.libc_ver())
    words = [told.sysname, told.release, told.machine, *(["with", libc] if libc else [])]
    return "-".join(words)


def _without_trials(error: EdgepipeError) -> dict[str, Any]:
    data = error.to_json()
    data["details"] = {
        name: value
        for name, value in data["details"].items()
        if name not in ("trials", "traceback")
    }
    return data
