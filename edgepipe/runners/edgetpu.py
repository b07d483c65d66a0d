"""Runs compiled models on an Edge TPU: libedgetpu as a delegate of LiteRT."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from edgepipe.artifact import Format
from edgepipe.errors import BrokenOutput, StageFailed, ToolMissing
from edgepipe.runners import edgetpu_library
from edgepipe.runners.tflite import TfliteRunner

FIRST = ":0"
KNOWN = (
    (
        r"unresolved custom op: edgetpu-custom-op",
        "the delegate took none of it: this libedgetpu was built for another TensorFlow Lite. Take"
        " a build that follows your version (docs/edgetpu.md).",
    ),
    (
        r"requires runtime version \(\d+\), which is newer",
        "a newer libedgetpu, or compile with --min-runtime-version; this one is {library}.",
    ),
    (
        r"unsupported data type in custom op handler",
        "LiteRT and libedgetpu are of different times (google-coral/pycoral issue 1): take a"
        " libedgetpu that follows your TensorFlow Lite (docs/edgetpu.md).",
    ),
    (
        r"usb transfer error|deadline exceeded",
        "the USB connection broke: another port or cable, or plug it in again"
        " (google-coral/edgetpu issue 11).",
    ),
)
"""The runtime's words, and what helps."""
OTHER = "a libedgetpu of 2021 fits TensorFlow Lite before 2.12 only; see docs/edgetpu.md."


class EdgetpuRunner(TfliteRunner):
    """One interpreter with the chip behind it. What was left to the CPU runs there."""

    formats: ClassVar[tuple[Format, ...]] = (Format.EDGETPU,)

    delegate: Any = None

    def load(self) -> None:
        from edgepipe.targets.edgetpu import compiled

        name = self.artifact.path.name
        needed = compiled.read(self.artifact.path).runtime_version
        library = edgetpu_library.open_library()
        library.check_version(needed, name)
        device = self.device or FIRST
        library.check_device(device)
        module = self._litert()
        try:
            self.delegate = module.load_delegate(library.path, {"device": device})
        except (ValueError, OSError, RuntimeError) as error:
            raise ToolMissing(
                f"libedgetpu can't open the Edge TPU {device!r}: {error}",
                hint="another program may hold it, or it hangs: plug it in again. "
                + edgetpu_library.out_of_reach(),
            ) from error
        try:
            super().load()
        except BrokenOutput as error:
            raise _in_words(error, name, library.words) from error

    def arena_bytes(self) -> int | None:
        return None  # Without the chip nothing runs the custom operator.

    def close(self) -> None:
        super().close()
        self.delegate = None

    def _litert(self) -> Any:
        return edgetpu_library.interpreter_module()

    def _options(self) -> dict[str, Any]:
        return {"experimental_delegates": [self.delegate]}


def _in_words(error: BrokenOutput, name: str, library: str) -> StageFailed:
    found = (hint for pattern, hint in KNOWN if re.search(pattern, error.message, re.I))
    hint = next(found, OTHER).format(library=library)
    # Of this machine, not of the model: it must not be remembered as the model's failure.
    return StageFailed(
        f"{name} can't run on the Edge TPU: {error.message}", hint=hint, type="OSError"
    )
