"""Bundles: what is in them, that they are the same again, and that what was changed is refused."""

from __future__ import annotations

import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from small_bundles import COUNT, Converted, converted, python_of, result_of, rows, run, verdicts

import edgepipe
from edgepipe.bundling import limits, sealing
from edgepipe.errors import ModelNotFound, OptionError, PathError, UnknownName

pytestmark = pytest.mark.toolchain("edge")
run_on_device: Any = importlib.import_module("edgepipe.device_tests.run_on_device")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return converted(tmp_path_factory.mktemp("converted"))


@pytest.fixture(scope="module")
def made(subject: Converted, tmp_path_factory: pytest.TempPathFactory) -> edgepipe.Bundle:
    return subject.bundle(tmp_path_factory.mktemp("bundle") / "net.edgebundle", samples=40)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("cryptography")
    folder = tmp_path_factory.mktemp("keys")
    sealing.make_keys(folder)
    return folder


def rewritten(bundle: Path, target: Path, change: dict[str, bytes | None]) -> Path:
    """A copy with members replaced, added, or left out."""
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(target, "w") as new:
        for name in dict.fromkeys([*old.namelist(), *change]):
            content = change[name] if name in change else old.read(name)
            if content is not None:
                new.writestr(name, content)
    return target


def test_bundle_holds_each_form_samples_labels_references_and_the_runner(
    made: edgepipe.Bundle,
) -> None:
    manifest = made.manifest
    assert [model["name"] for model in manifest["models"]] == [
        "model_float32.tflite", "model_int8.tflite",
    ]  # fmt: skip
    assert [model["primary"] for model in manifest["models"]] == [False, True]
    assert manifest["samples"]["count"] == 40
    int8 = manifest["models"][1]
    assert rows(made.path, int8["outputs"][0]["expected"]).dtype == np.int8
    assert rows(made.path, int8["outputs"][0]["reference"]).dtype == np.float32
    assert len(rows(made.path, manifest["samples"]["labels"])) == 40
    with zipfile.ZipFile(made.path) as archive:
        assert set(archive.namelist()) == {"manifest.json", *manifest["files"]}
        assert "run_on_device.py" in archive.namelist()


def test_bundle_of_the_same_is_the_same_file(
    subject: Converted, made: edgepipe.Bundle, tmp_path: Path
) -> None:
    again = subject.bundle(tmp_path / "again.edgebundle", samples=40)
    assert again.path.read_bytes() == made.path.read_bytes()


def test_bytes_are_kept_where_the_preprocessing_replays_exactly(
    subject: Converted, made: edgepipe.Bundle, tmp_path: Path
) -> None:
    plain = subject.bundle(tmp_path / "plain.edgebundle", samples=40, raw=False)
    file = made.manifest["models"][0]["inputs"][0]
    assert rows(made.path, file["file"]).dtype == np.uint8
    assert file["steps"]["scale"] == 1 / 255
    assert rows(plain.path, file["file"]).dtype == np.float32
    results = [
        result_of(path, tmp_path / name, "--no-latency", python=python_of("edge"))
        for name, path in (("a", made.path), ("b", plain.path))
    ]
    seen = [model["outputs"] for result in results for model in result["models"]]
    assert seen[:2] == seen[2:]


def test_raw_is_refused_for_numbers_that_are_no_bytes(subject: Converted, tmp_path: Path) -> None:
    data = tmp_path / "floats.npz"
    np.savez(data, x=np.random.default_rng(0).uniform(0, 1, (5, 1, 16)).astype(np.float32))
    with pytest.raises(OptionError, match="no bytes"):
        subject.bundle(tmp_path / "x.edgebundle", data=data, labels="", raw=True)


def test_float_ends_of_an_int8_model_are_counted_in_its_steps(
    subject: Converted, tmp_path: Path
) -> None:
    folder = subject.folder.parent
    edgepipe.convert(
        folder / "net.tflite", precision="int8", io="float32", out=tmp_path / "out",
        calibration=folder / "calibration.npz", min_sqnr=0, repair="off",
    )  # fmt: skip
    made = Converted(tmp_path / "out", subject.data).bundle(tmp_path / "f.edgebundle", samples=9)
    (end,) = made.manifest["models"][1]["outputs"]
    assert (end["dtype"], end["step"]) == ("float32", 1 / 256)
    result = result_of(
        made.path, tmp_path / "r", "--no-latency", "--delegate", "none", python=python_of("edge")
    )
    (output,) = result["models"][1]["outputs"].values()
    assert sum(output["host"]["histogram"].values()) == 9 * 16
    assert output["host"]["most_steps"] * end["step"] == pytest.approx(output["host"]["most"])


@pytest.mark.toolchain("torch", "onnx2tf")
def test_layouts_are_applied_before_the_board(build: Any, tmp_path: Path) -> None:
    """A channels-first model becomes a channels-last file; the runner knows nothing of it."""
    folder = build("torch", TORCH)
    out = tmp_path / "out"
    np.savez(
        tmp_path / "x.npz", x=np.random.default_rng(1).normal(size=(12, 1, 3, 8, 6)).astype("f4")
    )
    edgepipe.convert(folder / "net.pt2", out=out)
    bundle = edgepipe.bundle(out, data=tmp_path / "x.npz", path=tmp_path / "n.edgebundle")
    (model,) = bundle.manifest["models"]
    assert model["inputs"][0]["shape"] == [1, 8, 6, 3]
    assert rows(bundle.path, model["inputs"][0]["file"]).shape == (12, 1, 8, 6, 3)
    result = result_of(bundle.path, tmp_path / "r", "--no-latency", python=python_of("edge"))
    (seen,) = result["models"][0]["outputs"].values()
    assert seen["reference"]["sqnr_db"] > 90
    assert seen["host"]["sqnr_db"] > 120


@pytest.mark.toolchain("torch", "onnx2tf")
def test_photos_stay_bytes_in_the_layout_of_the_file(build: Any, tmp_path: Path) -> None:
    """Decoded and cropped on the host; scale, mean and std are of moved channels on the board."""
    edgepipe.convert(build("torch", TORCH) / "net.pt2", out=tmp_path / "out")
    steps = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    made = [
        edgepipe.bundle(
            tmp_path / "out", data=build("edge", PHOTOS) / "photos", path=tmp_path / f"{raw}.zip",
            preprocessing={**steps, "crop": "short-side"}, raw=raw,
        )
        for raw in (True, False)
    ]  # fmt: skip
    assert made[0].manifest["samples"]["label_names"] == ["cat", "dog"]
    (file,) = made[0].manifest["models"][0]["inputs"]
    assert rows(made[0].path, file["file"]).dtype == np.uint8
    assert file["steps"]["mean"]["shape"] == [1, 1, 1, 3]
    wanted = rows(made[1].path, made[1].manifest["models"][0]["inputs"][0]["file"])
    for place, row in enumerate(rows(made[0].path, file["file"])):
        assert np.array_equal(run_on_device.prepared(row, file["steps"]), wanted[place])


PHOTOS = """
import pathlib
import numpy as np
from PIL import Image
random = np.random.default_rng(2)
for name in ("cat", "dog"):
    folder = pathlib.Path("photos") / name
    folder.mkdir(parents=True)
    for number in range(3):
        photo = random.integers(0, 256, (20, 14, 3), np.uint8)
        Image.fromarray(photo).save(folder / f"{number}.png")
"""
TORCH = """
import torch
net = torch.nn.Sequential(
    torch.nn.Conv2d(3, 5, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(5, 2, 3)).eval()
torch.export.save(torch.export.export(net, (torch.rand(1, 3, 8, 6),)), "net.pt2")
"""


def test_single_model_is_bundled_against_another(subject: Converted, tmp_path: Path) -> None:
    source = subject.folder.parent / "net.tflite"
    bundle = edgepipe.bundle(
        subject.folder / "model_int8.tflite", against=source, data=subject.data,
        preprocessing={"scale": 1 / 255}, path=tmp_path / "one.edgebundle", samples=10,
    )  # fmt: skip
    (model,) = bundle.manifest["models"]
    assert (model["name"], model["precision"]) == ("model_int8.tflite", "int8")


@pytest.mark.toolchain("openvino")
def test_folder_of_several_targets_becomes_one_bundle(subject: Converted, tmp_path: Path) -> None:
    edgepipe.convert_targets(
        subject.folder.parent / "net.tflite", ["tflite", "openvino"], precision="int8",
        calibration=subject.folder.parent / "calibration.npz", out=tmp_path / "out", min_sqnr=0,
        repair="off",
    )  # fmt: skip
    made = Converted(tmp_path / "out", subject.data).bundle(tmp_path / "t.edgebundle", samples=9)
    names = [model["name"] for model in made.manifest["models"]]
    assert names == [  # The float TFLite once, though both targets wrote it.
        "tflite/model_float32.tflite", "tflite/model_int8.tflite",
        "openvino/openvino", "openvino/openvino_int8",
    ]  # fmt: skip
    result = result_of(made.path, tmp_path / "r", "--no-latency", python=python_of("edge"))
    assert verdicts(result, "openvino/openvino_int8") == {"load": "skipped"}
    assert verdicts(result, "tflite/model_int8.tflite")["host"] == "passed"


def test_labels_that_are_not_the_models_classes_are_left_out_with_a_note(
    subject: Converted, tmp_path: Path
) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 1, 16), np.uint8), labels=np.array([0, 1, 16]))
    made = subject.bundle(tmp_path / "l.edgebundle", data=tmp_path / "d.npz")
    assert made.manifest["samples"]["labels"] is None
    assert "labels up to 16, the model's output 16" in made.notes[0]


def test_command_writes_the_bundle_and_says_what_to_type(
    subject: Converted, tmp_path: Path
) -> None:
    from edgepipe.cli.main import edgepipe as root

    words = ["bundle", subject.folder, "--data", subject.data, "--labels", "labels"]
    words += ["--scale", "1/255", "--samples", "7", "--gate", "max-drop=2 points"]
    done = CliRunner().invoke(root, [*map(str, words), "-o", str(tmp_path / "c.edgebundle")])
    assert done.exit_code == 0, done.output
    assert "python3 run_on_device.py c.edgebundle" in done.output
    with zipfile.ZipFile(tmp_path / "c.edgebundle") as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert manifest["samples"]["count"] == 7
    assert [(one["name"], one["value"]) for one in manifest["limits"]] == [("max-drop", 2.0)]


def test_source_that_was_moved_is_named_and_another_is_refused(
    subject: Converted, tmp_path: Path
) -> None:
    report = json.loads((subject.folder / "report.json").read_text())
    report["source"]["path"] = str(tmp_path / "gone.tflite")
    copy = tmp_path / "out"
    copy.mkdir()
    for file in subject.folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "report.json").write_text(json.dumps(report))
    moved = Converted(copy, subject.data)
    with pytest.raises(ModelNotFound, match="made of can't be read") as told:
        moved.bundle(tmp_path / "x.edgebundle")
    assert "--against" in told.value.hint
    source = subject.folder.parent / "net.tflite"
    made = moved.bundle(tmp_path / "m.edgebundle", against=source, samples=3)
    assert len(made.manifest["models"]) == 2
    with pytest.raises(OptionError, match="not the model that was converted"):
        moved.bundle(tmp_path / "x.edgebundle", against=subject.folder / "model_int8.tflite")


def test_changed_model_folder_is_refused(subject: Converted, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    copy.mkdir()
    for file in subject.folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    with (copy / "model_int8.tflite").open("ab") as changed:
        changed.write(b"\0")
    with pytest.raises(OptionError, match="changed after edgepipe wrote it"):
        Converted(copy, subject.data).bundle(tmp_path / "x.edgebundle")
    (copy / "model_int8.tflite").unlink()
    with pytest.raises(ModelNotFound, match="is gone"):
        Converted(copy, subject.data).bundle(tmp_path / "x.edgebundle")


def test_limits_are_read_as_validate_reads_them() -> None:
    found = limits.read(["max-drop=0.5 points", "min-top1=99", "min-agreement=0.9", "max-p99=1 s",
                         "max-memory=64 MiB", "max-steps=3", "min-host-sqnr=20 dB"])  # fmt: skip
    assert {one["name"]: one["value"] for one in found} == {
        "max-drop": 0.5, "min-top1": 0.99, "min-agreement": 0.9, "max-p99": 1000.0,
        "max-memory": 64 << 20, "max-steps": 3.0, "min-host-sqnr": 20.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"gates": ["max-drp=1"]}, UnknownName, "max-drp"),
        ({"gates": ["max-drop"]}, OptionError, "NAME=VALUE"),
        ({"gates": {"min-top1": "150"}}, OptionError, "0 to 100"),
        ({"gates": {"max-size": "1M"}}, UnknownName, "that a board can judge"),
        ({"gates": {"max-steps": "-1"}}, OptionError, "whole number of steps"),
        ({"gates": {"max-latency": "nan"}}, OptionError, "nan"),
        ({"samples": 0}, OptionError, "from 1 on"),
        ({"encrypt": True}, OptionError, "needs a key"),
    ],
)
def test_bad_settings_are_refused_before_any_work(
    subject: Converted, tmp_path: Path, settings: dict[str, Any], kind: type, words: str
) -> None:
    with pytest.raises(kind, match=words):
        subject.bundle(tmp_path / "x.edgebundle", **settings)


def test_folder_that_convert_did_not_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no report\.json"):
        edgepipe.bundle(tmp_path, data="random")


# Sealed


def test_signed_bundle_runs_and_a_changed_or_unsigned_one_is_refused(
    subject: Converted, made: edgepipe.Bundle, keys: Path, tmp_path: Path
) -> None:
    signed = subject.bundle(tmp_path / "s.edgebundle", samples=5, sign=keys / "sign.pem")
    public = keys / "public.pem"
    fine = run(signed.path, "--public-key", public)
    assert "signature checked" in fine.stdout, fine.stderr  # That no runtime is here comes after.
    unsigned = run(made.path, "--public-key", public)
    assert (unsigned.returncode, "is not signed" in unsigned.stderr) == (2, True)
    with zipfile.ZipFile(signed.path) as archive:
        manifest = archive.read("manifest.json").replace(b'"count": 5', b'"count": 4')
    changed = rewritten(signed.path, tmp_path / "c.edgebundle", {"manifest.json": manifest})
    refused = run(changed, "--public-key", public)
    assert (refused.returncode, "signature is wrong" in refused.stderr) == (2, True)


def test_encrypted_model_needs_its_key_which_is_never_shown(
    subject: Converted, keys: Path, tmp_path: Path
) -> None:
    secret = (keys / "model.key").read_text().strip()
    bundle = subject.bundle(
        tmp_path / "e.edgebundle", samples=5, encrypt=True, key=keys / "model.key"
    )
    plain = (subject.folder / "model_int8.tflite").read_bytes()
    with zipfile.ZipFile(bundle.path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert not any(plain[:64] in content for content in members.values())
    assert not any(secret.encode() in content for content in members.values())
    without = run(bundle.path)
    assert (without.returncode, "is encrypted and no key" in without.stdout) == (2, True)
    other = tmp_path / "other.key"
    other.write_text("00" * 32)
    wrong = run(bundle.path, "--key", other)
    assert (wrong.returncode, "the key is another" in wrong.stdout) == (2, True)
    opened = run_on_device.Bundle(str(bundle.path), str(keys / "model.key"))
    assert opened.model(opened.manifest["models"][1]) == plain
    for done in (without, wrong):
        assert secret not in done.stdout + done.stderr


def test_keys_are_made_for_their_owner_and_never_overwritten(keys: Path) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in keys.iterdir()}
    assert modes["sign.pem"] == modes["model.key"] == 0o600
    with pytest.raises(PathError, match="never overwritten"):
        sealing.make_keys(keys)


def test_key_that_is_none_is_refused_without_being_shown(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    (tmp_path / "k").write_text("hunter2")
    with pytest.raises(OptionError, match="64 hexadecimal") as told:
        sealing.Sealing.of(None, True, tmp_path / "k")
    assert "hunter2" not in str(told.value) + told.value.hint
    assert "hunter2" not in repr(sealing.Sealing(b"hunter2", b"hunter2"))


def test_verify_checks_a_bundle_and_its_signature(
    subject: Converted, made: edgepipe.Bundle, keys: Path, tmp_path: Path
) -> None:
    from edgepipe.cli.main import run as command

    signed = subject.bundle(tmp_path / "s.edgebundle", samples=5, sign=keys / "sign.pem").path
    public = str(keys / "public.pem")
    assert command(["verify", str(signed), "--public-key", public]) == 0
    assert command(["verify", str(made.path)]) == 0
    assert command(["verify", str(made.path), "--public-key", public]) == 5
    changed = rewritten(made.path, tmp_path / "c.edgebundle", {"samples/labels.npy": b"x"})
    assert command(["verify", str(changed)]) == 5


# What was damaged on the way


def test_truncated_bundle_is_told_from_a_foreign_file(
    made: edgepipe.Bundle, tmp_path: Path
) -> None:
    content = made.path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:size])
        done = run(tmp_path / "cut")
        assert done.returncode == 2, done.stderr
        assert "truncated or no edgepipe bundle" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("member", ["models/model_int8.tflite", "samples/labels.npy", "extra"])
def test_changed_member_is_named(made: edgepipe.Bundle, tmp_path: Path, member: str) -> None:
    path = rewritten(made.path, tmp_path / "c.edgebundle", {member: b"other"})
    done = run(path)
    assert done.returncode == 2
    assert "was changed after it was made" in done.stderr
    assert member in done.stderr


def test_no_flipped_byte_gets_past_or_raises_anything_else(
    made: edgepipe.Bundle, tmp_path: Path
) -> None:
    whole = made.path.read_bytes()
    with zipfile.ZipFile(made.path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        changed = bytearray(whole)
        changed[rng.choice([rng.integers(len(whole)), -1 - rng.integers(1500)])] ^= 1 << 3
        (tmp_path / "f").write_bytes(changed)
        try:
            opened = run_on_device.Bundle(str(tmp_path / "f"))
        except run_on_device.Stop as error:
            assert error.code == 2
            refused += 1
            continue
        # What it lets pass is of the zip alone: a date, a right.
        assert {name: opened.zip.read(name) for name in opened.zip.namelist()} == contents
    assert refused > 75


def test_zip_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("manifest.json", "{}")
    done = run(tmp_path / "z")
    assert (done.returncode, "no edgepipe bundle" in done.stderr) == (2, True)


def test_limit_on_accuracy_without_labels_is_refused(subject: Converted, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 1, 16), np.uint8))
    with pytest.raises(OptionError, match="max-drop needs labels") as told:
        subject.bundle(
            tmp_path / "x.edgebundle", data=tmp_path / "d.npz", labels="", gates={"max-drop": 1}
        )
    assert "--labels" in told.value.hint


def test_limits_are_of_the_model_that_is_meant(subject: Converted, tmp_path: Path) -> None:
    bundle = subject.bundle(tmp_path / "m.edgebundle", samples=5, gates={"max-memory": 1}).path
    done = run(bundle, "--out", tmp_path / "r", "--no-latency", python=python_of("edge"))
    assert done.returncode == 5
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert verdicts(result)["memory"] == "failed"
    assert verdicts(result, "model_float32.tflite")["memory"] == "seen"
    only = run(bundle, "--only", "model_float32.tflite", "--no-latency", python=python_of("edge"))
    assert only.returncode == 5


def test_limits_decide_the_exit_code(subject: Converted, tmp_path: Path) -> None:
    bundle = subject.bundle(
        tmp_path / "g.edgebundle", samples=COUNT, gates={"min-top1": "99%", "max-memory": "4G"}
    )
    done = run(bundle.path, "--out", tmp_path / "r", "--no-latency", python=python_of("edge"))
    assert done.returncode == 5, done.stdout
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert verdicts(result)["accuracy"] == "failed"
    assert verdicts(result)["memory"] == "passed"
    assert "<failure" in (tmp_path / "r" / "junit.xml").read_text()
