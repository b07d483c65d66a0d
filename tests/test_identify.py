"""Formats are told by content; whatever is no model is named, and nothing ends in a traceback."""

from __future__ import annotations

import base64
import importlib
import io
import json
import os
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import time
import types
import zipfile
import zlib
from pathlib import Path

import pytest

from edgepipe.artifact import Format
from edgepipe.errors import EdgepipeError, ModelNotFound, UnknownFormat, UnsupportedModel
from edgepipe.identify import identify, suffix_note

# Files that h5py wrote, packed: the core has no h5py to write them with.
HDF5 = json.loads((Path(__file__).parent / "hdf5_samples.json").read_text())


def hdf5(name: str) -> bytes:
    return zlib.decompress(base64.b64decode(HDF5[name]))


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def proto(number: int, value: int | bytes) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def tflite() -> bytes:
    """A model with one empty subgraph and a buffer of 64 bytes."""
    builder = importlib.import_module("flatbuffers").Builder(0)
    data = builder.CreateByteVector(bytes(range(64)))
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(0, data, 0)
    buffer = builder.EndObject()
    builder.StartObject(5)
    subgraph = builder.EndObject()
    vectors = []
    for table in (subgraph, buffer):
        builder.StartVector(4, 1, 4)
        builder.PrependUOffsetTRelative(table)
        vectors.append(builder.EndVector())
    builder.StartObject(8)
    builder.PrependUint32Slot(0, 3, 0)
    builder.PrependUOffsetTRelativeSlot(2, vectors[0], 0)
    builder.PrependUOffsetTRelativeSlot(4, vectors[1], 0)
    builder.Finish(builder.EndObject(), file_identifier=b"TFL3")
    return bytes(builder.Output())


TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x0ctQK\x00K\x03K\x04\x86tR"
)
STATE = b"ccollections\nOrderedDict\n)RX\x08\x00\x00\x00a.weight" + TENSOR + b"s"
MODULE = b"c__main__\nNet\n)\x81}X\x08\x00\x00\x00training\x89sb"
HEADER = b"\x80\x02"
OLD_START = (
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    b"\x80\x02}(X\x0d\x00\x00\x00little_endian\x88u."
)


def torch_zip(pickled: bytes) -> bytes:
    parts = {"m/data.pkl": HEADER + pickled + b".", "m/byteorder": b"little", "m/data/0": b"1234"}
    return zipped({**parts, "m/version": b"3\n"})


def old_torch(pickled: bytes) -> bytes:
    return OLD_START + HEADER + pickled + b"." + b"\x80\x02]." + bytes(64)


KERAS = {"metadata.json": b"{}", "config.json": b'{"class_name": "Functional"}'}
KERAS_ZIP = zipped({**KERAS, "model.weights.h5": b"x" * 200})
EXPORT = {"m/archive_format": b"pt2", "m/models/model.json": b"{}", "m/byteorder": b"little"}
SCRIPT = {"m/data.pkl": b"", "m/constants.pkl": b"", "m/code/__torch__.py": b"pass"}
ONNX = proto(1, 9) + proto(2, b"pytorch") + proto(7, proto(1, b"node") + proto(2, b"main"))
ONNX += proto(8, proto(2, 18))

MODELS: dict[str, tuple[Format, bytes]] = {
    "model.keras": (Format.KERAS, KERAS_ZIP),
    "whole.h5": (Format.KERAS_H5, hdf5("whole")),
    "newer.h5": (Format.KERAS_H5, hdf5("newer layout")),
    "many.h5": (Format.KERAS_H5, hdf5("many attributes")),
    "user.hdf5": (Format.KERAS_H5, hdf5("user block")),
    "continued.hdf5": (Format.KERAS_H5, hdf5("continued header")),
    "program.pt2": (Format.TORCH_EXPORT, zipped(EXPORT)),
    "older.pt2": (Format.TORCH_EXPORT, zipped({"serialized_exported_program.json": b"{}"})),
    "script.pt": (Format.TORCHSCRIPT, zipped(SCRIPT)),
    "module.pt": (Format.TORCH_PICKLE, torch_zip(MODULE)),
    "module.pth": (Format.TORCH_PICKLE, old_torch(b"(X\x06\x00\x00\x00module" + MODULE)),
    "model.onnx": (Format.ONNX, ONNX),
    "model.tflite": (Format.TFLITE, tflite()),
}
CONFIG = json.dumps({"class_name": "Sequential", "config": {}}).encode()
GRAPH_DEF = proto(1, proto(1, b"x") + proto(2, b"Placeholder")) + proto(4, proto(1, 21))
SAFE_HEADER = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
SAFETENSORS = struct.pack("<Q", len(SAFE_HEADER)) + SAFE_HEADER + bytes(4)
UNSUPPORTED: dict[str, tuple[bytes, str, str]] = {
    "weights.h5": (hdf5("weights"), "only the weights", "load_weights"),
    "a.weights.h5": (
        hdf5("keras 3 weights"),
        "only the weights",
        "model.save",
    ),
    "b.weights.h5": (
        hdf5("keras 3 weights, newer layout"),
        "only the weights",
        "model.save",
    ),
    "state.pt": (torch_zip(STATE), "a PyTorch state_dict", "--model package.module:factory"),
    "old_state.pth": (old_torch(STATE), "a PyTorch state_dict", "--weights"),
    "dict.pt": (
        torch_zip(b"}(X\x0a\x00\x00\x00state_dict" + STATE + b"u"),
        "a PyTorch checkpoint",
        "--weights",
    ),
    "light.ckpt": (
        torch_zip(b"}(X\x19\x00\x00\x00pytorch-lightning_version" + STATE + b"u"),
        "a PyTorch Lightning checkpoint",
        "--weights",
    ),
    "yolo.pt": (
        torch_zip(b"}(X\x05\x00\x00\x00model" + MODULE + b"u"),
        r"a checkpoint: a dict that holds tensors and pickled objects \(__main__.Net\)",
        "torch.export.save",
    ),
    "tensor.pt": (torch_zip(TENSOR), "tensors saved by PyTorch", "torch.export.save"),
    "list.pt": (torch_zip(b"](" + TENSOR + b"e"), "tensors saved by PyTorch", "state_dict"),
    "compiled.pt2": (
        zipped({"m/archive_format": b"pt2", "m/data/aotinductor/model.so": b""}),
        "without an exported program",
        "torch.export.save",
    ),
    "package.pt": (zipped({"m/.data/extern_modules": b""}), "a torch.package archive", "export"),
    "model.safetensors": (SAFETENSORS, "a safetensors file", "--weights"),
    "arrays.npz": (zipped({"a.npy": b"", "b.npy": b""}), "arrays a.npy, b.npy", "the model"),
    "frozen.pb": (GRAPH_DEF, "a frozen TensorFlow 1 graph", "tf2onnx"),
    "saved_model.pb": (proto(1, 1) + proto(2, b"meta"), "SavedModel", "give the folder"),
    "model.json": (CONFIG, "the architecture of a Keras model", "model_from_json"),
    "tfjs.json": (b'{"modelTopology": {}}', "a TensorFlow.js model", "made from"),
    "model.ckpt.index": (
        bytes(40) + bytes.fromhex("57fb808b247547db"),
        "part of a TensorFlow checkpoint",
        "model.save",
    ),
    "ckpt.data-00000-of-00001": (bytes(9), "part of a TensorFlow checkpoint", "model.save"),
    # Numbers that happen to step like a Core ML model
    "net.data-00000-of-00001": (
        proto(1, 5) + proto(2, b"d") + proto(500, b"n"),
        "part of a TensorFlow checkpoint",
        "model.save",
    ),
    "model.mlmodel": (proto(1, 5) + proto(2, b"d") + proto(500, b"n"), "a Core ML", "made from"),
    "model.engine": (b"ftrt" + bytes(40), "a TensorRT engine", "made from"),
    "model.gguf": (b"GGUF\x03\0\0\0", "a GGUF file", "made from"),
    "model.pte": (b"\x1c\0\0\0ET12" + bytes(40), "an ExecuTorch program", "made from"),
    "model.pkl": (pickle.dumps(random.Random(1)), "a Python pickle of random.Random", "export"),
    "model.py": (b"import torch\n", "Python code", "--model model:FUNCTION"),
    "model.cc": (b"const unsigned char model[] = {0x1c", "an array in C", ".tflite"),
}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 400000000\n"
UNKNOWN: dict[str, tuple[bytes, str, str]] = {
    "model.xml": (b'<?xml version="1.0"?>\n<net name="x"><layers>', "an OpenVINO", "save it again"),
    "empty.onnx": (b"", "is empty: 0 bytes", "again"),
    "pointer.onnx": (POINTER, "a Git LFS pointer", "git lfs pull"),
    "page.tflite": (b"\n<!DOCTYPE html>\n<html>404", "an HTML page", "login or error page"),
    "error.h5": (b"<?xml version='1.0'?><Error>NoSuchKey</Error>", "an XML document", "download"),
    "error.onnx": (b'{"error": "Unauthorized"}', "a JSON document with error", "model"),
    "data.h5": (hdf5("other"), "no Keras model: .*in it data", "save"),
    "wheel.whl": (
        zipped({"pkg/a.py": b"", "pkg/net.onnx": b""}),
        "a zip archive of no kind",
        "give what is in it: pkg/net.onnx",
    ),
    "empty.zip": (zipped({}), "an empty zip", "again"),
    "half.keras": (zipped(KERAS), "no model.weights.h5", "again"),
    "model.tar.gz": (b"\x1f\x8b\x08" + bytes(40), "compressed with gzip", "unpack"),
    "noise.onnx": (
        random.Random(1).randbytes(999),
        "expected an ONNX model, as it is named",
        "dam",
    ),
    "noise.bin": (b"\xfe\xdc\xba" * 20, "begin with fe dc ba fe dc ba fe dc", "edgepipe reads"),
    "numbers.bin": (
        proto(1, 5) + proto(2, b"d") + proto(500, b"n") + proto(37, 4),
        "expected a program",
        "edgepipe reads",
    ),
    "chance.onnx": (proto(7, b"x") + b"\x0a\xff\xff", "expected an ONNX model", "dam"),
    "notes.txt": (b"just some words", "expected a model", "edgepipe reads"),
    "nograph.onnx": (proto(1, 9) + proto(8, proto(2, 18)), "it has no graph", "again"),
    "hollow.onnx": (proto(1, 9) + proto(7, b""), "its graph is empty", "again"),
}


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", MODELS)
def test_tells_the_format_by_content_whatever_the_name(tmp_path: Path, name: str) -> None:
    format, content = MODELS[name]
    for named in (name, "model", "model.h5", "model.onnx", "model.pt", "model.py"):
        assert identify(written(tmp_path, named, content)) is format


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_names_what_can_not_be_a_starting_point(tmp_path: Path, name: str) -> None:
    content, words, hint = UNSUPPORTED[name]
    with pytest.raises(UnsupportedModel, match=words) as caught:
        identify(written(tmp_path, name, content))
    assert name in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize("name", UNKNOWN)
def test_names_what_is_no_model(tmp_path: Path, name: str) -> None:
    content, words, hint = UNKNOWN[name]
    with pytest.raises(UnknownFormat, match=words) as caught:
        identify(written(tmp_path, name, content))
    assert name in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_class_names_of_every_pickle_protocol(
    tmp_path: Path, protocol: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("mymodels")
    net = type("Net", (), {"__module__": "mymodels"})
    vars(module)["Net"] = net
    monkeypatch.setitem(sys.modules, "mymodels", module)
    whole = pickle.dumps(net(), protocol)
    path = written(tmp_path, "m.pt", zipped({"m/data.pkl": whole, "m/version": b"3"}))
    assert identify(path) is Format.TORCH_PICKLE
    inside = pickle.dumps({"model": net(), "epoch": 3}, protocol)
    path = written(tmp_path, "m.pt", zipped({"m/data.pkl": inside, "m/version": b"3"}))
    with pytest.raises(UnsupportedModel, match=r"pickled objects \(mymodels.Net\)"):
        identify(path)


def test_a_pickle_is_never_executed(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    evil = f"cos\nsystem\nX\x20\x00\x00\x00touch {proof}".encode() + b"\x85R."
    evil = evil.replace(b"X\x20", b"X" + bytes([len(f"touch {proof}")]))
    assert identify(written(tmp_path, "evil.pt", torch_zip(evil))) is Format.TORCH_PICKLE
    assert not proof.exists()
    pickle.loads(HEADER + evil)
    assert proof.exists(), "the pickle is harmless, so nothing was tested"


def test_old_tar_of_pytorch(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(UnsupportedModel, match=r"PyTorch before 0\.2"):
        identify(tmp_path / "old.pth")
    with tarfile.open(tmp_path / "model.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"))
    with pytest.raises(UnknownFormat, match=r"a tar archive with model\.onnx"):
        identify(tmp_path / "model.tar")


def saved_model(folder: Path) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12\x04meta")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    (folder / "variables" / "variables.data-00000-of-00001").write_bytes(b"data")
    return folder


def test_folders_that_are_models(tmp_path: Path) -> None:
    assert identify(saved_model(tmp_path / "saved")) is Format.SAVED_MODEL
    unzipped = tmp_path / "keras"
    unzipped.mkdir()
    for name in (*KERAS, "model.weights.h5"):
        (unzipped / name).write_bytes(b"{}")
    assert identify(unzipped) is Format.KERAS
    (unzipped / "model.weights.h5").unlink()
    with pytest.raises(UnknownFormat, match=r"no model\.weights\.h5"):
        identify(unzipped)


def test_damaged_saved_models_are_refused(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "saved")
    shard = folder / "variables" / "variables.data-00000-of-00001"
    shard.write_bytes(POINTER)
    with pytest.raises(UnknownFormat, match="data-00000-of-00001 is only a Git LFS pointer"):
        identify(folder)
    shard.unlink()
    with pytest.raises(UnknownFormat, match=r"variables\.data-\.\.\. is missing"):
        identify(folder)
    (folder / "saved_model.pb").write_bytes(b"")
    with pytest.raises(UnknownFormat, match=r"saved_model\.pb has no graph"):
        identify(folder)


def test_a_folder_without_a_model_lists_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="found an empty folder"):
        identify(tmp_path)
    (tmp_path / "readme.md").write_text("")
    (tmp_path / "data").mkdir()
    with pytest.raises(ModelNotFound, match=r"expected .*SavedModel.* found data/, readme\.md"):
        identify(tmp_path)


def test_a_folder_with_one_model_points_to_it(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("")
    path = written(tmp_path, "net.onnx", ONNX)
    with pytest.raises(ModelNotFound) as caught:
        identify(tmp_path)
    assert caught.value.hint == f"did you mean {path}?"
    written(tmp_path, "net.tflite", tflite())
    with pytest.raises(ModelNotFound) as caught:
        identify(tmp_path)
    assert "there are several" in caught.value.hint and "net.tflite" in caught.value.hint


def test_a_served_saved_model_is_found_one_folder_down(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "1")
    with pytest.raises(ModelNotFound) as caught:
        identify(tmp_path)
    assert caught.value.hint == f"did you mean {path}?"


def test_a_checkpoint_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "x"')
    with pytest.raises(UnsupportedModel, match="a TensorFlow checkpoint"):
        identify(tmp_path)


def test_a_missing_file_brings_near_names(tmp_path: Path) -> None:
    path = written(tmp_path, "mobilenet.onnx", ONNX)
    with pytest.raises(ModelNotFound) as caught:
        identify(tmp_path / "mobilnet.onnx")
    assert str(path) in caught.value.hint
    with pytest.raises(ModelNotFound, match="there is no folder"):
        identify(tmp_path / "absent" / "model.onnx")


def test_a_broken_link_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to(tmp_path / "gone.onnx")
    with pytest.raises(ModelNotFound, match=r"a link to .*gone\.onnx, which does not exist"):
        identify(tmp_path / "link.onnx")


@pytest.mark.parametrize("name", ["\0", "x" * 300, "model.onnx/inside"])
def test_impossible_paths_are_a_clear_error(tmp_path: Path, name: str) -> None:
    written(tmp_path, "model.onnx", ONNX)
    with pytest.raises(ModelNotFound):
        identify(tmp_path / name)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(UnknownFormat, match="neither a file nor a folder"):
        identify(tmp_path / "pipe.onnx")


@pytest.mark.parametrize("name", MODELS)
def test_a_file_cut_short_is_said_to_be(tmp_path: Path, name: str) -> None:
    _, content = MODELS[name]
    for part in (0.3, 0.6, 0.9):
        path = written(tmp_path, name, content[: int(len(content) * part)])
        try:
            format = identify(path)
        except EdgepipeError as error:
            assert "cut short" in error.message or "of no known format" in error.message
        else:
            # Whether the tensors behind a pickle are all there is seen when it is loaded.
            assert (format, name) == (Format.TORCH_PICKLE, "module.pth")


def test_a_zip_in_a_zip_cut_short_is_not_taken_for_it(tmp_path: Path) -> None:
    inner = torch_zip(TENSOR)
    whole = zipped({"m/data/sample_inputs/model.pt": inner, **EXPORT})
    end = whole.index(inner) + len(inner)
    assert identify(written(tmp_path, "whole.pt2", whole)) is Format.TORCH_EXPORT
    with pytest.raises(UnknownFormat, match="a zip archive that is damaged or cut short"):
        identify(written(tmp_path, "short.pt2", whole[:end]))


EVERYTHING = {name: content for name, (_, content) in MODELS.items()}
EVERYTHING |= {name: content for name, (content, _, _) in {**UNSUPPORTED, **UNKNOWN}.items()}


@pytest.mark.parametrize("name", EVERYTHING)
def test_damaged_bytes_end_in_a_format_or_an_error_quickly(tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    for _ in range(60):
        path = written(tmp_path, name, mutated(EVERYTHING[name], chance))
        start = time.perf_counter()
        try:
            assert isinstance(identify(path), Format)
        except EdgepipeError as error:
            assert error.exit_code == 2 and error.message
        assert time.perf_counter() - start < 2


def mutated(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    kind = chance.randrange(4)
    if kind == 0:
        return bytes(data[: chance.randrange(len(data) + 1)])
    for _ in range(chance.choice((1, 3, 20))):
        if data and kind == 1:
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif data and kind == 2:
            data[chance.randrange(min(len(data), 128))] = chance.randrange(256)
        else:
            at = chance.randrange(len(data) + 1)
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
    return bytes(data)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".pt2", ".pt", ".onnx", ".tflite", ".pb", ""])
def test_random_bytes_are_of_no_known_format(tmp_path: Path, suffix: str) -> None:
    chance = random.Random(suffix)
    for size in (1, 4, 8, 9, 100, 5000):
        path = written(tmp_path, f"model{suffix}", b"\xf7" + chance.randbytes(size))
        with pytest.raises(UnknownFormat, match="of no known format") as caught:
            identify(path)
        assert path.read_bytes()[:8].hex(" ") in caught.value.message


LARGE = """
import resource, sys, time
from pathlib import Path
from edgepipe.identify import identify
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
format = identify(Path(sys.argv[1]))
print(format, time.perf_counter() - start,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def large_onnx(path: Path, size: int) -> None:
    graph = varint(7 << 3 | 2) + varint(size)
    with path.open("wb") as file:
        file.write(proto(1, 9) + graph + proto(1, b"node"))
        file.truncate(file.tell() + size - len(proto(1, b"node")))
        file.seek(0, os.SEEK_END)
        file.write(proto(8, proto(2, 18)))


def large_zip(path: Path, size: int) -> None:
    chunk = bytes(1 << 20)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", HEADER + MODULE + b".")
        with archive.open("m/data/0", "w") as file:
            for _ in range(size >> 20):
                file.write(chunk)


@pytest.mark.parametrize("write", [large_onnx, large_zip])
def test_a_large_file_is_not_read(tmp_path: Path, write: types.FunctionType) -> None:
    path = tmp_path / "large"
    write(path, 200 << 20)
    command = [sys.executable, "-c", LARGE, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    format, seconds, kilobytes = ran.stdout.split()
    assert format in ("onnx", "torch-pickle")
    assert float(seconds) < 0.2
    unit = 1 if sys.platform == "linux" else 1024
    assert int(kilobytes) / unit < 8 * 1024


def test_a_name_that_promises_another_format_is_noted() -> None:
    note = suffix_note(Path("net.h5"), Format.KERAS)
    assert note == "net.h5 is named .h5, but is a Keras 3 archive; it is read as that"
    assert suffix_note(Path("net.onnx"), Format.TFLITE)
    for fitting in ("net.keras", "net", "net.v2", "net.KERAS"):
        assert suffix_note(Path(fitting), Format.KERAS) == ""
    for format in (Format.TORCHSCRIPT, Format.TORCH_EXPORT, Format.TORCH_PICKLE):
        assert suffix_note(Path("net.pt"), format) == ""


def test_imports_neither_numpy_nor_the_command_line() -> None:
    code = "import sys, edgepipe.identify; print({'numpy', 'click', 'rich'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
