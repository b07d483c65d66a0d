"""The workflow and the hooks of examples/ci, run in a clean copy of the example project."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from junit_schema import suites

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "examples" / "ci" / "edgepipe.yml"
needs_all = pytest.mark.toolchain("keras", "onnx2tf", "edge", "openvino")
ACTION = re.compile(r"[\w-]+/[\w-]+@v\d+")
NO_SHELL_HERE = "github.event_name"
"""A condition on the event: the comment, which takes a token and a pull request."""


def read(path: Path) -> Any:
    yaml = pytest.importorskip("yaml", reason="PyYAML is missing; pip install -e .[dev]")
    return yaml.safe_load(path.read_text())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example as a repository of its own would be checked out."""
    for name in ("digits_keras", "digits_check"):
        ignored = shutil.ignore_patterns("out")
        shutil.copytree(ROOT / "examples" / name, tmp_path / "repo" / name, ignore=ignored)
    return tmp_path / "repo" / "digits_check"


def environment(folder: Path) -> dict[str, str]:
    """With the edgepipe of these tests as what `pip install` would give."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    bin = folder / "bin"
    bin.mkdir()
    edgepipe = bin / "edgepipe"
    edgepipe.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m edgepipe "$@"\n')
    edgepipe.chmod(0o755)
    for name in ("OUTPUT", "STEP_SUMMARY"):
        (folder / name).touch()
        kept[f"GITHUB_{name}"] = str(folder / name)
    return {**kept, "PATH": f"{bin}:{os.environ['PATH']}"}


def test_workflow_is_well_formed() -> None:
    workflow = read(WORKFLOW)
    events = workflow[True]  # YAML 1.1 reads the key `on` as a truth.
    assert set(events) == {"push", "pull_request"}
    (job,) = workflow["jobs"].values()
    for step in job["steps"]:
        assert ("run" in step) != ("uses" in step)
        if "uses" in step:
            assert ACTION.fullmatch(step["uses"])
        if "github.event." in step.get("if", ""):
            assert "head.repo.full_name == github.repository" in step["if"], "forks have no token"
        assert "${{" not in step.get("run", ""), "what others wrote must not become shell code"
    ids = {step.get("id") for step in job["steps"]}
    named = set(re.findall(r"steps\.(\w+)\.", WORKFLOW.read_text()))
    assert named <= ids


@needs_all
def test_steps_of_the_workflow_run_in_the_example(project: Path, tmp_path: Path) -> None:
    (job,) = read(WORKFLOW)["jobs"].values()
    env = {**environment(tmp_path), **job["env"]}
    ran = []
    for step in job["steps"]:
        if "run" not in step or NO_SHELL_HERE in step.get("if", ""):
            continue
        script = step["run"]
        if "pip install" in script:
            continue  # The wheel's own test installs it: tests/test_packaging.py.
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=project, env=env, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{step['name']}\n{done.stdout}\n{done.stderr}"
        ran.append(step["name"])
    assert "Check the models" in ran
    outputs = dict(line.split("=", 1) for line in (tmp_path / "OUTPUT").read_text().splitlines())
    assert "openvino" in outputs["toolchains"] and outputs["version"].startswith("edgepipe-")
    assert "3 of 3 models passed" in (tmp_path / "STEP_SUMMARY").read_text()
    names = [suite.attrib["name"] for suite in suites((project / "edgepipe.xml").read_text())]
    assert names == ["digits/tflite", "digits/openvino", "float"]
    (kept,) = (step["with"] for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    for pattern in kept["path"].split():
        assert list(project.glob(pattern)), f"{pattern} names no file"


def test_hooks_are_those_that_the_example_names() -> None:
    hooks = {hook["id"]: hook for hook in read(ROOT / ".pre-commit-hooks.yaml")}
    (source,) = read(ROOT / "examples" / "ci" / "pre-commit-config.yaml")["repos"]
    assert [hook["id"] for hook in source["hooks"]] == list(hooks)
    for hook in hooks.values():
        assert {"id", "name", "entry", "language", "files"} <= set(hook)
        assert hook["pass_filenames"] is False
        re.compile(hook["files"])
    assert re.search(hooks["edgepipe-check"]["files"], "nets/door.h5")
    assert re.search(hooks["edgepipe-toml"]["files"], "edgepipe.toml")


def test_hook_refuses_a_mistake_in_the_file(project: Path, tmp_path: Path) -> None:
    hooks = {hook["id"]: hook for hook in read(ROOT / ".pre-commit-hooks.yaml")}
    env = environment(tmp_path)
    words = shlex.split(hooks["edgepipe-toml"]["entry"])
    good = subprocess.run(words, cwd=project, env=env, capture_output=True, text=True)
    assert good.returncode == 0, good.stderr
    path = project / "edgepipe.toml"
    path.write_text(path.read_text().replace("precision =", "precison ="))
    bad = subprocess.run(words, cwd=project, env=env, capture_output=True, text=True)
    assert bad.returncode == 2
    assert "precison" in bad.stderr and "did you mean precision" in bad.stderr
