"""Whether this machine has an NVIDIA GPU, told without importing a framework."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

from edgepipe.errors import ToolMissing

PATIENCE_SECONDS = 10
"""nvidia-smi waits for a driver that hangs."""
WORDS = ("gpu", "cuda")


def is_gpu(device: str) -> bool:
    """Whether the words for a device mean CUDA's; OpenVINO's GPU is written in capitals."""
    return device.startswith(WORDS)


@functools.cache
def present() -> tuple[str, ...]:
    """The names of the GPUs; of a driver that has no nvidia-smi the device files."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        try:
            told = subprocess.run(
                [program, "--query-gpu=name", "--format=csv,noheader"],
                capture_output=True, text=True, timeout=PATIENCE_SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            told = None
        if told is not None and told.returncode == 0:
            return tuple(line.strip() for line in told.stdout.splitlines() if line.strip())
    return tuple(sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*")))


def require() -> None:
    if not present():
        raise ToolMissing(
            "a GPU was asked for, and this machine has none: neither nvidia-smi nor /dev tells of"
            " one",
            hint="leave out --baseline-device gpu, or run it where there is one.",
        )


def unusable(framework: str, why: str, toolchain: str) -> ToolMissing:
    """The GPU is there, and this build of a framework makes no use of it."""
    variable = f"EDGEPIPE_PYTHON_{toolchain.replace('-', '_').upper()}"
    return ToolMissing(
        f"{framework} can't use the GPU: {why}",
        hint="the toolchains that edgepipe installs are for the CPU; name a Python with a build for"
        f" CUDA: {variable}=/path/to/python.",
    )
