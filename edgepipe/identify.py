"""The format of a file or folder, told by its content; all that is no model is named.

Only the first bytes and a few others are read, however large the file, and nothing in it is
executed. One file a family: `identify_hdf5`, `_zip`, `_pickle`, `_protobuf`, `_tflite`,
`_folder`, and `_other` for what can't be converted.
"""

from __future__ import annotations

import stat
from pathlib import Path

from edgepipe import (
    identify_folder,
    identify_hdf5,
    identify_openvino,
    identify_other,
    identify_pickle,
    identify_protobuf,
    identify_tflite,
    identify_zip,
)
from edgepipe.artifact import Format
from edgepipe.errors import EdgepipeError, ModelNotFound, PathError, UnknownFormat
from edgepipe.identify_sample import Sample

FAMILIES = (
    identify_hdf5.recognise,
    identify_zip.recognise,
    identify_tflite.recognise,
    identify_pickle.recognise,
    identify_openvino.recognise_graph,
)
WORDS = {
    Format.KERAS: "a Keras 3 archive",
    Format.KERAS_H5: "a Keras model in HDF5",
    Format.SAVED_MODEL: "a TensorFlow SavedModel",
    Format.TORCH_EXPORT: "a program of torch.export",
    Format.TORCHSCRIPT: "a TorchScript program",
    Format.TORCH_PICKLE: "a pickled PyTorch module",
    Format.TORCH_SOURCE: "PyTorch code",
    Format.ONNX: "an ONNX model",
    Format.TFLITE: "a TFLite model",
    Format.TFLITE_QUANTIZED: "a quantized TFLite model",
    Format.OPENVINO: "an OpenVINO model",
    Format.OPENVINO_QUANTIZED: "a quantized OpenVINO model",
    Format.EDGETPU: "a model compiled for the Edge TPU",
    Format.ETHOSU: "a model compiled for an Ethos-U",
}
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
SUFFIXES = {
    Format.KERAS: (".keras",),
    Format.KERAS_H5: (".h5", ".hdf5", ".hdf"),
    Format.SAVED_MODEL: (),
    Format.TORCH_EXPORT: (".pt2", ".ep", *TORCH_SUFFIXES),
    Format.TORCHSCRIPT: (".ts", ".jit", ".ptl", ".torchscript", *TORCH_SUFFIXES),
    Format.TORCH_PICKLE: (".pkl", *TORCH_SUFFIXES),
    Format.TORCH_SOURCE: (),
    Format.ONNX: (".onnx",),
    Format.TFLITE: (".tflite", ".lite"),
    Format.TFLITE_QUANTIZED: (".tflite", ".lite"),
    Format.OPENVINO: (".xml",),
    Format.OPENVINO_QUANTIZED: (".xml",),
    Format.EDGETPU: (".tflite", ".lite"),
    Format.ETHOSU: (".tflite", ".lite"),
}
KNOWN = (
    "edgepipe reads Keras (.keras, .h5), SavedModel folders, PyTorch (.pt2, TorchScript), "
    "ONNX, TFLite and OpenVINO's .xml with its .bin."
)


def identify(path: Path) -> Format:
    """The format of a model; ModelNotFound, UnknownFormat or UnsupportedModel for all else."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return identify_folder.recognise(path, identify)
        if not stat.S_ISREG(mode):
            raise UnknownFormat(
                f"{path} is neither a file nor a folder", hint="give a model file.", path=str(path)
            )
        return _identify_file(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(path) from error
    except PermissionError as error:
        raise PathError(f"{path} can't be read: {error.strerror}", path=str(path)) from error
    except (OSError, ValueError) as error:  # a name that is too long, or that holds a NUL
        raise ModelNotFound(f"{str(path)!r} can't be opened: {error}") from error


def suffix_note(path: Path, format: Format) -> str:
    """A word of warning where the name promises another format than the content has."""
    suffix = path.suffix.lower()
    named = [each for each, suffixes in SUFFIXES.items() if suffix in suffixes]
    if not named or format in named:
        return ""
    return f"{path.name} is named {suffix}, but is {WORDS[format]}; it is read as that"


def _identify_file(path: Path) -> Format:
    with path.open("rb") as file:
        sample = Sample(path, file, path.stat().st_size)
        if not sample.size:
            raise UnknownFormat(
                f"{path} is empty: 0 bytes",
                hint="its download or save did not get that far: get it again.",
                path=str(path),
            )
        for recognise in FAMILIES:
            format = recognise(sample)
            if format is not None:
                return format
        identify_other.refuse(sample)
        format = identify_protobuf.recognise(sample)
        if format is not None:
            return format
        identify_other.refuse_by_name(sample)
        raise _unknown(sample)


def _unknown(sample: Sample) -> EdgepipeError:
    suffix = sample.path.suffix.lower()
    named = [words for format, words in WORDS.items() if suffix in SUFFIXES[format]]
    expected = f"{named[0]}, as it is named {suffix}" if named else "a model"
    return UnknownFormat(
        f"{sample.path} is of no known format: expected {expected}, received {sample.size:,} bytes "
        f"that begin with {sample.head[:8].hex(' ')}",
        hint=f"it may be damaged or only half downloaded. {KNOWN}",
        path=str(sample.path),
    )


def _missing(path: Path) -> EdgepipeError:
    if path.is_symlink():
        return ModelNotFound(
            f"{path} is a link to {path.readlink()}, which does not exist", path=str(path)
        )
    parent = path.parent
    if not parent.is_dir():
        return ModelNotFound(f"there is no folder {parent}", path=str(path))
    from difflib import get_close_matches

    names = [each.name for each in parent.iterdir()]
    near = get_close_matches(path.name, names, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(str(parent / name) for name in near)}?" if near else ""
    return ModelNotFound(f"there is no {path}", hint=hint, path=str(path))
