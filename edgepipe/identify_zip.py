"""Zip archives: Keras 3, PyTorch's three kinds, and others that are named in the refusal."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

from edgepipe import identify_pickle
from edgepipe.artifact import Format
from edgepipe.errors import EdgepipeError
from edgepipe.identify_sample import Sample, damaged, listing, unknown, unsupported

BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06")
INSIDE = (".onnx", ".tflite", ".keras", ".h5", ".hdf5", ".pt", ".pt2", ".pth", "saved_model.pb")
KERAS_WEIGHTS = ("model.weights.h5", "model.weights.json", "model.weights.npz")
# What zipfile raises over a damaged archive: zlib's own errors, NotImplementedError for an
# unknown compression, RuntimeError for an encrypted entry.
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    ValueError,
    EOFError,
    OverflowError,
    OSError,
)


def recognise(sample: Sample) -> Format | None:
    if not sample.head.startswith(BEGINNINGS):
        return None
    try:
        with zipfile.ZipFile(sample.file) as archive:
            if sample.head.startswith(BEGINNINGS[0]) and not _is_outermost(archive):
                raise zipfile.BadZipFile("File is not a whole zip file")
            return _Archive(sample, archive).judge()
    except zipfile.BadZipFile as error:
        reason = f"{error}; a zip's list of files is at its end"
        raise damaged(sample.path, "a zip archive", reason) from error
    except DAMAGE as error:
        raise damaged(sample.path, "a zip archive", str(error)) from error


def _is_outermost(archive: zipfile.ZipFile) -> bool:
    """Whether its first file lies at the beginning.

    A .pt2 has a zip inside: in one that is cut short, zipfile finds the list of that one, and
    takes all before it for bytes that were put in front.
    """
    return min((each.header_offset for each in archive.infolist()), default=-1) == 0


class _Archive:
    """The names in the archive, as they are and without the folder that PyTorch puts them in."""

    def __init__(self, sample: Sample, archive: zipfile.ZipFile) -> None:
        self.path: Path = sample.path
        self.archive = archive
        self.names = archive.namelist()
        self.outer = set(self.names)
        self.inner = {name.partition("/")[2]: name for name in self.names}

    def judge(self) -> Format:
        if "config.json" in self.outer and self.outer & {"metadata.json", *KERAS_WEIGHTS}:
            return self._keras()
        if "serialized_exported_program.json" in self.outer | set(self.inner):
            return Format.TORCH_EXPORT
        if "archive_format" in self.inner:
            return self._export()
        code = any(name.startswith("code/") for name in self.inner)
        if code and ("constants.pkl" in self.inner or "model.json" in self.inner):
            return Format.TORCHSCRIPT
        if ".data/extern_modules" in self.inner:
            raise unsupported(
                self.path,
                "a torch.package archive",
                "load the model from it in Python and save it with `torch.export.save`.",
            )
        if "data.pkl" in self.inner:
            return self._pickle()
        raise self._other()

    def _keras(self) -> Format:
        if not self.outer & set(KERAS_WEIGHTS):
            raise damaged(self.path, "a Keras archive", f"it has no {KERAS_WEIGHTS[0]}")
        self._whole("config.json")
        return Format.KERAS

    def _export(self) -> Format:
        kind = self._beginning(self.inner["archive_format"]).strip().decode("utf-8", "replace")
        programs = [n for n in self.inner if n.startswith("models/") and n.endswith(".json")]
        if kind != "pt2" or not programs:
            raise unsupported(
                self.path,
                f"a PyTorch archive ({kind!r}) without an exported program, so already compiled",
                "save the program itself: `torch.export.save(torch.export.export(...), FILE)`.",
            )
        return Format.TORCH_EXPORT

    def _pickle(self) -> Format:
        stream = io.BytesIO(self._beginning(self.inner["data.pkl"]))
        return identify_pickle.judge(self.path, identify_pickle.scan(stream))

    def _other(self) -> EdgepipeError:
        if not self.names:
            return unknown(self.path, "an empty zip archive", "save or download it again.")
        if all(name.endswith(".npy") for name in self.names):
            return unsupported(
                self.path,
                f"a NumPy archive with the arrays {listing(self.names)}, without a model",
                "convert the model that these arrays belong to.",
            )
        models = [name for name in self.names if name.lower().endswith(INSIDE)]
        hint = "give a model file; see `edgepipe convert --help` for what can be read."
        if models:
            hint = f"unpack it and give what is in it: {listing(models)}."
        what = f"a zip archive of no kind that edgepipe knows, with {listing(self.names)}"
        return unknown(self.path, what, hint)

    def _beginning(self, name: str) -> bytes:
        with self.archive.open(name) as file:
            return file.read(identify_pickle.SCANNED)

    def _whole(self, name: str) -> None:
        """Read an entry to its end: that is where its checksum is compared."""
        with self.archive.open(name) as file:
            while file.read(1 << 20):
                pass
