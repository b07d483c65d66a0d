"""WAV recordings as samples: numbers from -1 to 1, at the rate and length that the model takes."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgepipe.artifact import Port
from edgepipe.data import fitting
from edgepipe.data.files import FilesReader
from edgepipe.data.kind import SOUNDS
from edgepipe.errors import SamplesError
from edgepipe.inputs import shape_words

if TYPE_CHECKING:
    from numpy.typing import NDArray


class SoundReader(FilesReader):
    """All files of a folder have one rate, unless the preprocessing has them resampled."""

    suffixes = SOUNDS
    unreadable: ClassVar[tuple[type[Exception], ...]] = (wave.Error, EOFError, OSError)
    _rate = 0

    def load(self, path: Path, port: Port) -> NDArray[Any]:
        steps = self.source.preprocessing.of(port.name)
        length, channels, first = _extent(port)
        wanted = steps.rate or self._rate
        array, rate = decode(path)
        self._rate = self._rate or rate
        if wanted and rate != wanted:
            if not steps.resample:
                raise SamplesError(
                    f"{path} has {rate} samples a second, expected {wanted}",
                    hint="resample the files, or let edgepipe do it: rate = "
                    f"{wanted} and resample = true in [preprocessing].",
                )
            array = resampled(array, rate, wanted)
        if array.shape[1] != channels:
            array = _mixed(array, channels, path)
        if len(array) != length:
            if not steps.fit:
                raise SamplesError(
                    f"{path} is {len(array)} samples long, the model takes {length}",
                    hint="cut the recordings, or let edgepipe pad and cut them: fit = true in"
                    " [preprocessing].",
                )
            array = fitted(array, length)
        if first:
            array = array.T
        return fitting.fit(array.reshape(fitting.shape_of(port)), port, steps, str(path))


def _extent(port: Port) -> tuple[int, int, bool]:
    """Length, channels, and whether the channels come first."""
    shape = fitting.shape_of(port)
    sizes = [size for size in shape if size != 1] or [1]
    if len(sizes) == 1:
        return sizes[0], 1, False
    if len(sizes) == 2 and min(sizes) <= 2:
        first = sizes[0] <= 2
        return max(sizes), min(sizes), first
    raise SamplesError(
        f"input {port.name!r} is {shape_words(shape)}: no recording fits it",
        hint="it may take a spectrogram: give what it takes as .npy files.",
    )


def decode(path: Path) -> tuple[NDArray[Any], int]:
    """Length x channels of float32 from -1 to 1, and the rate."""
    import numpy as np

    with wave.open(str(path), "rb") as file:
        width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
        frames = file.getnframes()
        size = path.stat().st_size
        if frames * width * channels > size:
            raise EOFError(f"it claims {frames * width * channels} bytes of sound, it is {size}")
        data = file.readframes(frames)
    if not data:
        raise EOFError("it holds no sound")
    values: NDArray[Any]
    if width == 1:  # WAV's bytes are unsigned, its wider numbers are not.
        values = np.frombuffer(data, np.uint8).astype(np.float32) / 128 - 1
    elif width == 3:
        raw = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
        whole = raw[:, 0] << 8 | raw[:, 1] << 16 | raw[:, 2] << 24
        values = whole.astype(np.float32) / float(1 << 31)
    elif width in (2, 4):
        values = np.frombuffer(data, f"<i{width}").astype(np.float32) / float(1 << 8 * width - 1)
    else:
        raise wave.Error(f"numbers of {width} bytes")
    return values.reshape(-1, channels), rate


def _mixed(array: NDArray[Any], channels: int, path: Path) -> NDArray[Any]:
    if channels == 1:
        mono: NDArray[Any] = array.mean(axis=1, keepdims=True)
        return mono
    raise SamplesError(
        f"{path} has {array.shape[1]} channels, the model takes {channels}",
        hint="only a mix of several to one is made.",
    )


def resampled(array: NDArray[Any], rate: int, wanted: int) -> NDArray[Any]:
    """By the spectrum: what both rates can hold is kept as it is, the rest is cut off."""
    import numpy as np

    length = max(1, round(len(array) * wanted / rate))
    spectrum = np.fft.rfft(array, axis=0)[: length // 2 + 1]
    made = np.fft.irfft(spectrum, length, axis=0) * (length / len(array))
    return made.astype(np.float32)


def fitted(array: NDArray[Any], length: int) -> NDArray[Any]:
    """The middle of a longer recording; silence around a shorter one."""
    import numpy as np

    spare = len(array) - length
    if spare >= 0:
        return array[spare // 2 : spare // 2 + length]
    before = -spare // 2
    after = -spare - before
    return np.pad(array, ((before, after), (0, 0)))
