"""Files that the frameworks themselves write are told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepipe.artifact import Format
from edgepipe.errors import EdgepipeError, UnsupportedModel
from edgepipe.identify import identify

Build = Callable[[str, str], Path]

KERAS = """
import keras, tensorflow as tf
net = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
net.save("net.keras"); net.save("net.h5"); net.save_weights("net.weights.h5")
net.export("exported", verbose=False)
keras.saving.save_model(net, "folder", zipped=False)
wide = keras.Sequential([keras.layers.Input((2,))]
    + [keras.layers.Dense(2, name=f"a_layer_with_a_long_name_{i}") for i in range(150)])
wide.save("wide.h5")
lite = tf.lite.TFLiteConverter.from_saved_model("exported").convert()
open("net.tflite", "wb").write(lite)
"""
TF_KERAS = """
import tf_keras
net = tf_keras.Sequential([tf_keras.layers.InputLayer((4,)), tf_keras.layers.Dense(3)])
net.save("net.h5"); net.save("folder"); net.save("net.keras")
net.save_weights("weights.h5"); net.save_weights("checkpoint/net")
"""
TORCH = """
import sys, torch
from pathlib import Path

# TorchScript compiles from source, so the class needs a file.
Path("network.py").write_text('''
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(4, 3)
    def forward(self, x):
        return torch.relu(self.dense(x))
''')
sys.path.insert(0, str(Path.cwd()))
from network import Net

net, x = Net().eval(), torch.zeros(1, 4)
state = net.state_dict()
old = {"_use_new_zipfile_serialization": False}
torch.save(net, "module.pt"); torch.save(net, "old_module.pt", **old)
torch.save(state, "state.pt"); torch.save(state, "old_state.pt", **old)
torch.save({"state_dict": state, "epoch": 3}, "checkpoint.pth")
torch.save({"model": net, "epoch": 3}, "holds_module.pt")
torch.save(list(state.values()), "list.pt")
torch.jit.script(net).save("script.pt"); torch.jit.trace(net, x).save("trace.pt")
torch.export.save(torch.export.export(net, (x,)), "net.pt2")
torch.onnx.export(net, (x,), "net.onnx")
"""
FORMATS = [
    ("net.keras", Format.KERAS),
    ("net.h5", Format.KERAS_H5),
    ("wide.h5", Format.KERAS_H5),
    ("exported", Format.SAVED_MODEL),
    ("folder", Format.KERAS),
    ("net.tflite", Format.TFLITE),
]
TF_KERAS_FORMATS = [
    ("net.keras", Format.KERAS),
    ("net.h5", Format.KERAS_H5),
    ("folder", Format.SAVED_MODEL),
]
TORCH_FORMATS = [
    ("module.pt", Format.TORCH_PICKLE),
    ("old_module.pt", Format.TORCH_PICKLE),
    ("script.pt", Format.TORCHSCRIPT),
    ("trace.pt", Format.TORCHSCRIPT),
    ("net.pt2", Format.TORCH_EXPORT),
    ("net.onnx", Format.ONNX),
]
TORCH_REFUSED = [
    ("state.pt", "a PyTorch state_dict"),
    ("old_state.pt", "a PyTorch state_dict"),
    ("checkpoint.pth", "a PyTorch checkpoint"),
    ("holds_module.pt", "pickled objects"),
    ("list.pt", "tensors saved by PyTorch"),
]


@pytest.mark.toolchain("keras")
@pytest.mark.parametrize(("name", "format"), FORMATS)
def test_what_keras_writes(build: Build, name: str, format: Format) -> None:
    assert identify(build("keras", KERAS) / name) is format


@pytest.mark.toolchain("keras")
@pytest.mark.parametrize(("name", "format"), TF_KERAS_FORMATS)
def test_what_keras_2_writes(build: Build, name: str, format: Format) -> None:
    assert identify(build("keras", TF_KERAS) / name) is format


@pytest.mark.toolchain("keras")
def test_weights_of_both_keras_are_refused(build: Build) -> None:
    for path in (build("keras", KERAS) / "net.weights.h5", build("keras", TF_KERAS) / "weights.h5"):
        with pytest.raises(UnsupportedModel, match="only the weights of a Keras model"):
            identify(path)
    for name in ("checkpoint", "checkpoint/net.index", "checkpoint/net.data-00000-of-00001"):
        with pytest.raises(UnsupportedModel, match="a TensorFlow checkpoint"):
            identify(build("keras", TF_KERAS) / name)


@pytest.mark.toolchain("torch")
@pytest.mark.parametrize(("name", "format"), TORCH_FORMATS)
def test_what_pytorch_writes(build: Build, name: str, format: Format) -> None:
    assert identify(build("torch", TORCH) / name) is format


@pytest.mark.toolchain("torch")
@pytest.mark.parametrize(("name", "words"), TORCH_REFUSED)
def test_what_pytorch_writes_without_its_code_is_refused(
    build: Build, name: str, words: str
) -> None:
    with pytest.raises(UnsupportedModel, match=words):
        identify(build("torch", TORCH) / name)


@pytest.mark.toolchain("keras", "torch")
def test_real_files_cut_short_are_noticed(build: Build, tmp_path: Path) -> None:
    models = [build("keras", KERAS) / name for name in ("net.keras", "net.h5", "net.tflite")]
    models += [build("torch", TORCH) / name for name in ("script.pt", "net.pt2", "net.onnx")]
    for model in models:
        short = tmp_path / model.name
        short.write_bytes(model.read_bytes()[:-40])
        with pytest.raises(EdgepipeError, match="cut short"):
            identify(short)
