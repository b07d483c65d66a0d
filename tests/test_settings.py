"""The cache's place, and the nearest edgepipe.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepipe.errors import OptionError, UnknownName
from edgepipe.settings import cache_root, project_settings


def test_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EDGEPIPE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == tmp_path / "home/.cache/edgepipe"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg/edgepipe"
    monkeypatch.setenv("EDGEPIPE_CACHE", "~/own")
    assert cache_root() == tmp_path / "home/own"


def test_reads_the_nearest_file_upwards(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "edgepipe.toml").write_text('[store]\nsize = "9 GiB"\n')
    assert project_settings(inner) == {"store": {"size": "9 GiB"}}
    (tmp_path / "a" / "edgepipe.toml").write_text("[convert]\n")
    assert project_settings(inner) == {"convert": {}}


def test_refuses_an_unknown_table_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "edgepipe.toml").write_text("[toolchain.keras]\n")
    with pytest.raises(UnknownName, match="'toolchain'") as caught:
        project_settings(tmp_path)
    assert "did you mean toolchains?" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [("store = 3\n", r"expected a table \[store\], received 3"), ("[store\n", "not valid TOML")],
)
def test_refuses_what_is_no_table(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "edgepipe.toml").write_text(text)
    with pytest.raises(OptionError, match=words) as caught:
        project_settings(tmp_path)
    assert str(tmp_path / "edgepipe.toml") in caught.value.message
    assert caught.value.hint
