"""The store under processes that are killed, that race each other, and under damaged bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from edgepipe.store import Store, key

KEYS = [key({"number": number}) for number in range(6)]

FETCHING = """
import sys, time, random
from pathlib import Path
from edgepipe.store import Store, key

root, seed, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
keys = [key({"number": number}) for number in range(6)]

def make(folder):
    number = keys.index(name)
    with (root.parent / "made").open("a") as log:
        log.write(f"{number}\\n")
    for part in range(4):
        with (folder / f"part{part}").open("wb") as file:
            for piece in range(8):
                file.write(bytes([number + part]) * 5000)
                file.flush()
    return {"number": number}

print("ready", flush=True)
for _ in range(rounds):
    with Store(root) as store:
        name = chance.choice(keys)
        entry = store.fetch(name, make)
        number = keys.index(name)
        assert entry.facts == {"number": number}
        for part in range(4):
            assert (entry.path / f"part{part}").read_bytes() == bytes([number + part]) * 40000
        if chance.random() < 0.3:
            store.close()
            store.gc(max_size=chance.randrange(1_000_000))
print("done")
"""


def start(root: Path, seed: int, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FETCHING, str(root), str(seed), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def refuse(folder: Path) -> dict[str, Any]:
    raise AssertionError("made what was kept")


def test_killed_at_fifty_moments_the_next_run_still_finishes(tmp_path: Path) -> None:
    root = tmp_path / "store"
    chance = random.Random(1)
    killed = half_made = 0
    for seed in range(0, 50, 2):
        pair = [start(root, seed, 10**6), start(root, seed + 1, 10**6)]
        for process in pair:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        for process in pair:
            time.sleep(chance.random() * 0.06)
            process.send_signal(signal.SIGKILL)
            _, stderr = process.communicate()
            assert process.returncode == -signal.SIGKILL, stderr
            killed += 1
        half_made += any((root / "making").glob("*/data/part*"))
    assert killed == 50 and half_made >= 3, "hardly any was killed at work: nothing was tested"
    last = start(root, 99, 60)
    out, stderr = last.communicate(timeout=60)
    assert (out, last.returncode) == ("ready\ndone\n", 0), stderr
    store = Store(root)
    store.sweep()
    assert list((root / "making").iterdir()) == []
    assert store.verify() == []


def test_eight_processes_and_one_makes(tmp_path: Path) -> None:
    # Every process fetches the first key only; `made` has a line for each time it was made.
    code = FETCHING.replace("chance.choice(keys)", "keys[0]").replace("< 0.3", "< 0")
    code = code.replace(
        "for part in range(4):\n", "time.sleep(0.3)\n    for part in range(4):\n", 1
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "store"), str(seed), "3"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(8)
    ]
    for process in processes:
        out, stderr = process.communicate(timeout=60)
        assert (out, process.returncode) == ("ready\ndone\n", 0), stderr
    assert (tmp_path / "made").read_text().splitlines() == ["0"]


def test_processes_that_fetch_and_collect_at_the_same_time_see_whole_entries(
    tmp_path: Path,
) -> None:
    processes = [start(tmp_path / "store", seed, 40) for seed in range(4)]
    for process in processes:
        out, stderr = process.communicate(timeout=60)
        assert (out, process.returncode) == ("ready\ndone\n", 0), stderr
    made = Counter((tmp_path / "made").read_text().splitlines())
    assert sum(made.values()) > len(KEYS), "nothing was collected, so nothing was tested"


def test_any_changed_byte_is_noticed(tmp_path: Path) -> None:
    content = random.Random(3).randbytes(300_000)

    def make(folder: Path) -> dict[str, Any]:
        (folder / "model").write_bytes(content)
        (folder / "small").write_bytes(b"abc")
        return {"outputs": ["a", "b"], "error": 1e-6}

    store = Store(tmp_path / "store")
    first = store.fetch(KEYS[0], make)
    chance = random.Random(4)
    remade = 0
    for turn in range(60):
        files = [first.path / "model", first.path / "small", first.path.parent / "entry.json"]
        file = files[turn % 3]
        _change_a_byte(file, chance)
        entry = store.fetch(KEYS[0], make)
        remade += not entry.kept
        assert (entry.path / "model").read_bytes() == content
        assert (entry.path / "small").read_bytes() == b"abc"
        assert entry.facts == {"outputs": ["a", "b"], "error": 1e-6}
    # A change of the record's white space changes nothing that it says.
    assert remade >= 45
    assert store.fetch(KEYS[0], refuse).kept


def _change_a_byte(file: Path, chance: random.Random) -> None:
    with file.open("r+b") as opened:
        at = chance.randrange(file.stat().st_size)
        opened.seek(at)
        (old,) = opened.read(1)
        opened.seek(at)
        opened.write(bytes([old ^ chance.randrange(1, 256)]))
