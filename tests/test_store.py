"""The store: one maker, whole entries only, clear errors, room made without taking what is used."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgepipe.artifact import Format
from edgepipe.errors import DiskFull, InternalError, PathError, UserCodeError
from edgepipe.store import Store, Waiting, key

KEY = key({"stage": "test"})


def make(folder: Path) -> dict[str, Any]:
    (folder / "model.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "below").mkdir()
    (folder / "below" / "notes.txt").write_text("made")
    return {"shape": (1, 2), "loss": 0.1}


def refuse(folder: Path) -> dict[str, Any]:
    raise AssertionError("made what was kept")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def leftovers(store: Store) -> list[str]:
    making = store.root / "making"
    return [path.name for path in making.iterdir()] if making.exists() else []


def test_makes_once_and_then_keeps(store: Store) -> None:
    made = store.fetch(KEY, make, "onnx_from_keras")
    kept = store.fetch(KEY, refuse)
    assert not made.kept and kept.kept
    assert made.path == kept.path and kept.what == "onnx_from_keras"
    assert (kept.path / "below" / "notes.txt").read_text() == "made"
    assert made.size == kept.size == 256 * 40 + 4
    assert made.facts == kept.facts == {"shape": [1, 2], "loss": 0.1}
    assert leftovers(store) == []


def test_find_makes_nothing(store: Store) -> None:
    assert store.find(KEY) is None
    store.fetch(KEY, make)
    found = store.find(KEY)
    assert found is not None and found.kept


def test_key_is_the_same_for_equal_parts() -> None:
    one = {"a": (1, 2.5), "b": Path("x/y"), "c": Format.ONNX, "d": {"z": None, "y": b"\x01"}}
    two = {"d": {"y": b"\x01", "z": None}, "c": "onnx", "b": "x/y", "a": [1, 2.5]}
    assert key(one) == key(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (0.1, 0.1 + 2**-56),
        (1, True),
        (1, 1.0),
        (1, "1"),
        ([1, [2]], [1, 2]),
        (None, "null"),
        (b"\x01", "01"),
        (0.0, -0.0),
    ],
)
def test_key_differs_for_other_values(one: Any, two: Any) -> None:
    assert key({"value": one}) != key({"value": two})


@pytest.mark.parametrize("value", [object(), {1, 2}, {1: "number as a name"}])
def test_key_refuses_what_has_no_fixed_text(value: Any) -> None:
    with pytest.raises(InternalError, match=r"key\.settings"):
        key({"settings": value})


@pytest.mark.parametrize("bad", ["", "../../etc", "A" * 64, "0" * 63])
def test_refuses_what_is_no_key(store: Store, bad: str) -> None:
    with pytest.raises(InternalError, match="64 hexadecimal digits"):
        store.fetch(bad, make)


@pytest.mark.parametrize("error", [UserCodeError("raised"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failed_make_leaves_nothing(store: Store, error: BaseException) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        make(folder)
        raise error

    with pytest.raises(type(error)):
        store.fetch(KEY, fail)
    assert leftovers(store) == [] and store.all_keys() == []
    assert not store.fetch(KEY, make).kept


def test_an_error_of_make_with_its_own_files_is_not_blamed_on_the_store(store: Store) -> None:
    def fail(folder: Path) -> dict[str, Any]:
        (folder / "absent" / "file").write_text("")
        return {}

    with pytest.raises(FileNotFoundError):
        store.fetch(KEY, fail)


def test_refuses_links_and_facts_that_are_not_json(store: Store) -> None:
    def link(folder: Path) -> dict[str, Any]:
        (folder / "model").symlink_to("/etc/hostname")
        return {}

    with pytest.raises(InternalError, match="'model' is a link"):
        store.fetch(KEY, link)
    with pytest.raises(InternalError, match="not JSON"):
        store.fetch(KEY, lambda folder: {"path": Path("x")})
    assert leftovers(store) == [] and store.all_keys() == []


def damage_nothing_written(folder: Path) -> None:
    (folder / "entry.json").write_text("")


def damage_no_record(folder: Path) -> None:
    (folder / "entry.json").unlink()


def damage_fact(folder: Path) -> None:
    record = folder / "entry.json"
    record.write_text(record.read_text().replace("0.1", "0.2"))


def damage_not_an_object(folder: Path) -> None:
    (folder / "entry.json").write_text("[1]")


def damage_missing_file(folder: Path) -> None:
    (folder / "data" / "below" / "notes.txt").unlink()


def damage_shorter(folder: Path) -> None:
    os.truncate(folder / "data" / "model.bin", 10)


def damage_one_bit_and_hide_it(folder: Path) -> None:
    file = folder / "data" / "model.bin"
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[777] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def damage_file_became_folder(folder: Path) -> None:
    (folder / "data" / "model.bin").unlink()
    (folder / "data" / "model.bin").mkdir()


def damage_whole_data(folder: Path) -> None:
    (folder / "data").rename(folder / "elsewhere")


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again(store: Store, damage: Any) -> None:
    store.fetch(KEY, make)
    damage(store.folder(KEY))
    assert store.find(KEY) is None
    entry = store.fetch(KEY, make)
    assert not entry.kept
    assert (entry.path / "model.bin").read_bytes() == bytes(range(256)) * 40
    assert store.fetch(KEY, refuse).kept
    assert leftovers(store) == []


def test_an_entry_under_another_key_is_not_used(store: Store) -> None:
    store.fetch(KEY, make)
    other = key({"stage": "other"})
    store.folder(other).parent.mkdir(parents=True, exist_ok=True)
    store.folder(KEY).rename(store.folder(other))
    assert store.find(other) is None


def test_two_threads_make_once(store: Store) -> None:
    made: list[int] = []
    entries = []

    def slowly(folder: Path) -> dict[str, Any]:
        made.append(1)
        time.sleep(0.1)
        return make(folder)

    threads = [
        threading.Thread(target=lambda: entries.append(store.fetch(KEY, slowly))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(entries) == 8
    assert sorted(entry.kept for entry in entries) == [False] + [True] * 7


def test_the_one_who_waits_hears_who_makes_it(store: Store) -> None:
    heard: list[Waiting] = []
    makes = threading.Event()

    def slowly(folder: Path) -> dict[str, Any]:
        makes.set()
        while not heard:
            time.sleep(0.005)
        return make(folder)

    maker = threading.Thread(target=lambda: Store(store.root).fetch(KEY, slowly))
    maker.start()
    makes.wait()
    assert store.fetch(KEY, refuse, "tflite", on_wait=heard.append).kept
    maker.join()
    assert heard[0].what == "tflite" and heard[0].pid == os.getpid()


def test_interrupting_a_wait_works_at_once(store: Store) -> None:
    makes, done = threading.Event(), threading.Event()

    def until_told(folder: Path) -> dict[str, Any]:
        makes.set()
        done.wait(10)
        return make(folder)

    def interrupt(waiting: Waiting) -> None:
        raise KeyboardInterrupt

    maker = threading.Thread(target=lambda: Store(store.root).fetch(KEY, until_told))
    maker.start()
    makes.wait()
    with pytest.raises(KeyboardInterrupt):
        store.fetch(KEY, refuse, on_wait=interrupt)
    done.set()
    maker.join()
    assert store.fetch(KEY, refuse).kept


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(store: Store) -> None:
    dead = store.root / "making" / "1-dead"
    (dead / "data").mkdir(parents=True)
    (dead / "data" / "half").write_text("half")
    (store.root / "making" / "1-dead.lock").touch()
    alive: list[Path] = []

    def while_another_makes(folder: Path) -> dict[str, Any]:
        alive.append(folder)
        Store(store.root).fetch(key({"other": 1}), make)
        assert folder.is_dir()
        return make(folder)

    store.fetch(KEY, while_another_makes)
    assert not dead.exists() and leftovers(store) == []


def test_no_space_names_the_folder_and_the_way_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> dict[str, Any]:
        (folder / "half").write_bytes(b"x" * 1000)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DiskFull, match="No space left") as caught:
        store.fetch(KEY, full)
    assert "store gc --max-size" in caught.value.hint
    assert caught.value.details["folder"] == str(store.root)
    assert leftovers(store) == [] and store.all_keys() == []

    monkeypatch.setattr("os.fsync", lambda descriptor: full(store.root))
    with pytest.raises(DiskFull):
        store.fetch(KEY, make)
    assert leftovers(store) == [] and store.all_keys() == []


def test_require_fails_before_the_work(store: Store) -> None:
    store.require(1)
    with pytest.raises(DiskFull, match="needs 1,152,921,504,606,846,976 bytes"):
        store.require(2**60)


def test_a_file_in_the_way_of_the_store_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for root in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(PathError, match="can't be used") as caught:
            Store(root).fetch(KEY, make)
        assert "EDGEPIPE_STORE" in caught.value.hint


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system of its own; only root may mount one, and not everywhere."""
    mounting = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if mounting.returncode:
        pytest.skip(f"mounting is not allowed here ({mounting.stderr.strip()}); run as root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


needs_mount = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="mounts a file system: run as root"
)


@needs_mount
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    def large(folder: Path) -> dict[str, Any]:
        (folder / "large").write_bytes(b"x" * 3_000_000)
        return {}

    tmpfs = mounted(tmp_path, "-t", "tmpfs", "-o", "size=2m", "tmpfs")
    with tmpfs, Store(tmp_path / "store") as store:
        store.fetch(KEY, make)
        with pytest.raises(DiskFull, match="No space left"):
            store.fetch(key({"large": 1}), large)
        assert store.fetch(KEY, refuse).kept
        assert leftovers(store) == [] and store.all_keys() == [KEY]


@needs_mount
def test_a_read_only_store_serves_and_refuses_to_make(tmp_path: Path) -> None:
    with mounted(tmp_path, "-t", "tmpfs", "-o", "size=2m", "tmpfs"):
        with Store(tmp_path / "store") as store:
            store.fetch(KEY, make)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        with Store(tmp_path / "store") as store:
            assert store.fetch(KEY, refuse).kept
            with pytest.raises(PathError, match="Read-only file system") as caught:
                store.fetch(key({"other": 1}), make)
            assert "EDGEPIPE_STORE" in caught.value.hint
        with pytest.raises(PathError, match="Read-only file system"):
            Store(tmp_path / "other").fetch(KEY, make)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions don't hold root back: run as a user")
def test_a_folder_without_permission_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PathError, match="Permission denied"):
        Store(tmp_path / "store").fetch(KEY, make)


def test_the_environment_moves_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPIPE_STORE", str(tmp_path / "here"))
    assert Store().root == tmp_path / "here"


def test_imports_neither_numpy_nor_the_command_line() -> None:
    code = "import sys, edgepipe.store; print({'numpy', 'click', 'rich'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
