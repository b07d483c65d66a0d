"""Which execution provider of ONNX Runtime ran each node, from its own profile."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

RUNS = 3
SUFFIX = "_kernel_time"


def rows(ort: Any, path: str, providers: list[Any], feeds: Any) -> list[dict[str, Any]]:
    """Nodes as ONNX Runtime fused them, with their mean seconds, in a session of its own.

    Profiling costs time and needs to be asked for before loading, so the session in use has none.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "nodes")
        session = ort.InferenceSession(path, options, providers=providers)
        for _ in range(RUNS):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith(SUFFIX):
            continue
        name, facts = event["name"].removesuffix(SUFFIX), event["args"]
        device = facts["provider"].removesuffix("ExecutionProvider")
        row = found.setdefault(
            name, {"op": facts["op_name"], "name": name, "device": device, "seconds": 0.0}
        )
        row["seconds"] += event["dur"] / 1e6 / RUNS
    return list(found.values())
