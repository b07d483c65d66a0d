"""What the tests share: real toolchains, models built in them, and the pipeline's single steps."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edgepipe import catalog, inputs, making, toolchain
from edgepipe.artifact import Artifact, Loading
from edgepipe.errors import ToolchainMissing
from edgepipe.request import Request, open_model
from edgepipe.runner import Description
from edgepipe.session import Session
from edgepipe.store import Store

if TYPE_CHECKING:
    from edgepipe.runner import Tensors

Build = Callable[[str, str], Path]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "toolchain(*names): needs these toolchains installed")
    config.addinivalue_line("markers", "stress: long; run by `make stress`")
    config.addinivalue_line("markers", "slow: takes more than ten seconds")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = [name for mark in item.iter_markers("toolchain") for name in mark.args]
        lacking = toolchain.missing(names)
        if lacking is not None:
            item.add_marker(pytest.mark.skip(reason=f"{lacking.message}; {lacking.hint}"))


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def fresh_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store for tests that watch what is made and kept; the toolchains stay."""
    monkeypatch.setenv("EDGEPIPE_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


# Weights are drawn, and a test that fails for one draw in many says nothing about the code.
SEEDS = {
    "keras": "import keras; keras.utils.set_random_seed(0)",
    "torch": "import torch; torch.manual_seed(0)",
    "litert-torch": "import torch; torch.manual_seed(0)",
}


@pytest.fixture(scope="session")
def build(session_cache: Path) -> Build:
    """Runs code in a toolchain's Python, in a fresh folder, once for each code."""

    def run(name: str, code: str) -> Path:
        digest = hashlib.sha256(f"{name}\0{code}".encode()).hexdigest()[:16]
        folder = session_cache / f"built-{digest}"
        if folder.exists():
            return folder
        folder.mkdir()
        done = subprocess.run(
            [str(toolchain.find(name).python), "-c", f"{SEEDS.get(name, '')}\n{code}"],
            cwd=folder,
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            folder.rmdir() if not any(folder.iterdir()) else None
            raise AssertionError(f"building in {name} failed:\n{done.stderr[-4000:]}")
        return folder

    return run


@pytest.fixture(scope="session")
def session(session_cache: Path) -> Iterator[Session]:
    with Store(session_cache / "store") as store, Session(store) as made:
        yield made


@pytest.fixture(scope="session")
def artifact(session: Session) -> Callable[..., Artifact]:
    """A model identified, digested and described, its input shapes pinned."""

    def make(path: Path, **settings: Any) -> Artifact:
        specs = settings.pop("inputs", "")
        texts = re.split(r"[,\s]+", specs) if isinstance(specs, str) else list(specs)
        texts = [text for text in texts if text]
        wanted = {item: settings.pop(item) for item in tuple(settings) if item in FIELDS}
        factory = settings.pop("factory", "")
        args = dict(settings.pop("factory_args", ()))
        if args:
            settings["model_args"] = args
        request = Request.of(factory or path, settings)
        found = open_model(request, _scratch(session))
        found = replace(found, loading=replace(found.loading, **wanted))
        described = making.describe(session, found)
        return found.with_signature(
            inputs.pin(described.signature, [inputs.parse(text) for text in texts])
        )

    return make


FIELDS = set(Loading.__dataclass_fields__) - {
    "factory", "factory_args", "trust", "weights", "python_path", "custom_objects"
}  # fmt: skip


def _scratch(session: Session) -> Path:
    folder = session.folder / f"scratch-{os.urandom(4).hex()}"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def run_stage(session: Session) -> Callable[..., Artifact]:
    """What a stage makes of an artifact, in its own worker, with the pipeline's checks."""

    def run(name: str, subject: Artifact, **options: Any) -> Artifact:
        session.settings[name] = options
        try:
            return making.make(session, catalog.stage(name), subject, making.nothing_ahead).artifact
        finally:
            session.settings.pop(name)

    return run


@pytest.fixture(scope="session")
def describe(session: Session) -> Callable[[Artifact], Description]:
    return lambda subject: making.describe(session, subject)


@pytest.fixture(scope="session")
def infer(session: Session) -> Callable[[Artifact, Tensors], Tensors]:
    """The artifact's outputs for one sample, by the runner of its format."""

    def run(subject: Artifact, feeds: Tensors) -> Tensors:
        from edgepipe import tensors

        folder = _scratch(session)
        tensors.write(folder / "feeds.npz", [feeds])
        session.call(
            catalog.runner(subject.format).toolchain,
            "edgepipe.work:infer",
            session.log("infer"),
            artifact=subject.to_json(),
            feeds=str(folder / "feeds.npz"),
            outputs=str(folder / "outputs.npz"),
        )
        return next(iter(tensors.read(folder / "outputs.npz")))

    return run


@pytest.fixture(name="toolchain", scope="session")
def toolchain_or_skip() -> Callable[[str], Path]:
    """The Python of a toolchain; the test is skipped, with the reason, where it isn't installed."""

    def find(name: str) -> Path:
        try:
            return toolchain.find(name).python
        except ToolchainMissing as error:
            pytest.skip(f"{error.message}; {error.hint}")

    return find
