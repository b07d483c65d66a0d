"""What pip is set to reaches uv, and what the user set for uv stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepipe.errors import OptionError
from edgepipe.package_index import pip_forbids_indexes, pip_settings, uv_environment


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment that sees no settings of this machine."""
    monkeypatch.setattr("sys.prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr("edgepipe.package_index.SYSTEM_FILE", tmp_path / "etc-pip.conf")
    return {"HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path / "xdg")}


def write_pip_conf(home: dict[str, str], text: str) -> None:
    folder = Path(home["HOME"]) / ".config" / "pip"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pip.conf").write_text(text)


def test_passes_pips_settings_on(home: dict[str, str]) -> None:
    write_pip_conf(
        home, "[global]\nfind-links = /wheels\n  /more\nindex-url = https://one/simple\n"
    )
    told = uv_environment({**home, "PIP_CERT": "/ca.pem", "PIP_DEFAULT_TIMEOUT": "99"})
    assert told["UV_FIND_LINKS"] == "/wheels,/more"
    assert told["UV_DEFAULT_INDEX"] == "https://one/simple"
    assert told["SSL_CERT_FILE"] == "/ca.pem"
    assert told["UV_HTTP_TIMEOUT"] == "99"
    assert "UV_INDEX_STRATEGY" not in told


def test_takes_the_best_of_extra_indexes_as_pip_does(home: dict[str, str]) -> None:
    told = uv_environment({**home, "PIP_EXTRA_INDEX_URL": "https://a/simple https://b/simple"})
    assert told["UV_INDEX"] == "https://a/simple https://b/simple"
    assert told["UV_INDEX_STRATEGY"] == "unsafe-best-match"


@pytest.mark.parametrize("name", ["UV_INDEX", "UV_EXTRA_INDEX_URL"])
def test_leaves_alone_what_is_set_for_uv(home: dict[str, str], name: str) -> None:
    given = {**home, "PIP_EXTRA_INDEX_URL": "https://pips", name: "https://mine"}
    assert uv_environment(given) == given


def test_environment_wins_over_install_over_global(home: dict[str, str]) -> None:
    write_pip_conf(
        home, "[global]\nproxy = g\ncert = g\nno_index = g\n[install]\ncert = i\nproxy = i\n"
    )
    found = pip_settings({**home, "PIP_PROXY": "e"})
    assert (found["proxy"], found["cert"], found["no-index"]) == ("e", "i", "g")


def test_reads_no_file_where_pip_reads_none(home: dict[str, str]) -> None:
    write_pip_conf(home, "[global]\nno-index = true\n")
    assert pip_forbids_indexes(home)
    assert not pip_forbids_indexes({**home, "PIP_CONFIG_FILE": "/dev/null"})


def test_names_a_file_that_is_no_settings_file(home: dict[str, str]) -> None:
    write_pip_conf(home, "nonsense\n")
    with pytest.raises(OptionError, match=r"pip\.conf"):
        uv_environment(home)
