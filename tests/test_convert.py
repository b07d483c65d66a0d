"""`edgepipe convert` from end to end: every input format, through the real frameworks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepipe
from edgepipe import catalog, sandbox, tensors, worker_environment
from edgepipe.artifact import Artifact, Format, Signature
from edgepipe.errors import (
    NoRouteLeft,
    SamplesError,
    StageCrashed,
    ToolchainMissing,
    UnknownName,
)
from edgepipe.figures import sqnr_db
from edgepipe.post_mortem import Limits
from edgepipe.session import Session
from edgepipe.toolchain import find

pytestmark = pytest.mark.toolchain("keras", "torch", "onnx2tf", "litert-torch", "edge")

KERAS = """
import keras
keras.utils.set_random_seed(1)
image = keras.Input((8, 8, 3), name="image")
extra = keras.Input((4,), name="a_extra")
x = keras.layers.Conv2D(4, 3, activation="relu", padding="same")(image)
x = keras.layers.GlobalAveragePooling2D()(x)
x = keras.layers.Concatenate()([x, extra])
first = keras.layers.Dense(3, activation="softmax", name="z_first")(x)
second = keras.layers.Dense(3, activation="softmax", name="b_second")(x)
model = keras.Model([image, extra], [first, second])
model.save("net.keras")
model.save("net.h5")
model.export("saved", format="tf_saved_model", verbose=False)
"""

TORCH = """
import torch
from pathlib import Path
Path("net.py").write_text('''
import torch
class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3, padding=1)
        self.drop = torch.nn.Dropout(0.5)
    def forward(self, image):
        features = torch.nn.functional.hardswish(self.conv(image))
        return self.drop(features)
''')
import sys
sys.path.insert(0, ".")
from net import Net
torch.manual_seed(1)
model = Net(width=6).eval()
example = torch.zeros(1, 3, 8, 8)
torch.export.save(torch.export.export(model, (example,)), "net.pt2")
torch.jit.trace(model, example).save("net.pt")
torch.save(model.state_dict(), "weights.pt")
from safetensors.torch import save_file
save_file(model.state_dict(), "weights.safetensors")
torch.onnx.export(model, (example,), "net.onnx", dynamo=True, input_names=["image"],
                  output_names=["features"], verbose=False)
"""

ONNX = """
import numpy, onnx
from onnx import TensorProto, helper, numpy_helper
random = numpy.random.default_rng(0)
weights = numpy_helper.from_array(random.normal(size=(4, 5)).astype("float32"), "w")
def save(name, opset, listed, **how):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])]
    if listed:
        inputs.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 5]))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["y"])]
    graph = helper.make_graph(nodes, "g", inputs, [out], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)
    onnx.save(model, name, **how)
save("old.onnx", 7, True)
outside = dict(save_as_external_data=True, location="weights.bin", size_threshold=0)
save("outside.onnx", 13, False, **outside)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(autouse=True)
def shared_store(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPIPE_STORE", str(store))


def command(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgepipe", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


def run_tflite(result: edgepipe.Result, feeds: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What LiteRT itself makes of the delivered file, by the report's own account of its ends."""
    signature = result.report["outputs"][-1]["signature"]
    subject = Artifact(result.model, Format.TFLITE, "", Signature.from_json(signature))
    tensors.write(folder / "feeds.npz", [feeds])
    with sandbox.Workers(folder / "workers", Limits()) as workers:
        (folder / "workers").mkdir()
        workers.call(
            find("edge"),
            "edgepipe.work:infer",
            {
                "artifact": subject.to_json(),
                "feeds": str(folder / "feeds.npz"),
                "outputs": str(folder / "outputs.npz"),
            },
            folder / "log",
        )
    return next(iter(tensors.read(folder / "outputs.npz")))


@pytest.mark.parametrize("name", ["net.keras", "net.h5", "saved"])
def test_keras_models_become_proven_tflite(
    name: str, build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    result = edgepipe.convert(build("keras", KERAS) / name, out=tmp_path / "out")
    ends = result.report["outputs"][-1]["signature"]
    assert {port["name"] for port in ends["inputs"]} == {"image", "a_extra"}
    if name != "saved":  # A SavedModel's signature is a dictionary: it has no order of its own.
        assert [port["name"] for port in ends["inputs"]] == ["image", "a_extra"]
        assert [port["name"] for port in ends["outputs"]] == ["z_first", "b_second"]
    assert result.sqnr_db is not None
    assert result.sqnr_db > 90
    assert sorted(result.files) == ["model.onnx", "model_float32.tflite"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("net.pt2", {}),
        ("net.pt", {"inputs": ["1x3x8x8"]}),
        ("net:Net", {"weights": "weights.pt", "inputs": ["image=1x3x8x8:float32"]}),
        ("net:Net", {"weights": "weights.safetensors", "inputs": ["image=1x3x8x8"]}),
        ("net.onnx", {}),
    ],
    ids=["pt2", "torchscript", "state-dict", "safetensors", "onnx"],
)
def test_torch_models_become_channels_last_and_say_so(
    name: str, settings: dict[str, Any], build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    folder = build("torch", TORCH)
    settings = dict(settings)
    if ":" in name:
        settings["weights"] = folder / settings["weights"]
        settings |= {"python_path": (str(folder),), "model_args": {"width": 6}}
    model = name if ":" in name else folder / name
    result = edgepipe.convert(model, out=tmp_path / "out", **settings)
    ends = result.report["outputs"][-1]["signature"]
    assert ends["inputs"][0]["shape"] == [1, 8, 8, 3]
    assert ends["inputs"][0]["permutation"] == [0, 2, 3, 1]
    feed = np.random.default_rng(9).normal(size=(1, 3, 8, 8)).astype("float32")
    weights = np.load(_reference(build, feed))["y"]
    (found,) = run_tflite(result, {ends["inputs"][0]["name"]: feed}, tmp_path).values()
    assert sqnr_db(weights, found) > 90


def _reference(build: Callable[[str, str], Path], feed: Any) -> Path:
    """What PyTorch itself says of a feed that edgepipe never saw."""
    folder = build("torch", TORCH)
    np.save(folder / "feed.npy", feed)
    code = (
        "import numpy, torch\n"
        "net = torch.jit.load('net.pt').eval()\n"
        "y = net(torch.from_numpy(numpy.load('feed.npy'))).detach().numpy()\n"
        "numpy.savez('reference.npz', y=y)"
    )
    subprocess.run([str(find("torch").python), "-c", code], cwd=folder, check=True)
    return folder / "reference.npz"


def test_keep_layout_leaves_the_inputs_as_they_are(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    result = edgepipe.convert(
        build("torch", TORCH) / "net.onnx", out=tmp_path / "out", keep_layout=True
    )
    ends = result.report["outputs"][-1]["signature"]
    assert ends["inputs"][0]["shape"] == [1, 3, 8, 8]
    assert "permutation" not in ends["inputs"][0]


@pytest.mark.parametrize("name", ["old.onnx", "outside.onnx"])
@pytest.mark.parametrize("batch", [1, 4])
def test_onnx_of_every_shape_converts_with_a_pinned_batch(
    name: str, batch: int, build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    result = edgepipe.convert(
        build("edge", ONNX) / name, out=tmp_path / "out", inputs=[f"x={batch}x4"]
    )
    assert result.report["outputs"][-1]["signature"]["outputs"][0]["shape"] == [batch, 5]


def test_a_second_run_does_nothing_again_and_says_so(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = build("keras", KERAS) / "net.h5"
    first = edgepipe.convert(model, out=tmp_path / "first", seed=77)
    second = edgepipe.convert(model, out=tmp_path / "second", seed=77)
    assert second.report["workers"] == 0
    chosen = next(item for item in second.report["routes"] if item["status"] == "chosen")
    assert {step["status"] for step in chosen["steps"]} == {"kept"}
    assert all(step["proof_kept"] for step in chosen["steps"])
    assert first.model.read_bytes() == second.model.read_bytes()


def test_a_changed_option_makes_only_what_follows_it(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = build("torch", TORCH) / "net.onnx"
    edgepipe.convert(model, out=tmp_path / "first")
    option = {"tflite_from_onnx": {"place_transposes": False}}
    result = edgepipe.convert(model, out=tmp_path / "second", options=option)
    steps = result.report["routes"][0]["steps"]
    assert [step["status"] for step in steps] == ["kept", "made"]


def test_goes_to_onnx_when_that_is_the_target(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    result = edgepipe.convert(
        build("keras", KERAS) / "net.keras", target="onnx", out=tmp_path / "out"
    )
    assert result.model.name == "model.onnx"
    again = edgepipe.convert(result.model, out=tmp_path / "tflite")
    assert again.route == "onnx2tf"


def test_a_tflite_file_is_run_before_it_is_passed_on(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    made = edgepipe.convert(build("keras", KERAS) / "net.h5", out=tmp_path / "out")
    result = edgepipe.convert(made.model, out=tmp_path / "again")
    assert result.route == "as-is"
    assert result.model.read_bytes() == made.model.read_bytes()
    assert result.sqnr_db is None, "nothing was made, so nothing was compared"


def test_explore_tries_every_route_and_times_the_results(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    result = edgepipe.convert(build("keras", KERAS) / "net.h5", out=tmp_path / "out", explore=True)
    proven = [item for item in result.report["routes"] if item["status"] in ("proven", "chosen")]
    assert len(proven) >= 2
    assert all(item["latency_ms"] > 0 for item in proven)


def test_a_result_that_can_not_be_timed_is_still_a_result(
    build: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = Session.call

    def crash(session: Session, name: str, entry: str, log: Path, **arguments: Any) -> Any:
        if entry.endswith(":latency") and "+" in log.stem:
            raise StageCrashed("it died")
        return call(session, name, entry, log, **arguments)

    monkeypatch.setattr(Session, "call", crash)
    result = edgepipe.convert(build("keras", KERAS) / "net.h5", out=tmp_path / "out", explore=True)
    assert result.route == "tflite-converter"
    untimed = [item for item in result.report["routes"] if item["status"] == "proven"]
    assert untimed
    assert {item["reason"] for item in untimed} == {"not timed: it died"}


def test_own_samples_are_used(build: Callable[[str, str], Path], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "samples.npz",
        image=random.random((6, 8, 8, 3), dtype="float32"),
        a_extra=random.random((6, 4), dtype="float32"),
    )
    result = edgepipe.convert(
        build("keras", KERAS) / "net.h5", out=tmp_path / "out", samples=tmp_path / "samples.npz"
    )
    assert result.report["samples"]["from"].endswith("samples.npz")
    assert result.report["routes"][0]["end_to_end"]["samples"] == 6


def test_the_command_prints_json_alone_on_standard_output(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    done = command("convert", build("keras", KERAS) / "net.h5", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["schema"] == 1
    assert set(report["toolchains"]) == {"keras", "onnx2tf", "edge"}
    assert report["toolchains"]["keras"]["versions"]["tensorflow"]
    assert report["peak_memory"]["edgepipe"] > 0


def test_piped_output_has_no_escapes_and_quiet_none_at_all(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = build("keras", KERAS) / "net.h5"
    plain = command("convert", model, "-o", tmp_path / "out")
    assert "\x1b" not in plain.stdout + plain.stderr
    assert "\r" not in plain.stderr
    assert "tflite_from_onnx" in plain.stderr
    quiet = command("convert", model, "-o", tmp_path / "out", "-q")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")


def test_a_dry_run_shows_the_routes_and_makes_nothing(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    done = command("convert", build("keras", KERAS) / "net.h5", "-o", tmp_path / "x", "--dry-run")
    assert done.returncode == 0
    assert "tf2onnx+onnx2tf" in done.stdout
    assert not (tmp_path / "x").exists()


def test_an_unknown_route_lists_the_known_ones(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UnknownName) as caught:
        edgepipe.convert(build("keras", KERAS) / "net.h5", out=tmp_path, route="onx2tf")
    assert "tf2onnx+onnx2tf" in caught.value.hint


def test_a_missing_toolchain_ends_the_run_before_any_work(
    build: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPIPE_CACHE", str(tmp_path / "empty"))
    with pytest.raises(ToolchainMissing) as caught:
        edgepipe.convert(build("keras", KERAS) / "net.h5", out=tmp_path / "out")
    assert "edgepipe toolchain install" in caught.value.hint
    assert "onnx2tf" in caught.value.hint
    assert not (tmp_path / "out").exists()
    assert caught.value.exit_code == 3


WRONG = '''
"""Stages that break their promises, each in its own way."""
from pathlib import Path
from edgepipe.converters.tflite_from_onnx import TfliteFromOnnx

class Negated(TfliteFromOnnx):
    """Ends well with a model that computes something else."""
    name = "tflite_from_onnx"
    def run(self, artifact, options, workdir):
        import numpy, onnx
        model = onnx.load(str(artifact.path))
        for weights in model.graph.initializer:
            values = onnx.numpy_helper.to_array(weights)
            if values.ndim > 1:
                weights.CopyFrom(onnx.numpy_helper.from_array(-values, weights.name))
        broken = workdir.parent / "broken.onnx"
        onnx.save(model, str(broken))
        from dataclasses import replace
        return super().run(replace(artifact, path=broken), options, workdir)

class Nothing(Negated):
    """Ends well and writes nothing."""
    def run(self, artifact, options, workdir):
        product = TfliteFromOnnx.run(self, artifact, options, workdir)
        product.path.unlink()
        return product
'''


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [("Negated", "unproven", "changed what the model computes"), ("Nothing", "failed", "wrote no")],
)
def test_broken_output_is_caught_and_the_next_route_taken(
    kind: str,
    status: str,
    words: str,
    build: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The catalog names another class, and the worker is given the folder that it is in."""
    (tmp_path / "broken_stages").mkdir()
    (tmp_path / "broken_stages" / "__init__.py").write_text(WRONG)
    mounted = {**worker_environment.mounts(), "broken_stages": str(tmp_path / "broken_stages")}
    monkeypatch.setattr("edgepipe.sandbox.mounts", lambda: mounted)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "broken_stages", raising=False)
    monkeypatch.setitem(catalog.STAGES, "tflite_from_onnx", f"broken_stages:{kind}")
    monkeypatch.setenv("EDGEPIPE_STORE", str(tmp_path / "store"))
    catalog.stage.cache_clear()
    try:
        result = edgepipe.convert(build("keras", KERAS) / "net.h5", out=tmp_path / "out")
        again = edgepipe.convert(build("keras", KERAS) / "net.h5", out=tmp_path / "out")
    finally:
        catalog.stage.cache_clear()
    assert again.report["workers"] == 0, "a failure that would come again is not met again"
    tried = {item["route"]: item for item in result.report["routes"]}
    assert tried["tf2onnx+onnx2tf"]["status"] == "failed"
    assert tried["tf2onnx+onnx2tf"]["steps"][-1]["status"] == status
    assert words in tried["tf2onnx+onnx2tf"]["reason"]
    assert result.route != "tf2onnx+onnx2tf"
    assert result.sqnr_db is not None
    assert result.sqnr_db > 90


def test_part_of_a_torchscript_file_can_be_named(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    code = """
import torch
class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 2)
    def forward(self, x):
        return self.inner(x) + 1
torch.jit.trace(Outer(), torch.zeros(1, 4)).save("outer.pt")
"""
    result = edgepipe.convert(
        build("torch", code) / "outer.pt",
        out=tmp_path / "out",
        submodule="inner",
        inputs=["1x4"],
        target="onnx",
    )
    assert result.report["routes"][0]["steps"][-1]["summary"]["by_type"] == {"Gemm": 1}


def test_a_model_that_says_nothing_on_noise_asks_for_real_samples(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    code = """
import onnx
from onnx import TensorProto, helper
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
nodes = [helper.make_node("Sub", ["x", "x"], ["z"]), helper.make_node("Div", ["z", "z"], ["y"])]
graph = helper.make_graph(nodes, "g", [x], [y])
opset = [helper.make_opsetid("", 13)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "nan.onnx")
"""
    with pytest.raises(SamplesError, match="NaN"):
        edgepipe.convert(build("edge", code) / "nan.onnx", out=tmp_path / "out")


def test_files_of_an_earlier_run_do_not_pass_for_this_ones(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = build("keras", KERAS) / "net.h5"
    edgepipe.convert(model, out=tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("kept")
    edgepipe.convert(model, out=tmp_path / "out", route="tflite-converter")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "manifest.json", "model_float32.tflite", "report.html", "report.json", "mine.txt",
    }  # fmt: skip


def test_a_failed_run_leaves_no_older_model_behind(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    edgepipe.convert(build("keras", KERAS) / "net.h5", out=tmp_path / "out")
    with pytest.raises(NoRouteLeft):
        edgepipe.convert(build("edge", ONNX) / "old.onnx", out=tmp_path / "out", min_sqnr=199.9)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html",
        "report.json",
    ]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["status"] == "failed"


def test_says_that_a_proof_on_guessed_integers_is_weak(
    build: Callable[[str, str], Path], tmp_path: Path
) -> None:
    code = """
import onnx
from onnx import TensorProto, helper
x = helper.make_tensor_value_info("ids", TensorProto.INT32, [1, 4])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
graph = helper.make_graph([helper.make_node("Cast", ["ids"], ["y"], to=1)], "g", [x], [y])
opset = [helper.make_opsetid("", 13)]
onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), "ids.onnx")
"""
    model = build("edge", code) / "ids.onnx"
    result = edgepipe.convert(model, out=tmp_path / "out", target="onnx")
    assert any("'ids'" in text and "--samples" in text for text in result.report["warnings"])
