"""A small classifier, converted to int8, with labelled data: what bundles are made of in tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dense_net import SIZE, Net
from numpy.typing import NDArray

import edgepipe
from edgepipe import toolchain

RUNNER = Path(__file__).parent.parent / "device_tests" / "run_on_device.py"
COUNT = 60


@dataclass(frozen=True)
class Converted:
    """A folder that convert wrote, and data with labels: bytes that are scaled to [0, 1]."""

    folder: Path
    data: Path

    def bundle(self, path: Path, **arguments: Any) -> edgepipe.Bundle:
        settings = {"data": self.data, "labels": "labels", "preprocessing": {"scale": 1 / 255}}
        return edgepipe.bundle(self.folder, path=path, **{**settings, **arguments})


def converted(folder: Path) -> Converted:
    net = Net()
    hidden = net.op("RELU", "hidden", net.dense("first", net.input))
    model = net.save(
        folder / "net.tflite", net.op("SOFTMAX", "classes", net.dense("last", hidden), beta=1.0)
    )
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (COUNT, 1, SIZE), np.uint8)
    data = folder / "data.npz"
    np.savez(data, x=pixels, labels=rng.integers(0, SIZE, COUNT))
    calibration = folder / "calibration.npz"
    np.savez(calibration, x=rng.uniform(0, 1, (40, 1, SIZE)).astype(np.float32))
    out = folder / "out"
    edgepipe.convert(
        model, precision="int8", calibration=calibration, out=out, min_sqnr=0, repair="off"
    )
    return Converted(out, data)


def python_of(name: str) -> Path:
    return Path(toolchain.find(name).python)


def an_old_python(version: str) -> Path | None:
    """One that pyenv or the system has."""
    found = shutil.which(f"python{version}")
    roots = sorted(
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*")
    )
    candidates = [*([Path(found)] if found else []), *(root / "bin" / "python" for root in roots)]
    for path in candidates:
        if subprocess.run([path, "-c", "import sys"], capture_output=True).returncode == 0:
            return path
    return None


def run(
    bundle: Path, *words: str | Path, python: str | Path = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """The runner as a person on the board starts it."""
    return subprocess.run(
        [str(python or sys.executable), str(RUNNER), str(bundle), *map(str, words)],
        capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def result_of(bundle: Path, folder: Path, *words: str | Path, **settings: Any) -> dict[str, Any]:
    """The JSON of a run that ended well."""
    done = run(bundle, "--out", folder, *words, **settings)
    assert done.returncode == 0, done.stderr + done.stdout
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def model_of(result: dict[str, Any], name: str = "model_int8.tflite") -> dict[str, Any]:
    (found,) = [one for one in result["models"] if one["model"] == name]
    return dict(found)


def verdicts(result: dict[str, Any], name: str = "model_int8.tflite") -> dict[str, str]:
    return {one["check"]: one["verdict"] for one in model_of(result, name)["checks"]}


def rows(bundle: Path, member: str) -> NDArray[Any]:
    import io
    import zipfile

    with zipfile.ZipFile(bundle) as archive:
        found: NDArray[Any] = np.load(io.BytesIO(archive.read(member)))
    return found
