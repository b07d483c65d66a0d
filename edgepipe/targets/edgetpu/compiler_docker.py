"""Runs the compiler in a Docker image: without network, as the user, killed by name."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgepipe.errors import OptionError, ToolMissing
from edgepipe.targets.edgetpu import compiler_process
from edgepipe.targets.edgetpu.compiler import NAME, PROBE_SECONDS, Place
from edgepipe.targets.edgetpu.compiler_process import Said

PLATFORM = "linux/amd64"


class InDocker(Place):
    """An image that has the compiler on its PATH; it is never pulled."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.words = f"in the Docker image {image}"

    @staticmethod
    def of(named: str) -> InDocker:
        image = named.removeprefix("docker:")
        if not image or image.startswith("-") or any(letter.isspace() for letter in image):
            raise OptionError(
                f"--compiler docker:IMAGE takes the name of an image, received {named!r}"
            )
        return InDocker(image)

    def ask(self, folder: Path) -> tuple[Said, str]:
        if shutil.which("docker") is None:
            raise ToolMissing(
                f"--compiler docker:{self.image} needs docker, which isn't on the PATH",
                hint="install Docker, or say --compiler ssh://user@host.",
            )
        inspect = ["docker", "image", "inspect", "--format", "{{.Id}}", self.image]
        image = compiler_process.run(inspect, folder / "image.log", PROBE_SECONDS)
        if image.code or image.why:
            raise ToolMissing(
                f"Docker has no image {self.image!r} here:"
                f" {image.why or ' '.join(image.text.split())[:300]}",
                hint=f"`docker pull {self.image}`, or build one: docs/edgetpu.md has a Dockerfile.",
            )
        said = compiler_process.run(
            [*self._start(), self.image, "--version"], folder / "said.log", PROBE_SECONDS
        )
        return said, image.text.strip()

    def run(
        self, names: Sequence[str], arguments: Sequence[str], folder: Path, seconds: float
    ) -> Said:
        container = f"edgepipe-{os.urandom(8).hex()}"
        command = [
            *self._start(),
            "--name", container,
            "--user", f"{os.getuid()}:{os.getgid()}",
            "--mount", f"type=bind,source={folder / 'in'},target=/in,readonly",
            "--mount", f"type=bind,source={folder / 'out'},target=/out",
            "--workdir", "/out",
            self.image, *arguments, "-o", "/out", *[f"/in/{name}" for name in names],
        ]  # fmt: skip
        try:
            said = compiler_process.run(command, folder / "said.log", seconds)
        except BaseException:
            _kill(container)
            raise
        if said.why:  # Only docker's client was ended; the container has a life of its own.
            _kill(container)
        return said

    @staticmethod
    def _start() -> list[str]:
        return [
            "docker", "run", "--rm", "--pull", "never", "--network", "none", "--cap-drop", "ALL",
            "--platform", PLATFORM, "--entrypoint", NAME,
        ]  # fmt: skip


def _kill(container: str) -> None:
    subprocess.run(["docker", "kill", container], capture_output=True, check=False)
