"""The compiler on other machines: over SSH, with a real server where one is here, and in Docker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from edgetpu_compilers import compiler, mapping_all
from edgetpu_files import source
from ssh_server import Server, serve

from edgepipe.errors import EdgepipeError, OptionError, StageFailed, StageTimedOut, ToolMissing
from edgepipe.targets.edgetpu import compiler as finding
from edgepipe.targets.edgetpu import compiling
from edgepipe.targets.edgetpu.compile_options import CompileOptions
from edgepipe.targets.edgetpu.compiling import Compilation
from edgepipe.tflite import saving

FAKE_SSH = """#!{python}
# No SSH at all: runs the command here, or fails in ssh's own words.
import subprocess, sys
words = sys.argv[1:]
host, command = words[words.index("--") + 1:]
said = {{
    "stranger": "Host key verification failed.",
    "locked": "user@locked: Permission denied (publickey).",
    "nowhere": "ssh: Could not resolve hostname nowhere: Name or service not known",
}}
if host in said:
    sys.stderr.write(said[host])
    sys.exit(255)
assert words[:4] == ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"]
if host == "chatty":
    sys.stdout.write("Welcome!")
    sys.stdout.flush()
sys.exit(subprocess.run(["sh", "-c", command]).returncode)
"""
FAKE_DOCKER = """#!{python}
# No Docker at all: runs the program in place of the image's, with /in and /out put back.
import subprocess, sys
words = sys.argv[1:]
with open({calls!r}, "a") as file:
    file.write(" ".join(words) + "\\n")
if words[:2] == ["image", "inspect"]:
    known = words[-1] == "coral:16"
    sys.stdout.write("sha256:abc" if known else "Error: No such image: " + words[-1])
    sys.exit(0 if known else 1)
if words[0] == "kill":
    sys.exit(0)
sources = [word.split("source=")[1].split(",")[0] for word in words if word.startswith("type=")]
arguments = words[words.index("coral:16") + 1:]
for given, real in zip(("/in", "/out"), sources):
    arguments = [real + one[len(given):] if one.startswith(given) else one for one in arguments]
sys.exit(subprocess.run([{program!r}, *arguments]).returncode)
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small model.tflite"
    saving.save(source(), path)
    return path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "bin" / "ssh", FAKE_SSH.format(python=sys.executable))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


def drive(named: str, model: Path, tmp_path: Path, **settings: object) -> Compilation:
    options = CompileOptions(**settings)  # type: ignore[arg-type]
    found = finding.find(named)
    work = tmp_path / "work"
    return compiling.compile_models(found, [model], options, work, tmp_path / "log")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the other machine makes its temporary folders."""
    path = tmp_path / "there"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path


@pytest.mark.usefixtures("fake_ssh")
def test_over_ssh_the_model_goes_and_the_result_comes(
    tmp_path: Path, small: Path, there: Path
) -> None:
    path = compiler(tmp_path, mapping_all())
    made = drive(f"ssh://me@host:2222{path}", small, tmp_path)
    assert made.pieces[0].mapped == 2
    assert made.pieces[0].path.name == "small_model_edgetpu.tflite"
    assert "on me@host, port 2222, by SSH" in made.words()[0]
    assert list(there.iterdir()) == [], "the folder on the other machine stayed"


@pytest.mark.usefixtures("fake_ssh")
def test_over_ssh_its_failure_is_diagnosed_as_here(tmp_path: Path, small: Path) -> None:
    path = compiler(tmp_path, "say('Model not quantized'); sys.exit(1)")
    with pytest.raises(StageFailed, match="not all of it is 8-bit"):
        drive(f"ssh://host{path}", small, tmp_path)


@pytest.mark.usefixtures("fake_ssh")
def test_over_ssh_a_hang_is_ended_there(
    tmp_path: Path, small: Path, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepipe.targets.edgetpu.compile_options.SLACK_SECONDS", 0.0)
    path = compiler(tmp_path, "time.sleep(100)")
    with pytest.raises(StageTimedOut, match="hung on the other machine"):
        drive(f"ssh://host{path}", small, tmp_path, timeout_sec=1)
    assert list(there.iterdir()) == []


@pytest.mark.usefixtures("fake_ssh")
@pytest.mark.parametrize(
    ("host", "hint"),
    [("stranger", "`ssh stranger` once by hand"), ("locked", "ssh-copy-id locked"),
     ("nowhere", "name of the host")],
)  # fmt: skip
def test_a_host_out_of_reach_has_its_remedy(host: str, hint: str) -> None:
    with pytest.raises(ToolMissing, match="can't be reached by SSH") as caught:
        finding.find(f"ssh://{host}")
    assert hint in caught.value.hint


@pytest.mark.usefixtures("fake_ssh")
def test_a_host_without_the_compiler_or_with_a_greeting_is_told(
    tmp_path: Path, small: Path
) -> None:
    with pytest.raises(ToolMissing, match="has no /not/there"):
        finding.find("ssh://host/not/there")
    path = compiler(tmp_path, mapping_all())
    with pytest.raises(StageFailed, match="sent back no results") as caught:
        drive(f"ssh://chatty{path}", small, tmp_path)
    assert "a login that prints nothing" in caught.value.hint


@pytest.mark.parametrize(
    "named",
    ["ssh://", "ssh://-oProxyCommand=x", "ssh://a:b@host", "ssh://host:no", "ssh://ho st",
     "ssh://us;er@host", "docker:", "docker:-v", "docker:a b"],
)  # fmt: skip
def test_names_that_could_be_misread_are_refused(named: str) -> None:
    with pytest.raises(OptionError):
        finding.find(named)


@pytest.fixture
def server(tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A real sshd for this user alone, and an `ssh` that has its key."""
    with serve(tmp_path / "server", f"SetEnv TMPDIR={there}\n") as running:
        ssh = f'#!/bin/sh\nexec {running.folder}/bin/ssh -i {running.key} "$@"\n'
        program(tmp_path / "bin" / "ssh", ssh)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
        yield running


def test_over_a_real_ssh_server(tmp_path: Path, small: Path, there: Path, server: Server) -> None:
    path = compiler(tmp_path, mapping_all())
    made = drive(f"ssh://127.0.0.1:{server.port}{path}", small, tmp_path)
    assert made.pieces[0].mapped == 2
    assert list(there.iterdir()) == []
    server.known_hosts.write_text("")
    with pytest.raises(ToolMissing, match="Host key verification failed"):
        finding.find(f"ssh://127.0.0.1:{server.port}{path}")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named docker that starts a stand-in of the compiler; gives what it was asked."""
    calls = tmp_path / "docker-calls"
    text = FAKE_DOCKER.format(
        python=sys.executable, calls=str(calls), program=str(tmp_path / "edgetpu_compiler")
    )
    program(tmp_path / "bin" / "docker", text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return calls


def test_in_docker_it_has_the_folders_and_no_network(
    tmp_path: Path, small: Path, docker: Path
) -> None:
    compiler(tmp_path, mapping_all())
    made = drive("docker:coral:16", small, tmp_path)
    assert made.pieces[0].mapped == 2 and "in the Docker image coral:16" in made.words()[0]
    asked = docker.read_text().splitlines()[-1]
    for words in ("--network none", "--pull never", "--platform linux/amd64", "--rm",
                  f"--user {os.getuid()}:{os.getgid()}", "target=/in,readonly"):  # fmt: skip
        assert words in asked


def test_in_docker_a_hang_kills_the_container(
    tmp_path: Path, small: Path, docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepipe.targets.edgetpu.compile_options.SLACK_SECONDS", 0.0)
    compiler(tmp_path, "time.sleep(100)")
    with pytest.raises(StageTimedOut):
        drive("docker:coral:16", small, tmp_path, timeout_sec=1)
    started, killed = docker.read_text().splitlines()[-2:]
    assert killed.startswith("kill edgepipe-") and killed.split()[1] in started


@pytest.mark.usefixtures("docker")
def test_an_image_that_is_not_here_is_not_pulled() -> None:
    with pytest.raises(ToolMissing, match="No such image") as caught:
        finding.find("docker:other:1")
    assert "docker pull other:1" in caught.value.hint


def test_without_docker_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EdgepipeError, match="needs docker"):
        finding.find("docker:coral:16")
