"""PyTorch models: every way they are saved, what is refused, and the three ways out of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepipe.artifact import Artifact
from edgepipe.errors import (
    EdgepipeError,
    InputError,
    ModelNotFound,
    OptionError,
    TrustRequired,
    UnknownName,
    UnsupportedModel,
    UsageError,
    UserCodeError,
)
from edgepipe.runner import Description

pytestmark = pytest.mark.toolchain("torch", "edge")

NET = '''
import dataclasses, torch
from torch import nn

class Net(nn.Module):
    """What converters trip over: batch-norm, dropout, two inputs, two outputs."""
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(width, 2)
    def forward(self, image, bias, scale: float = 1.0):
        features = torch.relu(self.norm(self.conv(image)))
        return self.head(self.drop(features.mean((2, 3)))) * scale + bias, features

class Named(nn.Module):
    def forward(self, x, extra=None):
        return {"x": x + 1, "parts": [x * 2, None if extra is None else extra * 3]}

@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    loss: object = None

class Wrapped(nn.Module):
    def forward(self, x): return Answer(x * 2)

class Unused(nn.Module):
    def forward(self, a, b): return a * 2

class Lookup(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 4)
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)
    def forward(self, ids): return self.encoder(self.table(ids))

class ChannelsLast(nn.Module):
    def forward(self, x): return x.permute(0, 3, 1, 2).mean((2, 3))

class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = torch.zeros(1)
    def forward(self, x):
        self.seen = self.seen + 1.0
        return x * self.seen

class Outer(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Wise()
    def forward(self, x, rate: int): return self.inner(x) * rate

class Wise(nn.Module):
    def forward(self, x):
        if x.dim() == 2: return x * 2
        return x

def make():
    torch.manual_seed(5)
    net = Net()
    net.norm.running_mean.uniform_(-1, 1)
    net.norm.running_var.uniform_(0.5, 2)
    return net

def scripted(): return torch.jit.script(Wise())
def breaks(): return deeper()
def deeper(): raise RuntimeError("no luck")
def no_module(): return {}
LIMIT = 3
'''

BUILD = f"""
from pathlib import Path
Path("net.py").write_text({NET!r})
import sys; sys.path.insert(0, ".")
import numpy, torch, warnings, net
warnings.simplefilter("ignore")
model = net.make().eval()
args = torch.randn(1, 3, 6, 5), torch.randn(1, 2)
state = model.state_dict()
torch.export.save(torch.export.export(model, args), "export.pt2")
torch.jit.trace(model, args).save("traced.pt")
torch.jit.script(model).save("scripted.pt")
torch.save(model, "pickled.pt")
torch.save(state, "state.pth")
inner = {{"module." + name: tensor for name, tensor in state.items()}}
torch.save({{"epoch": 1, "state_dict": inner}}, "nested.pth")
torch.save({{"model": model}}, "whole.pth")
torch.save({{"head.weight": torch.zeros(3, 3), "tail": torch.zeros(1)}}, "other.pth")
torch.jit.script(net.Counter()).save("counter.pt")
torch.jit.script(net.Outer()).save("outer.pt")
from safetensors.torch import save_file
save_file(state, "state.safetensors")
Path("cut.safetensors").write_bytes(Path("state.safetensors").read_bytes()[:-4])
Path("needs.py").write_text("import not_installed_anywhere")
Path("broken.py").write_text("def f(:")
image, bias = (arg.numpy() for arg in args)
first, second = (out.detach().numpy() for out in model(*args))
numpy.savez("expected.npz", image=image, bias=bias, output_0=first, output_1=second)
"""

SHAPES = "image=1x3x6x5,bias=1x2"
FORMS: dict[str, dict[str, Any]] = {
    "export.pt2": {},
    "traced.pt": {},
    "scripted.pt": {},
    "pickled.pt": {"trust": True},
    "state.pth": {"factory": "net:make"},
}

Make = Callable[..., Artifact]
Tensors = dict[str, Any]


@pytest.fixture
def saved(build: Callable[[str, str], Path]) -> Path:
    return build("torch", BUILD)


@pytest.fixture
def load(saved: Path, artifact: Make) -> Make:
    """The artifact of a file; code and weights where a factory is named."""

    def made(name: str, inputs: str = SHAPES, **loading: Any) -> Artifact:
        if "factory" in loading and name:
            loading["weights"] = str(saved / name)
        return artifact(saved / (name or "net.py"), inputs=inputs, python_path=[saved], **loading)

    return made


def expected(saved: Path) -> tuple[Tensors, Tensors]:
    tensors = dict(np.load(saved / "expected.npz"))
    return (
        {name: tensors[name] for name in ("image", "bias")},
        {name: tensors[name] for name in ("output_0", "output_1")},
    )


def assert_same(received: Tensors, wanted: Tensors) -> None:
    assert list(received) == list(wanted)
    for name, tensor in wanted.items():
        np.testing.assert_allclose(received[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_models_own_numbers(
    form: str, load: Make, saved: Path, infer: Callable[..., Tensors]
) -> None:
    feeds, wanted = expected(saved)
    assert_same(infer(load(form, **FORMS[form]), feeds), wanted)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stage", ["onnx_from_torch.dynamo", "onnx_from_torch.torchscript"])
def test_every_form_converts_to_onnx(
    stage: str,
    form: str,
    load: Make,
    saved: Path,
    run_stage: Callable[..., Artifact],
    infer: Callable[..., Tensors],
) -> None:
    feeds, wanted = expected(saved)
    assert_same(infer(run_stage(stage, load(form, **FORMS[form])), feeds), wanted)


@pytest.mark.toolchain("torch", "litert-torch", "edge")
@pytest.mark.parametrize("form", FORMS)
def test_every_form_converts_to_tflite_with_images_as_nhwc(
    form: str,
    load: Make,
    saved: Path,
    run_stage: Callable[..., Artifact],
    infer: Callable[..., Tensors],
) -> None:
    feeds, wanted = expected(saved)
    made = run_stage("tflite_from_torch", load(form, **FORMS[form]))
    image, bias = made.ends().inputs
    assert image.shape == (1, 6, 5, 3) and image.permutation == (0, 2, 3, 1)
    assert bias.shape == (1, 2) and bias.permutation is None
    assert [port.shape for port in made.ends().outputs] == [(1, 2), (1, 6, 5, 4)]
    assert_same(infer(made, feeds), wanted)


@pytest.mark.toolchain("torch", "litert-torch", "edge")
def test_tflite_keeps_the_layout_when_asked(
    load: Make, saved: Path, run_stage: Callable[..., Artifact], infer: Callable[..., Tensors]
) -> None:
    feeds, wanted = expected(saved)
    made = run_stage("tflite_from_torch", load("export.pt2"), keep_layout=True)
    assert [port.shape for port in made.ends().inputs] == [(1, 3, 6, 5), (1, 2)]
    assert_same(infer(made, feeds), wanted)


@pytest.mark.toolchain("torch", "litert-torch", "edge")
def test_tflite_leaves_an_image_that_is_nhwc_already(
    load: Make, run_stage: Callable[..., Artifact], infer: Callable[..., Tensors]
) -> None:
    made = run_stage("tflite_from_torch", load("", inputs="x=1x6x5x3", factory="net:ChannelsLast"))
    assert made.ends().inputs[0].permutation is None
    image = np.arange(90, dtype=np.float32).reshape(1, 6, 5, 3)
    assert_same(infer(made, {"x": image}), {"output": image.mean((1, 2))})


@pytest.mark.parametrize("weights", ["state.pth", "nested.pth", "state.safetensors"])
def test_reads_weights_however_they_are_kept(
    weights: str, load: Make, saved: Path, infer: Callable[..., Tensors]
) -> None:
    feeds, wanted = expected(saved)
    assert_same(infer(load(weights, factory="net:Net"), feeds), wanted)


def test_takes_the_weights_of_a_pickled_module_with_trust(
    load: Make, saved: Path, infer: Callable[..., Tensors]
) -> None:
    feeds, wanted = expected(saved)
    assert_same(infer(load("whole.pth", factory="net:Net", trust=True), feeds), wanted)


def test_a_factory_without_weights_gives_the_same_numbers_in_every_process(
    load: Make, saved: Path, infer: Callable[..., Tensors]
) -> None:
    feeds, _ = expected(saved)
    model = load("", factory="net:Net")
    assert_same(infer(model, feeds), infer(model, feeds))


def test_describes_an_export_without_running_it(
    load: Make, describe: Callable[[Artifact], Description]
) -> None:
    found = describe(load("export.pt2"))
    assert [(p.name, p.shape) for p in found.signature.inputs] == [
        ("image", (1, 3, 6, 5)),
        ("bias", (1, 2)),
    ]
    assert [(p.name, p.shape) for p in found.signature.outputs] == [
        ("output_0", (1, 2)),
        ("output_1", (1, 4, 6, 5)),
    ]
    assert found.parameters == 130
    assert found.ops["aten.conv2d"] == 1


def test_describes_code_by_what_its_forward_takes(
    load: Make, describe: Callable[[Artifact], Description]
) -> None:
    found = describe(load("state.pth", factory="net:Net"))
    assert [port.name for port in found.signature.inputs] == ["image", "bias"]
    assert found.facts["optional_inputs"] == ["scale"]
    assert found.ops["Conv2d"] == 1


def test_names_outputs_by_their_keys_and_never_like_an_input(
    load: Make, infer: Callable[..., Tensors]
) -> None:
    x = np.ones((1, 2), np.float32)
    received = infer(load("", inputs="x=1x2", factory="net:Named"), {"x": x})
    assert_same(received, {"x_out": x + 1, "parts_0": x * 2})


def test_names_the_fields_of_a_dataclass(load: Make, infer: Callable[..., Tensors]) -> None:
    x = np.ones((1, 2), np.float32)
    received = infer(load("", inputs="x=1x2", factory="net:Wrapped"), {"x": x})
    assert_same(received, {"logits": x * 2})


@pytest.mark.parametrize("stage", ["onnx_from_torch.dynamo", "onnx_from_torch.torchscript"])
def test_keeps_an_input_that_the_model_does_not_use(
    stage: str, load: Make, run_stage: Callable[..., Artifact], infer: Callable[..., Tensors]
) -> None:
    made = run_stage(stage, load("", inputs="a=1x2,b=1x3", factory="net:Unused"))
    feeds = {"a": np.ones((1, 2), np.float32), "b": np.ones((1, 3), np.float32)}
    assert_same(infer(made, feeds), {"output": feeds["a"] * 2})


@pytest.mark.parametrize("stage", ["onnx_from_torch.dynamo", "onnx_from_torch.torchscript"])
def test_converts_integer_inputs_and_a_transformer(
    stage: str, load: Make, run_stage: Callable[..., Artifact], infer: Callable[..., Tensors]
) -> None:
    model = load("", inputs="ids=1x5:int64", factory="net:Lookup")
    feeds = {"ids": np.array([[0, 3, 8, 1, 1]])}
    assert_same(infer(run_stage(stage, model), feeds), infer(model, feeds))


def test_a_factory_may_give_torchscript(
    load: Make, run_stage: Callable[..., Artifact], infer: Callable[..., Tensors]
) -> None:
    made = run_stage("onnx_from_torch.dynamo", load("", inputs="x=1x2", factory="net:scripted"))
    x = np.ones((1, 2), np.float32)
    assert_same(infer(made, {"x": x}), {"output": x * 2})


def test_the_dynamo_exporter_refuses_opset_17(
    load: Make, run_stage: Callable[..., Artifact]
) -> None:
    with pytest.raises(OptionError, match="18 to"):
        run_stage("onnx_from_torch.dynamo", load("export.pt2"), opset=17)


REFUSED: list[tuple[str, dict[str, Any], type[EdgepipeError], str]] = [
    ("pickled.pt", {}, TrustRequired, "runs code"),
    ("whole.pth", {"factory": "net:Net"}, TrustRequired, "net.Net"),
    ("other.pth", {"factory": "net:Net"}, UnsupportedModel, r"7 missing .*1 unexpected \(tail\)"),
    ("cut.safetensors", {"factory": "net:Net"}, UnsupportedModel, "cut short"),
    ("counter.pt", {"inputs": ""}, UnsupportedModel, "keeps state between calls in seen"),
    ("outer.pt", {"inputs": ""}, UnsupportedModel, "'rate' .* is of type int"),
    ("", {"factory": "net:nope"}, UnknownName, "unknown factory of net 'nope'"),
    ("", {"factory": "net:LIMIT"}, UsageError, "of type int, expected a function or class"),
    ("", {"factory": "net:no_module"}, UnsupportedModel, "returned dict"),
    ("", {"factory": "gone:make"}, UsageError, "no module 'gone'"),
    ("", {"factory": "needs:make"}, UserCodeError, "not_installed_anywhere"),
    ("", {"factory": "broken:make"}, UserCodeError, "SyntaxError"),
]


@pytest.mark.parametrize(("name", "loading", "error", "words"), REFUSED)
def test_refuses_what_can_not_be_loaded(
    name: str, loading: dict[str, Any], error: type[EdgepipeError], words: str, load: Make
) -> None:
    with pytest.raises(error, match=words) as caught:
        load(name, **loading)
    assert caught.value.hint or error is UserCodeError or name == "cut.safetensors"


def test_a_factory_that_raises_shows_the_users_own_frames_only(load: Make) -> None:
    with pytest.raises(UserCodeError) as caught:
        load("", factory="net:breaks")
    assert "RuntimeError: no luck" in caught.value.message
    frames = [line for line in caught.value.message.splitlines() if line.startswith("  File")]
    assert [frame.rpartition(" in ")[2] for frame in frames] == ["breaks", "deeper"]


def test_lists_the_inputs_when_a_feed_has_another_name(
    load: Make, infer: Callable[..., Tensors]
) -> None:
    with pytest.raises(InputError, match=r"takes 'image', 'bias'.*received 'wrong'"):
        infer(load("export.pt2"), {"wrong": np.zeros((1, 2), np.float32)})


def test_says_that_the_model_can_not_run_on_a_shape(
    load: Make, infer: Callable[..., Tensors]
) -> None:
    model = load("", inputs="image=1x4x6x5,bias=1x2", factory="net:Net")
    feeds = {"image": np.zeros((1, 4, 6, 5), np.float32), "bias": np.zeros((1, 2), np.float32)}
    with pytest.raises(InputError, match=r"can't run on image 1x4x6x5 float32.*channels"):
        infer(model, feeds)


def test_missing_weights_are_named(load: Make) -> None:
    with pytest.raises(ModelNotFound, match=r"gone\.pth"):
        load("gone.pth", factory="net:Net")
