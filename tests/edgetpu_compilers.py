"""Programs that stand where edgetpu_compiler would: a replay of real output, and ones that fail."""

from __future__ import annotations

import sys
from pathlib import Path

from edgetpu_files import PAIRS, pair

REPLAY = Path(__file__).with_name("edgetpu_replay.py")
VERSION = "Edge TPU Compiler version 16.0.384591198 (stand-in of a test)"

_SCRIPT = """#!{python}
import os, shutil, signal, sys, time
from pathlib import Path
words = sys.argv[1:]
def say(text):
    sys.stdout.write(text + "\\n")
    sys.stdout.flush()
say({version!r})
if "--version" in words:
    sys.exit(0)
out = Path(words[words.index("-o") + 1])
models = [Path(word) for word in words if word.endswith(".tflite")]
calls = Path({calls!r})
count = len(calls.read_text()) if calls.exists() else 0
calls.write_text("x" * (count + 1))
{body}
"""


def compiler(folder: Path, body: str) -> Path:
    """A program that does `body` when it is asked to compile; `count` calls were before this."""
    path = folder / "edgetpu_compiler"
    calls = str(folder / "calls")
    text = _SCRIPT.format(python=sys.executable, version=VERSION, calls=calls, body=body)
    path.write_text(text)
    path.chmod(0o755)
    return path


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text())


def copying(entry: dict[str, str]) -> str:
    """Gives the real compiled file of a pair, whatever it is given."""
    real = str(pair("compiled", entry))
    return f"for m in models: shutil.copyfile({real!r}, out / (m.stem + '_edgetpu.tflite'))\n"


def entry_of(source: str) -> dict[str, str]:
    """A golden pair by the name of its source."""
    return next(entry for entry in PAIRS if entry["source"] == source)


def mapping_all(segments: int = 1) -> str:
    """Puts one chip operator in place of all others, or of each half, with a made-up package."""
    tests = str(Path(__file__).parent)
    return f"""
sys.path.insert(0, {tests!r})
from edgetpu_files import cached, options, package
from tflite_models import model_of
from edgepipe.tflite import loading, saving
from edgepipe.tflite.graph import Op
def chip(model, path):
    graph = model.main
    data = options(package(cached()))
    graph.ops = [Op("CUSTOM", list(graph.inputs), list(graph.outputs), custom="edgetpu-custom-op",
                    custom_options=data)]
    saving.save(model, path)
for m in models:
    model = loading.load(m)
    if {segments} == 1:
        chip(model, out / (m.stem + "_edgetpu.tflite"))
        continue
    last = model.main.inputs
    for number, op in enumerate(model.main.ops):
        name = f"{{m.stem}}_segment_{{number}}_of_{segments}"
        part = model_of([op], last, op.outputs)
        last = op.outputs
        saving.save(part, out / (name + ".tflite"))
        chip(loading.load(out / (name + ".tflite")), out / (name + "_edgetpu.tflite"))
"""
