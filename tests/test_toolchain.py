"""Which interpreter a toolchain gets, and what is said when there is none."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepipe import catalog, doctor_jobs, interpreter, toolchain
from edgepipe.artifact import Format
from edgepipe.errors import OptionError, ToolchainMissing, UnknownName
from edgepipe.requirement import Range, Requirement
from edgepipe.toolchain_needs import needed_for

ROOT = Path(__file__).parent.parent
TABLE = """
words = "a tiny engine"
python = ">=3.10"
main = ["tiny-engine"]
requirements = ["tiny-engine>=1.2,<2"]
imports = ["tiny_engine"]
doctor = "edgepipe.doctor_jobs:edge"
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tiny toolchains instead of the real ones, an empty cache, no settings of the user."""
    folder = tmp_path / "tables"
    folder.mkdir()
    for name in ("tiny", "tiny-more"):
        (folder / f"{name}.toml").write_text(TABLE)
        (folder / f"{name}.lock").write_text("tiny-engine==1.2.0\n")
    monkeypatch.setattr(toolchain, "FOLDER", folder)
    monkeypatch.setattr(catalog, "TOOLCHAINS", ("tiny", "tiny-more"))
    monkeypatch.setenv("EDGEPIPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing in it."""
    folder = tmp_path_factory.mktemp("bare") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder


@pytest.fixture
def environment(bare: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes environments that have these distributions, going by their metadata."""

    def make(**versions: str) -> Path:
        folder = tmp_path / "env"
        (folder / "bin").mkdir(parents=True)
        (folder / "bin/python").symlink_to((bare / "bin/python").resolve())
        (folder / "pyvenv.cfg").write_text((bare / "pyvenv.cfg").read_text())
        site = folder / next(bare.glob("lib/python3*/site-packages")).relative_to(bare)
        site.mkdir(parents=True)
        add(site, **versions)
        return folder

    return make


def add(site: Path, **versions: str) -> None:
    for name, version in versions.items():
        (site / f"{name}-{version}.dist-info").mkdir(parents=True)


def test_says_how_to_install_what_is_missing() -> None:
    with pytest.raises(ToolchainMissing, match="'tiny' is not installed") as caught:
        toolchain.find("tiny")
    assert "`edgepipe toolchain install tiny`" in caught.value.hint
    assert caught.value.exit_code == 3


def test_collects_all_that_is_missing_in_one_command() -> None:
    error = toolchain.missing(["tiny", "tiny-more", "tiny"])
    assert error is not None
    assert "`edgepipe toolchain install tiny tiny-more`" in error.hint
    assert error.details["install"] == ["tiny", "tiny-more"]


def test_refuses_an_unknown_name_with_the_known_ones() -> None:
    with pytest.raises(UnknownName) as caught:
        toolchain.spec("tiny-mor")
    assert "did you mean tiny-more" in caught.value.hint


def test_takes_the_current_interpreter_if_it_satisfies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path / "site", Tiny_Engine="1.9.1+local", other="3")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    found = toolchain.find("tiny")
    assert (found.how, found.python) == ("current", Path(sys.executable))
    assert found.versions["tiny-engine"] == "1.9.1+local"
    assert found.versions["other"] == "3"
    assert toolchain.missing(["tiny", "tiny-more"]) is None


@pytest.mark.parametrize("version", ["1.1.9", "2.0"])
def test_passes_over_a_current_interpreter_with_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    add(tmp_path / "site", tiny_engine=version)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(ToolchainMissing):
        toolchain.find("tiny")


def test_passes_over_the_user_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(tmp_path / "user", tiny_engine="1.2")
    monkeypatch.syspath_prepend(str(tmp_path / "user"))
    monkeypatch.setattr("site.USER_SITE", str(tmp_path / "user"))
    with pytest.raises(ToolchainMissing):
        toolchain.find("tiny")


def test_reads_versions_off_every_kind_of_metadata(tmp_path: Path) -> None:
    add(tmp_path, tiny_engine="1.2")
    (tmp_path / "old.tool-0.9-py3.11.egg-info").touch()
    (tmp_path / "linked.egg-info").mkdir()
    (tmp_path / "linked.egg-info" / "PKG-INFO").write_text("Name: linked\nVersion: 4.5\n")
    (tmp_path / "~iny_engine-0.1.dist-info").mkdir()
    (tmp_path / "unsaid.egg-info").mkdir()
    found = interpreter.distributions([tmp_path, tmp_path / "absent"])
    assert found == {"tiny-engine": "1.2", "old-tool": "0.9", "linked": "4.5"}


def test_named_interpreter_comes_before_the_current_one(
    environment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path / "site", tiny_engine="1.9")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("EDGEPIPE_PYTHON_TINY_MORE", str(environment(tiny_engine="1.3")))
    found = toolchain.find("tiny-more")
    assert (found.how, found.python) == ("named", tmp_path / "env/bin/python")
    assert found.versions == {"tiny-engine": "1.3"}
    assert toolchain.find("tiny").how == "current"


def test_interpreter_can_be_named_in_the_project_file(
    environment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment(tiny_engine="1.3")
    (tmp_path / "edgepipe.toml").write_text('[toolchains.tiny]\npython = "env/bin/python"\n')
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert toolchain.find("tiny").python == tmp_path / "env/bin/python"


@pytest.mark.parametrize(
    ("table", "kind"),
    [
        ('[toolchains.tinny]\npython = "x"', UnknownName),
        ('[toolchains.tiny]\npyton = "x"', OptionError),
        ("[toolchains.tiny]\npython = 3", OptionError),
        ('[toolchains]\ntiny = "x"', OptionError),
    ],
)
def test_refuses_a_wrong_project_file(tmp_path: Path, table: str, kind: type[Exception]) -> None:
    (tmp_path / "edgepipe.toml").write_text(table)
    with pytest.raises(kind, match=r"edgepipe\.toml"):
        toolchain.find("tiny")


def test_lists_what_a_named_interpreter_lacks(
    environment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = environment(tiny_engine="2.0", pip="26")
    monkeypatch.setenv("EDGEPIPE_PYTHON_TINY", str(folder))
    with pytest.raises(ToolchainMissing, match="EDGEPIPE_PYTHON_TINY") as caught:
        toolchain.find("tiny")
    assert "lacks tiny-engine>=1.2,<2 (it has 2.0)" in caught.value.message
    assert f"`{folder}/bin/python -m pip install 'tiny-engine>=1.2,<2'`" in caught.value.hint


def test_names_a_python_out_of_range(
    environment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tables/tiny.toml").write_text(TABLE.replace(">=3.10", ">=3.99"))
    toolchain._read.cache_clear()
    monkeypatch.setenv("EDGEPIPE_PYTHON_TINY", str(environment(tiny_engine="1.2")))
    with pytest.raises(ToolchainMissing, match=r"lacks Python >=3\.99 \(it is 3\.") as caught:
        toolchain.find("tiny")
    assert "pip install" not in caught.value.hint


@pytest.mark.parametrize("script", [None, "#!/bin/sh\necho no such version >&2; exit 127\n"])
def test_refuses_a_named_interpreter_that_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    path = tmp_path / "python"
    if script is not None:
        path.write_text(script)
        path.chmod(0o755)
    monkeypatch.setenv("EDGEPIPE_PYTHON_TINY", str(path))
    with pytest.raises(ToolchainMissing, match=r"no Python that runs: [Nn]o such"):
        toolchain.find("tiny")


def test_asks_a_named_interpreter_once(
    environment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = environment(tiny_engine="1.2")
    monkeypatch.setenv("EDGEPIPE_PYTHON_TINY", str(folder))
    first = toolchain.find("tiny")
    with monkeypatch.context() as patch:
        patch.setattr(interpreter, "_PROBE", "raise SystemExit('asked again')")
        assert toolchain.find("tiny") == first
        add(next(folder.glob("lib/*/site-packages")), another="1")  # Its path may have grown too.
        with pytest.raises(ToolchainMissing, match="asked again"):
            toolchain.find("tiny")
    assert toolchain.find("tiny").versions["another"] == "1"


def test_fingerprint_tells_versions_apart_and_leaves_bystanders_out() -> None:
    base = interpreter.fingerprint("3.11.7", {"torch": "2.13.0"})
    assert interpreter.fingerprint("3.11.8", {"torch": "2.13.0"}) != base
    assert interpreter.fingerprint("3.11.7", {"torch": "2.13.0+cpu"}) != base
    more = {"torch": "2.13.0", "edgepipe": "0.1", "pip": "26.1"}
    assert interpreter.fingerprint("3.11.7", more) == base


def test_finding_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom edgepipe import toolchain\ntoolchain.missing(['keras', 'edge'])\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "edgepipe" in done.stdout.split()
    assert {"rich", "click", "numpy", "tensorflow", "torch"}.isdisjoint(done.stdout.split())


REAL = sorted((ROOT / "edgepipe/toolchains").glob("*.toml"))


def test_every_toolchain_of_the_catalog_has_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert {path.stem for path in REAL} == set(catalog.TOOLCHAINS)


@pytest.mark.parametrize("path", REAL, ids=lambda path: str(path.stem))
def test_lock_pins_what_the_table_asks_for(path: Path) -> None:
    wanted = toolchain._read(path)
    lines = [line for line in wanted.lock.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.match(r"[a-z0-9.-]+==[^\s@/]+( ; .+)?$", line)] == []
    pins = [Requirement.parse(line.partition(" ;")[0]) for line in lines]
    for requirement in wanted.requirements:
        versions = [str(pin.range).strip() for pin in pins if pin.name == requirement.name]
        assert versions, f"{requirement} is not in the lock"
        for pin in (pin for pin in pins if pin.name == requirement.name):
            assert requirement.range.holds(pin.range.specifiers[0][1]), str(pin)
    assert set(wanted.main) <= {pin.name for pin in pins}


@pytest.mark.parametrize("path", REAL, ids=lambda path: str(path.stem))
def test_every_doctor_is_there(path: Path) -> None:
    module, _, function = toolchain._read(path).doctor.partition(":")
    assert module == doctor_jobs.__name__
    assert callable(getattr(doctor_jobs, function))


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("tflite", Format.KERAS_H5, {"keras", "onnx2tf", "onnx2tf-tensorflow", "edge"}),
        ("tflite", Format.TFLITE, {"edge"}),
        ("onnx", Format.TORCH_EXPORT, {"torch", "edge"}),
        ("openvino", Format.ONNX, {"edge", "openvino"}),
        ("openvino", Format.TFLITE, {"edge", "openvino"}),
        ("ethos-u55-256", Format.TFLITE_QUANTIZED, {"edge", "vela"}),
    ],
)
def test_knows_what_the_routes_to_a_target_use(
    monkeypatch: pytest.MonkeyPatch, target: str, source: Format, expected: set[str]
) -> None:
    monkeypatch.undo()
    assert set(needed_for(target, source)) == expected
    assert expected <= set(needed_for(target)) <= set(catalog.TOOLCHAINS)


def test_range_of_a_table_is_read() -> None:
    assert toolchain.spec("tiny").python == Range.parse(">=3.10")
