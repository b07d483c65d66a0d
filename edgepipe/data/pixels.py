"""Images as samples: decoded with Pillow, resized, cropped, and turned as the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.artifact import Port
from edgepipe.data import fitting, resampling
from edgepipe.data.files import FilesReader
from edgepipe.data.kind import IMAGES
from edgepipe.data.preprocessing import Steps
from edgepipe.errors import SamplesError
from edgepipe.inputs import shape_words

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ImageReader(FilesReader):
    suffixes = IMAGES
    toolchain: ClassVar[str] = "edge"

    def holds_pixels(self, name: str) -> bool:
        return True

    def load(self, path: Path, port: Port) -> NDArray[Any]:
        steps = self.source.preprocessing.of(port.name)
        height, width, channels = extent(port, steps)
        try:
            array = decode(path, steps, height, width, channels)
        except SamplesError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever their formats bring up.
            raise ValueError(str(error) or type(error).__name__) from error
        if fitting.channels_first(port, steps):
            array = array.transpose(2, 0, 1)
        return fitting.fit(array.reshape(fitting.shape_of(port)), port, steps, str(path))


def extent(port: Port, steps: Steps) -> tuple[int, int, int]:
    """Height, width and channels that an input takes."""
    shape = fitting.shape_of(port)
    sizes = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
    if len(shape) == 3 and shape[0] == 1 and not (steps.layout or shape[-1] in (1, 3, 4)):
        sizes = (*shape[1:], 1)  # 1xHxW: one grey image
    elif len(sizes) == 3 and fitting.channels_first(port, steps):
        sizes = (*sizes[1:], sizes[0])
    elif len(sizes) == 2 and sizes[0] > 1:
        sizes = (*sizes, 1)
    if len(sizes) != 3 or sizes[2] not in (1, 3):
        raise SamplesError(
            f"input {port.name!r} is {shape_words(shape)}: no image fits it",
            hint="an image input is height x width with 1 or 3 channels; give arrays for others.",
        )
    return sizes[0], sizes[1], sizes[2]


def decode(path: Path, steps: Steps, height: int, width: int, channels: int) -> NDArray[Any]:
    """An image file as height x width x channels of bytes."""
    import numpy as np

    ops = import_module("PIL.ImageOps")
    with import_module("PIL.Image").open(path) as opened:
        if opened.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
            raise SamplesError(
                f"{path} holds {opened.mode} pixels, wider than a byte",
                hint="what they mean is up to you: save them as a .npy in the model's numbers.",
            )
        image: Any = ops.exif_transpose(opened)  # As a viewer shows it, and a camera means it.
        grey = channels == 1 or steps.channels == "grey"
        image = image.convert("L" if grey else "RGB")
    image = _sized(image, steps, height, width)
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if steps.channels == "BGR" and not grey:
        array = array[:, :, ::-1]
    return np.repeat(array, channels, axis=2) if array.shape[2] != channels else array


def _sized(image: Any, steps: Steps, height: int, width: int) -> Any:
    if steps.crop == "none":
        return resize(image, (width, height), steps)
    short = steps.size
    if steps.crop == "short-side":
        scale = max(width / image.width, height / image.height)
        image = resize(image, _scaled(image, scale), steps)
    elif short:
        image = resize(image, tuple(short * side // min(image.size) for side in image.size), steps)
    if image.width < width or image.height < height:
        raise ValueError(
            f"{image.width}x{image.height} is smaller than the crop of {width}x{height}"
        )
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def _scaled(image: Any, scale: float) -> tuple[int, int]:
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def resize(image: Any, size: Sequence[int], steps: Steps) -> Any:
    """To width x height, by the method of the steps."""
    kinds = import_module("PIL.Image")
    if image.size == tuple(size):
        return image
    if steps.resize == "area" or (steps.resize != "nearest" and not steps.antialias):
        import numpy as np

        made = resampling.resized(np.asarray(image), size[1], size[0], steps.resize)
        return kinds.fromarray(made)
    methods = {
        "nearest": kinds.Resampling.NEAREST,
        "bilinear": kinds.Resampling.BILINEAR,
        "bicubic": kinds.Resampling.BICUBIC,
    }
    return image.resize(size, methods[steps.resize])
