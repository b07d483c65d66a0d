"""What is measured: an artifact, the runner that executes it, where, and with which settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edgepipe import catalog
from edgepipe.artifact import Artifact
from edgepipe.runner import Runner

RUNTIMES = {
    "KerasRunner": "Keras",
    "SavedModelRunner": "TensorFlow",
    "TorchRunner": "PyTorch",
    "OnnxRunner": "ONNX Runtime",
    "TfliteRunner": "LiteRT",
    "OpenvinoRunner": "OpenVINO",
    "EdgetpuRunner": "the Edge TPU",
}


@dataclass(frozen=True)
class Subject:
    """One side of a comparison. Plain data: it goes to workers and into reports."""

    artifact: Artifact
    runner: str
    """Its class as a dotted name; of several for one format the user may choose."""
    device: str = ""
    """In the words of the runner: '' is its default, mostly the CPU."""
    threads: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the runner: a performance hint, XLA."""
    label: str = ""
    """In reports: `model_int8.tflite in LiteRT`."""

    @staticmethod
    def of(artifact: Artifact, **others: Any) -> Subject:
        """In the runner that the catalog has for the format."""
        return Subject(artifact, catalog.RUNNERS[artifact.format], **others)

    @property
    def kind(self) -> type[Runner]:
        found: type[Runner] = catalog.load(self.runner)
        return found

    @property
    def runtime(self) -> str:
        """What runs it, for people."""
        kind = self.runner.rpartition(":")[2]
        return RUNTIMES.get(kind, kind.removesuffix("Runner"))

    @property
    def toolchain(self) -> str:
        return self.kind.toolchain

    def open(self) -> Runner:
        """In a worker: its runner, to be entered. Settings that the runner lacks are an error."""
        return self.kind(self.artifact, self.threads, self.device, self.settings)

    def to_json(self) -> dict[str, Any]:
        return {
            "artifact": self.artifact.to_json(),
            "runner": self.runner,
            "device": self.device,
            "threads": self.threads,
            "settings": self.settings,
            "label": self.label,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Subject:
        return Subject(**{**data, "artifact": Artifact.from_json(data["artifact"])})
