"""What is done to the outputs of both sides before metrics see them: built in, or the user's."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgepipe import catalog
from edgepipe.artifact import Port, Signature
from edgepipe.code_digest import code_digest
from edgepipe.data.kind import names_function
from edgepipe.errors import OptionError, TrustRequired, UnknownName, UserCodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgepipe.request import Request
    from edgepipe.runner import Tensors

SETTINGS = {
    "softmax": {"axis"},
    "sigmoid": set[str](),
    "argmax": {"axis"},
    "yolo": {"conf", "iou", "form", "classes", "height", "width"},
    "ssd": {"conf", "iou", "order", "background"},
}


@dataclass(frozen=True)
class Step:
    """Plain data: it goes to workers and into keys. `digest` is that of the user's code."""

    name: str
    output: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    python_path: tuple[str, ...] = ()
    digest: str = ""

    @staticmethod
    def of(text: str, request: Request) -> Step:
        """`softmax`, `softmax@scores`, `yolo:conf=0.25,iou=0.5`, `module:function`."""
        if names_function(text):
            if not request.trust:
                raise TrustRequired(
                    f"{text} is code, and post-processing would run it",
                    hint="if you trust it, add --trust.",
                )
            path = tuple(map(str, request.python_path))
            return Step(text, "", {}, path, code_digest([text], path))
        head, _, tail = text.partition(":")
        name, _, output = head.partition("@")
        if name not in catalog.POSTPROCESSING:
            raise UnknownName.of("post-processing", name, catalog.POSTPROCESSING)
        return Step(name, output, _settings(name, tail))

    @property
    def is_function(self) -> bool:
        return names_function(self.name)

    def placed(self, ends: Signature) -> Step:
        """With the size of the picture that a detector is fed, unless it was said."""
        if self.name != "yolo" or not ends.inputs:
            return self
        shape = [size or 0 for size in ends.inputs[0].given_shape() or ()]
        if len(shape) != 4:
            return self
        height, width = shape[2:] if shape[1] in (1, 3) else shape[1:3]
        return replace(self, settings={"height": height, "width": width, **self.settings})

    def __call__(self, outputs: Tensors) -> Tensors:
        if self.is_function:
            return self._called(outputs)
        if self.output and self.output not in outputs:
            raise UnknownName.of("output of the model", self.output, outputs)
        made = catalog.load(catalog.POSTPROCESSING[self.name])
        if self.name in ("yolo", "ssd"):
            found: Tensors = made(outputs, self.settings)
            return found
        return {
            name: made(array, self.settings) if self.output in ("", name) else array
            for name, array in outputs.items()
        }

    def _called(self, outputs: Tensors) -> Tensors:
        import numpy as np

        from edgepipe.runners.user_code import told

        try:
            found = self._function(dict(outputs))
            if not isinstance(found, Mapping):
                found = {"output": found}
            return {str(name): np.asarray(array) for name, array in found.items()}
        except (Exception, SystemExit) as error:
            raise told(error, f"{self.name} failed", self.python_path) from error

    @functools.cached_property
    def _function(self) -> Any:
        from edgepipe.runners.user_code import users_function

        return users_function(self.name, self.python_path)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "output": self.output,
            "settings": self.settings,
            "python_path": list(self.python_path),
            "digest": self.digest,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Step:
        return Step(**{**data, "python_path": tuple(data["python_path"])})


def _settings(name: str, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if key not in SETTINGS[name]:
            raise UnknownName.of(f"setting of {name}", key, SETTINGS[name])
        if key in ("form", "order"):
            found[key] = value
            continue
        try:
            found[key] = float(value) if key in ("conf", "iou") else int(value)
        except ValueError as error:
            raise OptionError(
                f"{name}: {key} takes a number, received {value!r}{'' if equals else ' and no ='}",
                hint=f"for instance --postprocess {name}:{key}=1.",
            ) from error
    return found


def applied(steps: Sequence[Step], outputs: Tensors) -> Tensors:
    for step in steps:
        outputs = step(outputs)
    return outputs


def softmax(array: NDArray[Any], settings: Mapping[str, Any]) -> NDArray[Any]:
    """Along the last axis, unless `axis` says another."""
    import numpy as np

    axis = int(settings.get("axis", -1))
    moved = np.exp(array.astype(np.float64) - array.max(axis=axis, keepdims=True))
    found: NDArray[Any] = (moved / moved.sum(axis=axis, keepdims=True)).astype(np.float32)
    return found


def sigmoid(array: NDArray[Any], settings: Mapping[str, Any]) -> NDArray[Any]:
    import numpy as np

    del settings
    found: NDArray[Any] = (0.5 * (1 + np.tanh(0.5 * array.astype(np.float64)))).astype(np.float32)
    return found


def argmax(array: NDArray[Any], settings: Mapping[str, Any]) -> NDArray[Any]:
    """The class of the largest score: along the shorter of the second axis and the last."""
    import numpy as np

    channels = 1 if array.ndim == 4 and array.shape[1] < array.shape[-1] else -1
    found: NDArray[Any] = array.argmax(int(settings.get("axis", channels))).astype(np.int64)
    return found


def ports(steps: list[dict[str, Any]], ends: dict[str, Any]) -> list[dict[str, Any]]:
    """What comes of outputs as the model declares them, by doing it to zeros of their shapes."""
    import numpy as np

    signature = Signature.from_json(ends)
    zeros = {
        port.name: np.zeros([size or 1 for size in port.given_shape() or (1,)], port.dtype)
        for port in signature.outputs
    }
    made = applied([Step.from_json(step) for step in steps], zeros)
    found = []
    for name, array in made.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "iubf":
            raise UserCodeError(
                f"{steps[-1]['name']} gave {name!r} as {type(array).__name__}, expected an array"
                " of numbers"
            )
        # How many boxes there are differs from sample to sample.
        open_axis = 1 if name == "detections" and array.ndim == 3 else None
        shape = [None if axis == open_axis else size for axis, size in enumerate(array.shape)]
        found.append(Port(name, tuple(shape), str(array.dtype)).to_json())
    return found
