"""Describes models that Vela compiled; running one takes an Ethos-U, which no host has."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from edgepipe.artifact import Artifact, Format
from edgepipe.errors import UnsupportedModel
from edgepipe.runner import Description, Runner

if TYPE_CHECKING:
    from edgepipe.runner import Tensors


class EthosuRunner(Runner):
    """Says what is in the file; what it computes is asked of the int8 model before it."""

    formats: ClassVar[tuple[Format, ...]] = (Format.ETHOSU,)
    # That of its stand-in: the int8 model runs in LiteRT.
    toolchain: ClassVar[str] = "edge"
    describes_in_core: ClassVar[bool] = True

    @classmethod
    def describe(cls, artifact: Artifact) -> Description:
        from edgepipe.targets.ethosu import compiled
        from edgepipe.tflite import reader

        model = reader.read(artifact.path)
        found = compiled.of_model(model, artifact.path.name)
        facts = {"accelerator": ", ".join(found.accelerators), "subgraphs": len(model.subgraphs)}
        return Description(model.signature(), model.ops(), None, facts)

    def load(self) -> None:
        raise UnsupportedModel(
            f"{self.artifact.path.name} is compiled for an Ethos-U, and there is none here",
            hint="run the int8 model that it was made of: it computes the same.",
        )

    def infer(self, feeds: Tensors) -> Tensors:
        self.load()
        return feeds
