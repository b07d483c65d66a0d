"""The inventory of boards and its command: what is kept, what is refused, what a board lacks."""

from __future__ import annotations

import ast
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from edgepipe.cli.main import run
from edgepipe.devices import inventory
from edgepipe.devices.examination import examine, lacks
from edgepipe.devices.inventory import Device, of_address
from edgepipe.errors import OptionError, UnknownName

FACTS: dict[str, Any] = {
    "python": "3.11.2", "executable": "python3", "machine": "aarch64", "bits": 64,
    "system": "Linux 6", "board": "", "governor": "", "cores": 4, "memory": 1 << 30,
    "space": {"folder": "/home", "free": 1 << 30, "writable": True}, "numpy": "2.0",
    "runtimes": {"ai_edge_litert": "2.3.0"}, "edgetpu_library": True, "edgetpus": [],
}  # fmt: skip


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEPIPE_CONFIG", str(tmp_path / "configuration"))
    return tmp_path / "configuration"


def test_a_board_is_kept_and_found(configuration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["device", "add", "pi", "--ssh", "me@board:2222", "--key", "a key", "--python", "py"]
    assert run(words) == 0
    assert inventory.find("pi") == Device(
        "pi", "ssh", python="py", host="board", user="me", port=2222, key="a key"
    )
    file = configuration / "devices.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    capsys.readouterr()
    assert run(["device", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in told["devices"]] == ["host", "pi"]
    assert told["devices"][1]["words"] == "board:2222 by SSH", "words go into reports"


def test_a_name_is_not_taken_twice_unless_forced() -> None:
    assert run(["device", "add", "pi", "--adb", "any"]) == 0
    assert run(["device", "add", "pi", "--ssh", "board"]) == 2
    assert inventory.find("pi").kind == "adb"
    assert run(["device", "add", "pi", "--ssh", "board", "--force"]) == 0
    assert inventory.find("pi").kind == "ssh"
    assert run(["device", "remove", "pi", "--leave-files"]) == 0
    with pytest.raises(UnknownName, match="unknown device 'pi'"):
        inventory.find("pi")


def test_the_host_is_always_there_and_its_name_is_taken() -> None:
    assert inventory.find("host").kind == "local"
    assert run(["device", "add", "host", "--ssh", "board"]) == 2


@pytest.mark.parametrize(
    "address",
    ["", "me:secret@board", "-oProxyCommand=x", "me@", "board:port", "bo ard", "me@-x", "a;b@c",
     "board:99999"],
)  # fmt: skip
def test_addresses_that_could_be_misread_are_refused(address: str) -> None:
    with pytest.raises(OptionError) as caught:
        of_address("pi", address)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("board", "board", 0), ("10.0.0.7:22", "10.0.0.7", 22), ("me@[fe80::1]:2022", "fe80::1", 2022),
     ("board.local", "board.local", 0)],
)  # fmt: skip
def test_addresses_are_read(address: str, host: str, port: int) -> None:
    found = of_address("pi", address)
    assert (found.host, found.port) == (host, port)


@pytest.mark.parametrize(
    "words",
    [["--ssh", "a", "--local"], [], ["--local", "--key", "k"], ["--adb", "any", "--jump", "b"],
     ["--emulate", "aarch64", "--python", "p"], ["--emulate", "vax"],
     ["--emulate", "aarch64", "--cpu", "max"]],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(words: list[str]) -> None:
    assert run(["device", "add", "pi", *words]) == 2
    assert inventory.devices() == {}


def test_a_damaged_inventory_is_told(configuration: Path) -> None:
    configuration.mkdir()
    (configuration / "devices.json").write_text("{")
    with pytest.raises(OptionError, match="no inventory of devices"):
        inventory.devices()


def test_this_machine_is_examined() -> None:
    found = examine(Device("me", "local", python=sys.executable))
    assert found.problem == "" and found.facts["machine"] == os.uname().machine
    assert found.facts["numpy"]
    assert examine(Device("me", "local", python="no such python")).problem


def lacking(device: Device | None = None, **others: Any) -> dict[str, str]:
    found = lacks(device or Device("pi", "local"), {**FACTS, **others})
    return {lack.what: lack.mend for lack in found}


def test_a_board_that_has_all_lacks_nothing() -> None:
    assert lacking() == {}


@pytest.mark.parametrize(
    ("others", "what", "mend"),
    [
        ({"python": "3.5.2"}, "Python 3.7 or newer: it has 3.5.2", "apt install python3"),
        ({"numpy": None}, "numpy", "apt install python3-numpy"),
        ({"runtimes": {}}, "a runtime", "pip install ai-edge-litert"),
        ({"runtimes": {}, "python": "3.9.2"}, "a runtime", "tflite-runtime"),
        ({"runtimes": {}, "bits": 32}, "a runtime", "tflite-runtime"),
        ({"runtimes": {"tflite_runtime": "broken: no libc"}}, "no libc", "ai-edge-litert"),
        ({"space": {"folder": "/", "free": 1000, "writable": True}}, "space", "--folder"),
        ({"space": {"folder": "/", "free": 1 << 40, "writable": False}}, "written", "--folder"),
        ({"memory": 1000}, "memory", "end other programs"),
        ({"edgetpus": [{"node": "/dev/bus/usb/001/002", "open": False}]}, "permission", "plugdev"),
        ({"edgetpus": [{"node": "/dev/apex_0", "open": False}]}, "permission", "apex"),
        (
            {"edgetpus": [{"node": "/dev/apex_0", "open": True}], "edgetpu_library": False},
            "libedgetpu.so.1",
            "libedgetpu1-std",
        ),
    ],
)
def test_each_lack_has_its_remedy(others: dict[str, Any], what: str, mend: str) -> None:
    ((told, remedy),) = lacking(**others).items()
    assert what in told and mend in remedy


def test_a_stick_that_is_asked_for_must_be_there() -> None:
    board = Device("pi", "local", delegate="edgetpu")
    assert "lsusb" in next(iter(lacking(board)))
    assert any(lack.fatal for lack in lacks(board, FACTS))


@pytest.mark.parametrize("name", ["board_guard", "board_layers", "board_probe"])
def test_what_goes_to_a_board_is_python_of_3_7(name: str) -> None:
    file = Path(inventory.__file__).with_name(f"{name}.py")
    tree = ast.parse(file.read_text(), feature_version=(3, 7))
    wanted = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert not any(str(module).startswith("edgepipe") for module in wanted)
