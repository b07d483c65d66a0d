"""Upkeep of the store and its command: what is kept, making room, finding damage."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edgepipe.cli.store import store as store_command
from edgepipe.store import Store, key

KEY = key({"stage": "test"})


def make(folder: Path) -> dict[str, Any]:
    (folder / "model.bin").write_bytes(bytes(range(256)) * 40)
    return {"shape": (1, 2), "loss": 0.1}


def refuse(folder: Path) -> dict[str, Any]:
    raise AssertionError("made what was kept")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def thousand(folder: Path) -> dict[str, Any]:
    (folder / "x").write_bytes(b"x" * 1000)
    return {}


def fill(store: Store, count: int, now: float) -> list[str]:
    """Entries of 1000 bytes; the first was used longest ago."""
    keys = [key({"number": number}) for number in range(count)]
    for number, name in enumerate(keys):
        store.fetch(name, thousand)
        used = now - 1000 * (count - number)
        os.utime(store.folder(name) / "entry.json", (used, used))
    store.close()
    return keys


def test_gc_removes_the_least_recently_used_first(store: Store) -> None:
    keys = fill(store, 5, time.time())
    assert store.fetch(keys[0], refuse).kept  # used just now: it stays
    store.close()
    report = store.gc(max_size=2500)
    assert (report.removed, report.freed, report.entries_left) == (3, 3000, 2)
    assert set(store.all_keys()) == {keys[0], keys[4]}


def test_gc_removes_what_was_not_used_for_long(store: Store) -> None:
    keys = fill(store, 5, time.time())
    assert store.gc(older_than=2500).removed == 3
    assert set(store.all_keys()) == set(keys[3:])


def test_gc_without_a_limit_removes_nothing(store: Store) -> None:
    fill(store, 2, time.time())
    assert store.gc().removed == 0 and len(store.all_keys()) == 2


def test_gc_dry_run_only_counts(store: Store) -> None:
    keys = fill(store, 3, time.time())
    report = store.gc(max_size=0, dry_run=True)
    assert report.removed == 3 and report.freed == 3000
    assert set(store.all_keys()) == set(keys)


def test_gc_never_takes_what_is_used(store: Store) -> None:
    (name,) = fill(store, 1, time.time())
    with Store(store.root) as user:
        entry = user.fetch(name, refuse)
        report = store.gc(max_size=0)
        assert report.removed == 0 and report.in_use == 1
        assert (entry.path / "x").exists()
    assert store.gc(max_size=0).removed == 1


def test_gc_leaves_what_its_own_store_uses_and_remove_does_not(store: Store) -> None:
    store.fetch(KEY, make)
    assert store.gc(max_size=0).in_use == 1
    assert store.remove(KEY) and store.all_keys() == []
    assert store.find(KEY) is None


def test_gc_takes_the_damaged_first_and_leaves_no_locks(store: Store) -> None:
    keys = fill(store, 3, time.time())
    (store.folder(keys[2]) / "entry.json").unlink()
    assert store.gc(max_size=2000).removed == 1
    assert set(store.all_keys()) == set(keys[:2])
    store.gc(max_size=0)
    assert list((store.root / "locks").iterdir()) == []


def test_info_counts_by_kind(store: Store) -> None:
    store.fetch(KEY, make, "onnx_from_keras of digits.h5")
    store.fetch(key({"b": 1}), make, "onnx_from_keras of other.h5")
    store.fetch(key({"c": 1}), make)
    info = store.info()
    assert info.entries == 3 and info.bytes == 3 * (256 * 40)
    assert info.kinds["onnx_from_keras"].entries == 2 and info.kinds["other"].entries == 1
    assert json.loads(json.dumps(info.to_json()))["entries"] == 3
    assert Store(store.root / "absent").info().entries == 0


def damage_record(folder: Path) -> None:
    (folder / "entry.json").write_text("")


def damage_missing_file(folder: Path) -> None:
    (folder / "data" / "model.bin").unlink()


def damage_one_bit(folder: Path) -> None:
    content = bytearray((folder / "data" / "model.bin").read_bytes())
    content[777] ^= 1
    (folder / "data" / "model.bin").write_bytes(content)


DAMAGES = [damage_record, damage_missing_file, damage_one_bit]


@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_the_damaged_and_repairs(store: Store, damage: Any) -> None:
    other = key({"stage": "other"})
    with store:
        store.fetch(KEY, make, "stage one")
        store.fetch(other, make, "stage two")
    damage(store.folder(KEY))
    seen: list[tuple[int, int]] = []
    found = store.verify(progress=lambda done, total, what: seen.append((done, total)))
    assert [item.key for item in found] == [KEY] and found[0].reason and not found[0].removed
    assert seen == [(0, 2), (1, 2)]
    assert store.verify(repair=True)[0].removed
    assert store.verify() == [] and store.all_keys() == [other]


@pytest.fixture
def command(store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("EDGEPIPE_STORE", str(store.root))
    return lambda *words: CliRunner().invoke(store_command, list(words))


def test_command_says_where_the_store_is_and_what_it_holds(
    store: Store, command: Callable[..., Result]
) -> None:
    assert command("path").output.strip() == str(store.root)
    assert "0 results" in command("info").output
    store.fetch(KEY, make, "onnx_from_keras of digits.h5")
    told = command("info").output
    assert "1 result, 10.0 KiB" in told and "onnx_from_keras" in told
    assert json.loads(command("info", "--json").output)["kinds"] == {
        "onnx_from_keras": {"entries": 1, "bytes": 10240}
    }


def test_command_makes_room(store: Store, command: Callable[..., Result]) -> None:
    fill(store, 5, time.time())
    assert "would remove 3 results" in command("gc", "--max-size", "2.5kB", "--dry-run").output
    assert len(store.all_keys()) == 5
    told = json.loads(command("gc", "--max-size", "2.5kB", "--json").output)
    assert told["removed"] == 3 and told["bytes_left"] == 2000
    assert "removed 1 result, 1000 B" in command("gc", "--older-than", "25m").output
    assert command("gc", "--max-size", "0").exit_code == 0 and store.all_keys() == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--max-size 10GB"),
        (["--max-size", "much"], "received 'much'"),
        (["--max-size", "-1"], "received '-1'"),
        (["--older-than", "30"], "such as 30d"),
    ],
)
def test_command_refuses_limits_it_can_not_read(
    command: Callable[..., Result], words: list[str], told: str
) -> None:
    ran = command("gc", *words)
    assert ran.exit_code == 2 and told in ran.output


def test_command_finds_damage_and_repairs_it(store: Store, command: Callable[..., Result]) -> None:
    with store:
        entry = store.fetch(KEY, make, "tflite_from_onnx")
    assert command("verify").exit_code == 0
    (entry.path / "model.bin").unlink()
    found = command("verify")
    assert found.exit_code == 5 and "damaged: tflite_from_onnx" in found.output
    assert json.loads(command("verify", "--json").output)["damaged"][0]["key"] == KEY
    repaired = command("verify", "--repair")
    assert repaired.exit_code == 0 and "removed: tflite_from_onnx" in repaired.output
    assert "0 results whole, 0 damaged" in command("verify").output
