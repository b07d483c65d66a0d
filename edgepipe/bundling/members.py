"""The members of a bundle, made one after the other: models, samples, references, the runner."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe import catalog, making
from edgepipe.artifact import QUANTIZED, Artifact, Format, Port, Signature
from edgepipe.bundling import contents, limits
from edgepipe.bundling.contents import Contents, Member
from edgepipe.bundling.sealing import Sealing
from edgepipe.session import Session

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNNER = "run_on_device.py"
START = '"""Runs the bundle that this lies in."""\n\nimport run_on_device, sys\n\n' + (
    "sys.exit(run_on_device.main([sys.argv[0]] + sys.argv[1:]))\n"
)
"""Makes `python3 model.edgebundle` do what the runner does."""


class Made:
    """The members of the archive, made as files one after the other."""

    def __init__(
        self,
        session: Session,
        found: Contents,
        folder: Path,
        feeds: Path,
        answer: dict[str, Any],
        samples: str,
    ) -> None:
        self.session = session
        self.found = found
        self.folder = folder
        self.feeds = feeds
        self.raw: dict[str, Any] = answer["raw"]
        self.numbers: list[int] = answer["labels"]
        self.samples = samples
        self.members: dict[str, Path] = {}

    def model(self, member: Member, sealing: Sealing) -> dict[str, Any]:
        """One model's part of the manifest; its files and arrays become members."""
        self.session.listener.step_started("bundle", f"outputs of {member.name}", member.form)
        files = {}
        for part, path in contents.files(member).items():
            name = f"models/{member.name}" + (
                f"/{path.name}" if path != member.artifact.path else ""
            )
            if sealing.key:
                name += ".enc"
                sealed = self.folder / f"sealed-{len(self.members)}"
                sealed.write_bytes(sealing.encrypt(name, path.read_bytes()))
                path = sealed
            files[part] = name
            self.members[name] = path
        ends, known = member.artifact.ends(), _scales(member.expected)
        quantized = member.artifact.format not in (Format.TFLITE, Format.OPENVINO)
        return {
            "name": member.name,
            "form": member.form,
            "precision": member.precision,
            "primary": member.primary,
            "encrypted": bool(sealing.key),
            "files": files,
            "sha256": member.artifact.digest,
            "needs": _needs(member.artifact),
            "inputs": [self._input(port) for port in ends.inputs],
            "outputs": [self._output(member, port, known) for port in ends.outputs],
            "host": self._host(member.expected),
            "min_host_sqnr": limits.QUANTIZED_DB if quantized else limits.FLOAT_DB,
        }

    def labels(self) -> None:
        import numpy as np

        path = self.folder / "labels.npy"
        np.save(path, np.array(self.numbers, np.int64))
        self.members["samples/labels.npy"] = path

    def runner(self) -> None:
        """The runner itself, so that whoever has the bundle has all of it."""
        module = catalog.load("edgepipe.device_tests.run_on_device:__file__")
        start = self.folder / "__main__.py"
        start.write_text(START, encoding="ascii")
        self.members[RUNNER] = Path(module)
        self.members["__main__.py"] = start

    def _input(self, port: Port) -> dict[str, Any]:
        from edgepipe.bundling import samples

        steps = self.raw.get(port.name)
        file = self._array("samples", port, Path(f"{self.feeds}.raw") if steps else self.feeds)
        return {
            "name": port.name,
            "tensor": port.tensor or port.name,
            "shape": list(port.shape or ()),
            "dtype": port.dtype,
            "file": file,
            "steps": samples.in_file_layout(steps, port) if steps else None,
        }

    def _output(self, member: Member, port: Port, known: dict[str, Any]) -> dict[str, Any]:
        reference = making.outputs(self.session, self.found.source, self.samples, self.feeds)
        expected = making.outputs(self.session, member.expected, self.samples, self.feeds)
        scales = known.get(port.tensor or port.name, {})
        stored = scales if port.dtype in ("int8", "uint8", "int16") else {}
        prefix = f"expected/{member.expected.path.stem}-{member.expected.digest[:8]}"
        return {
            "name": port.name,
            "tensor": port.tensor or port.name,
            "shape": list(port.shape or ()),
            "dtype": port.dtype,
            "step": scales.get("scale"),
            "reference": self._array("reference", port, reference),
            "expected": self._array(prefix, port, expected, stored),
        }

    def _array(
        self, prefix: str, port: Port, file: Path, stored: dict[str, Any] | None = None
    ) -> str:
        """One end's values over all samples, in the layout of the file; once for each layout."""
        from edgepipe.bundling import samples

        order = "".join(map(str, port.permutation)) if port.permutation else "given"
        place = [end.name for end in (*self._given.inputs, *self._given.outputs)].index(port.name)
        name = f"{prefix}/{place}-{order}.npy"
        if name not in self.members:
            path = self.folder / name.replace("/", "-")
            samples.write_rows(path, self._rows(port, file, stored), len(self.numbers))
            self.members[name] = path
        return name

    @property
    def _given(self) -> Signature:
        return self.found.source.ends()

    def _rows(
        self, port: Port, file: Path, stored: dict[str, Any] | None
    ) -> Iterator[NDArray[Any]]:
        import numpy as np

        from edgepipe import tensors
        from edgepipe.bundling import samples

        # The last one is the first again, to see whether the model repeats itself.
        for sample in islice(tensors.read(file), len(self.numbers)):
            array = samples.laid_out(sample[port.name], port)
            if stored:
                whole = np.rint(array / np.float32(stored["scale"])) + stored["zero_point"]
                array = whole.astype(port.dtype)
            yield array

    def _host(self, expected: Artifact) -> dict[str, Any]:
        name = catalog.runner(expected.format).toolchain
        versions = self.session.interpreter(name).versions
        runtime = "openvino" if name == "openvino" else "ai-edge-litert"
        return {
            "runtime": runtime,
            "version": versions.get(runtime, ""),
            "machine": platform.machine(),
            "of": expected.path.name,
        }


def _scales(artifact: Artifact) -> dict[str, Any]:
    """Scales and zero points of a TFLite file's outputs; of floats those before DEQUANTIZE."""
    if artifact.format not in QUANTIZED or artifact.format is Format.OPENVINO_QUANTIZED:
        return {}
    from edgepipe.tflite import reader

    graph = reader.read(artifact.path).main
    found = {}
    for index in graph.outputs:
        tensor = graph.tensors[index]
        quantization = tensor.quantization
        for op in graph.operators:
            if quantization is None and op.name == "DEQUANTIZE" and index in op.outputs:
                quantization = graph.tensors[op.inputs[0]].quantization
        if quantization is not None and len(quantization.scales) == 1:
            zero = quantization.zero_points[0] if quantization.zero_points else 0
            found[tensor.name] = {"scale": quantization.scales[0], "zero_point": zero}
    return found


def _needs(artifact: Artifact) -> dict[str, Any]:
    if artifact.format is not Format.EDGETPU:
        return {}
    from edgepipe.targets.edgetpu import compiled

    return {"edgetpu_runtime": compiled.read(artifact.path).runtime_version}
