"""How a validation runs: killed and gone on with, large outputs, data that one side can't read."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tflite_models import model_of
from validated_nets import dense, labelled

import edgepipe
from edgepipe.artifact import Port, Signature
from edgepipe.data.reader import Sample
from edgepipe.data.streaming import Stream
from edgepipe.dataset import DataSource
from edgepipe.errors import SamplesError
from edgepipe.store import Store
from edgepipe.tflite import saving
from edgepipe.tflite.graph import Op, Tensor
from edgepipe.validation import evaluating, outputs

pytestmark = pytest.mark.toolchain("edge")

ENDS = Signature((Port("x", (1, 6), "float32"),), ())
SLOW = """
import time
import numpy as np
def samples():
    random = np.random.default_rng(0)
    for number in range(80):
        time.sleep(0.04)
        yield {"x": random.standard_normal((1, 6)).astype("float32")}, number % 3
"""


def kinds(store: Path) -> dict[str, int]:
    with Store(store) as opened:
        return {name: kind.entries for name, kind in opened.info().kinds.items()}


def test_run_that_was_killed_is_gone_on_with(tmp_path: Path, fresh_store: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    artifact, against = dense(tmp_path, "other.tflite", 0.2), dense(tmp_path, "float.tflite")
    words = [str(artifact), "--against", str(against), "--data", "slow:samples", "--trust"]
    words += ["--python-path", str(tmp_path), "--jobs", "1", "-o", str(tmp_path / "out"), "-q"]
    process = subprocess.Popen([sys.executable, "-m", "edgepipe", "validate", *words])
    end = time.monotonic() + 120
    while kinds(fresh_store).get("rows", 0) < 2 and process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    if process.wait() == 0:
        pytest.skip("it was done before this test could look: the machine is overloaded")
    assert process.returncode == -signal.SIGKILL
    done = kinds(fresh_store)["rows"]
    assert done >= 2
    found = edgepipe.validate(
        artifact,
        against=against,
        data="slow:samples",
        trust=True,
        python_path=[str(tmp_path)],
        out=tmp_path / "out",
    )
    assert found.report["data"]["samples"] == 80
    assert found.report["data"]["kept_stretches"] >= done


def wide(folder: Path, name: str, value: float) -> Path:
    """A network whose output of 600,000 numbers is not worth keeping."""
    x, y = Tensor("x", (1, 6)), Tensor("y", (1, 6, 100_000))
    cut = Tensor("cut", (1, 6, 1))
    shape = Tensor.constant("shape", np.array([1, 6, 1], np.int32), "int32")
    row = Tensor.constant("row", np.full((1, 1, 100_000), value, np.float32), "float32")
    ops = [Op.make("RESHAPE", [x, shape], [cut]), Op.make("MUL", [cut, row], [y])]
    saving.save(model_of(ops, [x], [y]), folder / name)
    return folder / name


def test_large_outputs_do_not_stay(tmp_path: Path, fresh_store: Path) -> None:
    found = edgepipe.validate(
        wide(tmp_path, "other.tflite", 1.01),
        against=wide(tmp_path, "float.tflite", 1.0),
        data=labelled(tmp_path, 60),
        out=tmp_path / "out",
        metrics=["sqnr"],
        worst=2,
    )
    (score,) = found.validation.scores
    assert score.candidate.value == pytest.approx(40.0, abs=0.1)
    assert len(found.validation.worst) == 2
    assert "outputs" not in kinds(fresh_store)
    size = sum(file.stat().st_size for file in fresh_store.rglob("*") if file.is_file())
    assert size < 1 << 20, "60 outputs of 2.4 MB are 144 MB"


def test_stretches_of_large_samples_are_short() -> None:
    port = Port("x", (1, 1024, 1024, 3), "float32")
    assert evaluating._stretch_size(Signature((port,), (port,)), 10_000) == 5
    small = Port("x", (1, 8), "float32")
    assert evaluating._stretch_size(Signature((small,), (small,)), 10_000) == 500
    assert evaluating._stretch_size(Signature((small,), (small,)), 10) == 16
    unknown = Port("x", None, "float32")
    assert evaluating._stretch_size(Signature((small,), (unknown,)), 10_000) > 0


@pytest.mark.toolchain("keras")
def test_images_that_the_float_side_cannot_read_are_written_for_it(
    tmp_path: Path, fresh_store: Path, build: Callable[[str, str], Path]
) -> None:
    """Keras's toolchain has no Pillow. One file is damaged: both sides pass it over."""
    folder = build(
        "edge",
        """
import numpy as np
from pathlib import Path
from PIL import Image
random = np.random.default_rng(0)
for number in range(40):
    folder = Path("data") / "ab"[number % 2]
    folder.mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 256, (4, 4, 3)).astype("uint8")
    Image.fromarray(pixels).save(folder / f"{number:02}.png")
Path("data/a/06.png").write_bytes(b"no image")
""",
    )
    model = build(
        "keras",
        """
import keras, numpy, tensorflow
x = keras.Input((4, 4, 3), name="x")
y = keras.layers.Dense(2, name="scores")(keras.layers.Flatten()(x))
model = keras.Model(x, y)
model.save("net.keras")
fixed = keras.Input(batch_shape=(1, 4, 4, 3), name="x")
converter = tensorflow.lite.TFLiteConverter.from_keras_model(keras.Model(fixed, model(fixed)))
open("net.tflite", "wb").write(converter.convert())
""",
    )
    found = edgepipe.validate(
        model / "net.tflite",
        against=model / "net.keras",
        data=folder / "data",
        preprocessing={"scale": 1 / 255},
        out=tmp_path / "out",
    )
    assert found.report["data"]["samples"] == 39
    assert any("06.png" in note for note in found.validation.notes)
    (sqnr,) = [one for one in found.validation.scores if one.metric == "sqnr"]
    assert sqnr.candidate.value > 90, "the same samples went into both"


def test_too_many_samples_that_cannot_be_read_end_it(tmp_path: Path, fresh_store: Path) -> None:
    """The first look sees 16 of them; these are among the others."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(60):
        np.save(folder / f"{number:02}.npy", np.ones((1, 6), np.float32))
    said: dict[str, Any] = {
        "against": dense(tmp_path, "float.tflite"),
        "data": folder,
        "out": tmp_path / "out",
    }
    artifact = dense(tmp_path, "other.tflite", 0.2)
    for number in (3, 20, 40):
        (folder / f"{number:02}.npy").write_bytes(b"damaged")
    found = edgepipe.validate(artifact, **said)
    assert found.report["data"]["samples"] == 57
    assert sum("can't be read" in note for note in found.validation.notes) >= 3
    for number in range(20, 30):
        (folder / f"{number:02}.npy").write_bytes(b"damaged")
    with pytest.raises(SamplesError, match="can't be read"):
        edgepipe.validate(artifact, **said)


# Reading on


def taken(stream: Stream, start: int, stop: int) -> list[Any]:
    found = [one for _, one in stream.take(start, stop)]
    assert all(isinstance(one, Sample) for one in found)
    return [one.feeds["x"] for one in found if isinstance(one, Sample)]


@pytest.mark.parametrize("packed", [False, True])
def test_stretches_are_the_same_samples_as_one_pass(tmp_path: Path, packed: bool) -> None:
    x = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    (np.savez_compressed if packed else np.savez)(tmp_path / "x.npz", x=x)
    stream = Stream(DataSource.of(tmp_path / "x.npz").open(ENDS))
    assert np.array_equal(np.concatenate(taken(stream, 0, 20)), x[:20])
    assert np.array_equal(np.concatenate(taken(stream, 30, 50)), x[30:])
    assert np.array_equal(np.concatenate(taken(stream, 10, 12)), x[10:12]), "back again"
    assert np.array_equal(np.concatenate(taken(stream, 12, 50)), x[12:])


def test_ascending_stretches_are_one_pass_over_the_data(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((50, 6), np.float32))
    dataset = DataSource.of(tmp_path / "x.npz").open(ENDS)
    begun: list[int] = []
    begin = dataset.at

    def counting(places: list[int]) -> Any:
        begun.append(len(places))
        return begin(places)

    dataset.at = counting  # type: ignore[assignment]
    stream = Stream(dataset)
    for at in (0, 10, 30):
        taken(stream, at, at + 10)
    assert len(begun) == 1
    taken(stream, 20, 25)
    assert len(begun) == 2


def test_data_that_shrank_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((50, 6), np.float32))
    stream = Stream(DataSource.of(tmp_path / "x.npz").open(ENDS))
    assert stream.dataset.indices
    stream.dataset.at = lambda places: iter(())  # type: ignore[method-assign]
    with pytest.raises(SamplesError, match="held 50 samples at first and ends at 0"):
        taken(stream, 0, 5)


def test_outputs_come_back_as_they_were(tmp_path: Path) -> None:
    alike: list[dict[str, NDArray[Any]]]
    alike = [{"a": np.full((1, 2), number), "b/c": np.ones(3)} for number in range(4)]
    unlike: list[dict[str, NDArray[Any]]]
    unlike = [{"a": np.zeros((1, number))} for number in range(3)]
    for samples in (alike, unlike, []):
        outputs.write(tmp_path / "o.npz", samples)
        found = list(outputs.read(tmp_path / "o.npz"))
        assert len(found) == len(samples)
        for one, other in zip(samples, found, strict=True):
            assert list(one) == list(other)
            assert all(np.array_equal(one[name], other[name]) for name in one)


def test_rows_of_any_length_come_back(tmp_path: Path) -> None:
    rows = {"fixed": [np.arange(3.0), np.ones(3)], "ragged": [np.ones(2), np.zeros(0), np.ones(1)]}
    outputs.write_rows(tmp_path / "r.npz", {**rows, "none": []})
    found = outputs.read_rows(tmp_path / "r.npz")
    assert found.pop("none") == []
    for name, wanted in rows.items():
        assert all(map(np.array_equal, wanted, found[name]))
    fixed, ragged = found["fixed"], found["ragged"]
    assert np.shape(outputs.joined([fixed, fixed])) == (4, 3)
    assert len(outputs.joined([ragged, ragged])) == 6
    assert isinstance(outputs.joined([ragged, ragged]), list)
