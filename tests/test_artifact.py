"""Artifacts: digests of files and folders, layouts of ports, JSON and back."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepipe.artifact import (
    LARGE,
    Artifact,
    Format,
    Loading,
    Port,
    Signature,
    digest_file,
    digest_path,
    files_below,
    same_bytes,
    size_of,
)
from edgepipe.runner import to_file_layout, to_given_layout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "variables").mkdir(parents=True)
    (made / "saved_model.pb").write_bytes(b"graph")
    (made / "variables" / "data").write_bytes(b"weights")
    return made


@pytest.mark.parametrize("size", [0, 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 1 << 20])
def test_files_are_the_same_to_their_last_byte(tmp_path: Path, size: int) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    data = os.urandom(size)
    one.write_bytes(data)
    other.write_bytes(data)
    assert same_bytes(one, other)
    for at in {0, size // 2, size - 1} if size else ():
        other.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert not same_bytes(one, other), at
    other.write_bytes(data + b"x")
    assert not same_bytes(one, other)


def test_digest_of_a_file_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    assert digest_file(path) == digest_path(path) == hashlib.sha256(data).hexdigest()


def test_digest_of_a_folder_is_that_of_names_and_contents(folder: Path, tmp_path: Path) -> None:
    first = digest_path(folder)
    copy = tmp_path / "elsewhere"
    (copy / "variables").mkdir(parents=True)
    (copy / "variables" / "data").write_bytes(b"weights")
    (copy / "saved_model.pb").write_bytes(b"graph")
    assert digest_path(copy) == first
    (copy / "variables" / "data").write_bytes(b"Weights")
    assert digest_path(copy) != first
    (copy / "variables" / "data").write_bytes(b"weights")
    (copy / "variables" / "data").rename(copy / "variables" / "other")
    assert digest_path(copy) != first


def test_weights_behind_a_link_are_part_of_the_digest(folder: Path, tmp_path: Path) -> None:
    first = digest_path(folder)
    (folder / "variables").rename(tmp_path / "kept-elsewhere")
    (folder / "variables").symlink_to(tmp_path / "kept-elsewhere")
    assert digest_path(folder) == first
    (tmp_path / "kept-elsewhere" / "data").write_bytes(b"Weights")
    assert digest_path(folder) != first


def test_link_to_a_folder_above_ends(folder: Path) -> None:
    (folder / "variables" / "loop").symlink_to(folder)
    assert [path.name for path in files_below(folder)] == ["saved_model.pb", "data"]


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses names that are not UTF-8")
def test_name_that_is_not_utf8_has_a_digest(folder: Path) -> None:
    first = digest_path(folder)
    (folder / os.fsdecode(b"\xff.bin")).write_bytes(b"x")
    assert digest_path(folder) != first


def test_size_is_that_of_all_files(folder: Path) -> None:
    assert size_of(folder) == len(b"graph") + len(b"weights")
    assert size_of(folder / "saved_model.pb") == len(b"graph")


@pytest.mark.parametrize("permutation", [None, (0, 2, 3, 1), (0, 3, 1, 2), (3, 2, 1, 0)])
def test_given_shape_is_that_of_what_is_fed(permutation: tuple[int, ...] | None) -> None:
    given = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    port = Port("x", (), "float32", permutation=permutation)
    in_file = to_file_layout(given, port)
    port = replace(port, shape=in_file.shape)
    assert port.given_shape() == given.shape
    np.testing.assert_array_equal(to_given_layout(in_file, port), given)


def test_given_shape_keeps_what_is_open() -> None:
    port = Port("x", (None, 8, 9, 3), "float32", permutation=(0, 2, 3, 1))
    assert port.given_shape() == (None, 3, 8, 9)
    assert Port("x", None, "float32", permutation=(0, 1)).given_shape() is None
    assert not port.fixed
    assert not Port("x", None, "float32").fixed
    assert Port("x", (), "float32").fixed


@pytest.mark.parametrize("format", Format, ids=str)
def test_artifact_survives_json(format: Format) -> None:
    inputs = (
        Port("x", (None, 3), "float32", tensor="x:0", permutation=(1, 0)),
        Port("ids", None, "int64", high=30),
        Port("t", (), "bool"),
    )
    loading = Loading("pkg.layers", "pkg:make", (("width", 2),), "w.pt", ("src",), True, "c0de")
    artifact = Artifact(Path("m"), format, "d16e57", Signature(inputs, inputs[:1]), loading)
    for made in (artifact, Artifact(Path("m"), format, "d16e57")):
        assert Artifact.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_key_of_loading_holds_neither_paths_nor_consent() -> None:
    one = Loading("a", "b:c", (("k", 1),), "w.pt", ("src",), True, "c0de")
    moved = replace(one, weights="elsewhere.pt", python_path=("lib",), trust=False)
    assert moved.key() == one.key()
    for changed in (replace(one, code="other"), replace(one, factory_args=(("k", 2),))):
        assert changed.key() != one.key()


def test_ends_of_what_was_not_described_are_no_silent_nothing() -> None:
    with pytest.raises(ValueError, match="was not described"):
        Artifact(Path("m"), Format.ONNX, "").ends()


def test_large_file_that_changed_has_another_digest(tmp_path: Path) -> None:
    """The digests of large files are remembered, in the same place and of the same size, too."""
    file = tmp_path / "large"
    found = set()
    for fill in (b"a", b"b", b"c"):
        file.write_bytes(fill * LARGE)
        found.add(digest_file(file))
        assert digest_file(file) == hashlib.sha256(fill * LARGE).hexdigest()
    assert len(found) == 3
