#!/usr/bin/env python3
"""Plays back what the real edgetpu_compiler made of known models, and says that it does.

Not a compiler: it knows the models of the golden pairs by their digest, and fails on all others
and on flags that nothing was recorded with. For EDGETPU_COMPILER, in tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

GOLDEN = Path(
    os.environ.get("EDGEPIPE_GOLDEN", Path(__file__).resolve().parents[2] / "shared" / "edgetpu")
)
VERSION = "Edge TPU Compiler version 16.0.384591198 (replay of recordings, not the real compiler)"


def main(words: list[str]) -> int:
    say(VERSION)
    if "--version" in words:
        return 0
    out, models = Path(), []
    while words:
        word = words.pop(0)
        if word == "-o":
            out = Path(words.pop(0))
        elif word.startswith("-") and word != "-s":
            return fail(f"nothing was recorded with {word}")
        elif word != "-s":
            models.append(Path(word))
    if len(models) != 1:
        return fail(f"nothing was recorded of {len(models)} models together")
    return replay(models[0], out)


def replay(model: Path, out: Path) -> int:
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    pairs = GOLDEN / "pairs"
    for entry in json.loads((pairs / "manifest.json").read_text()):
        source = pairs / entry["source"]
        if hashlib.sha256(source.read_bytes()).hexdigest() == digest:
            shutil.copyfile(pairs / entry["compiled"], out / f"{model.stem}_edgetpu.tflite")
            log = recorded_log(source.stem)
            if log is None:
                say("replay: the log of this model was not recorded")
            else:
                shutil.copyfile(log, out / f"{model.stem}_edgetpu.log")
                say("\n".join(log.read_text().splitlines()[1:]))
            return 0
    return fail(f"nothing was recorded of {model.name} ({digest[:16]})")


def recorded_log(stem: str) -> Path | None:
    logs = (GOLDEN / "logs").glob("*.log")
    return next((log for log in logs if log.name.endswith(f"__{stem}_edgetpu.log")), None)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def fail(why: str) -> int:
    say(f"replay: {why}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
