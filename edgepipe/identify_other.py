"""What is given by mistake, or is a model of another world: named, with the way out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from edgepipe.errors import EdgepipeError
from edgepipe.identify_pickle import state_dict
from edgepipe.identify_sample import Sample, listing, unknown, unsupported

SOURCE = "convert the model that it was made from (Keras, PyTorch or ONNX)."
UNPACK = "unpack it and give the model in it."
LONGEST_JSON = 1 << 22


@dataclass(frozen=True)
class Signature:
    """Bytes at a place, what has them, and what to do. A model of another world is `model`."""

    at: int
    bytes: bytes
    words: str
    hint: str
    model: bool = True


SIGNATURES = (
    Signature(0, b"GGUF", "a GGUF file of llama.cpp", SOURCE),
    Signature(0, b"ptrt", "a TensorRT engine, compiled for one GPU", SOURCE),
    Signature(0, b"ftrt", "a TensorRT engine, compiled for one GPU", SOURCE),
    Signature(4, b"ET12", "an ExecuTorch program, already compiled", SOURCE),
    Signature(0, b"RKNN", "a Rockchip RKNN model, already compiled", SOURCE),
    Signature(0, b"\x01HEF", "a Hailo HEF file, already compiled", SOURCE),
    Signature(0, b"7767517\n", "an ncnn parameter file", SOURCE),
    Signature(0, b"\x93NUMPY", "a NumPy array", "give the model, not its data.", False),
    Signature(0, b"\x1f\x8b", "compressed with gzip", UNPACK, False),
    Signature(0, b"BZh", "compressed with bzip2", UNPACK, False),
    Signature(0, b"\xfd7zXZ\0", "compressed with xz", UNPACK, False),
    Signature(0, b"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK, False),
    Signature(0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK, False),
    Signature(0, b"Rar!", "a RAR archive", UNPACK, False),
    Signature(0, b"\x7fELF", "a program or library", "give the model itself.", False),
    Signature(0, b"%PDF", "a PDF", "give the model itself.", False),
    Signature(0, b"\x89PNG", "a PNG picture", "give the model itself.", False),
    Signature(0, b"\xff\xd8\xff", "a JPEG picture", "give the model itself.", False),
)
# The last eight bytes of a LevelDB table (leveldb/table/format.h), as TensorFlow's .index is one
LEVELDB_END = bytes.fromhex("57fb808b247547db")
SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")
LFS = b"version https://git-lfs.github.com/spec/"


def refuse(sample: Sample) -> None:
    """Raise if it is something well known."""
    for known in SIGNATURES:
        if sample.head[known.at : known.at + len(known.bytes)] == known.bytes:
            make = unsupported if known.model else unknown
            raise make(sample.path, known.words, known.hint)
    for look in (_safetensors, _checkpoint, _tar, _text):
        error = look(sample)
        if error is not None:
            raise error


def refuse_by_name(sample: Sample) -> None:
    """The few things whose content says too little."""
    path = sample.path
    if path.suffix == ".py":
        raise unsupported(
            path,
            "Python code",
            "name a function in it that returns the model: `--model "
            f"{path.stem}:FUNCTION --python-path {path.absolute().parent}`.",
        )
    if b"unsigned char" in sample.head and path.suffix in (".h", ".c", ".cc", ".cpp"):
        hint = "give the .tflite file that it was made from."
        raise unsupported(path, "a model as an array in C", hint)


def _safetensors(sample: Sample) -> EdgepipeError | None:
    length = int.from_bytes(sample.head[:8], "little")
    if sample.head[8:9] != b"{" or not 2 <= length <= max(sample.size, 1 << 27):
        return None
    if length + 8 > sample.size:
        what = f"a safetensors file cut short: its header alone has {length:,} bytes"
        return unknown(sample.path, what, "download it again.")
    return state_dict(sample.path, "a safetensors file")


def _checkpoint(sample: Sample) -> EdgepipeError | None:
    text = sample.head.startswith(b"model_checkpoint_path:")
    index = sample.at(sample.size - 8, 8) == LEVELDB_END
    # A shard is bare numbers, which may look like anything: only its name tells.
    shard = SHARD.search(sample.path.name)
    return _checkpoint_part(sample.path) if text or index or shard else None


def _checkpoint_part(path: Path) -> EdgepipeError:
    return unsupported(
        path,
        "part of a TensorFlow checkpoint: weights without a model",
        "rebuild the model in Python, load the checkpoint into it, and save it whole with "
        "`model.save('model.keras')` or `model.export('folder')`.",
    )


def _tar(sample: Sample) -> EdgepipeError | None:
    if sample.head[257:262] != b"ustar":
        return None
    import tarfile

    sample.file.seek(0)
    try:
        with tarfile.open(fileobj=sample.file) as archive:
            names = [member.name for _, member in zip(range(20), archive, strict=False)]
    except (tarfile.TarError, EOFError, ValueError, OSError) as error:
        return unknown(sample.path, f"a tar archive that is damaged: {error}", "download it again.")
    if {"pickle", "storages", "tensors"} <= set(names):
        hint = "load it with `torch.load` and save the model with `torch.export.save`."
        return unsupported(sample.path, "a file of PyTorch before 0.2", hint)
    return unknown(sample.path, f"a tar archive with {listing(names)}", UNPACK)


def _text(sample: Sample) -> EdgepipeError | None:
    head = sample.head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(LFS):
        return unknown(
            sample.path,
            "not the model but a Git LFS pointer to it",
            "run `git lfs pull` in that repository.",
        )
    start = head[:200].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        hint = "the download got a login or error page: get the file itself, and look at its size."
        return unknown(sample.path, "an HTML page, not a model", hint)
    if head.startswith(b"<"):
        return _xml(sample, head)
    if head.startswith((b"{", b"[")):
        return _json(sample)
    if start.startswith((b"node {", b"node{")):
        return unsupported(sample.path, "a TensorFlow graph as text (GraphDef)", SOURCE)
    return None


def _xml(sample: Sample, head: bytes) -> EdgepipeError | None:
    if head.startswith(b"<?xml") or b"<Error>" in head:
        hint = "look into it: a download may have got an error message."
        return unknown(sample.path, "an XML document, not a model", hint)
    return None


def _json(sample: Sample) -> EdgepipeError | None:
    if sample.size > LONGEST_JSON:
        return unknown(sample.path, "text that looks like JSON, not a model", SOURCE)
    try:
        data = json.loads(sample.at(0, LONGEST_JSON))
    except (ValueError, RecursionError):
        return None
    names = set(data) if isinstance(data, dict) else set()
    if {"class_name", "config"} <= names:
        return unsupported(
            sample.path,
            "the architecture of a Keras model as JSON, without its weights",
            "`model = keras.models.model_from_json(...)`, load its weights, and save it whole "
            "with `model.save('model.keras')`.",
        )
    if {"modelTopology", "weightsManifest"} & names:
        return unsupported(sample.path, "a TensorFlow.js model", SOURCE)
    held = f" with {listing(sorted(names))}" if names else ""
    return unknown(sample.path, f"a JSON document{held}, not a model", "give the model itself.")
