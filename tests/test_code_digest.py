"""What counts as the user's code: every file that the import would run, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepipe.code_digest import code_digest

TREE = {
    "nets/__init__.py": "from .blocks import *\n",
    "nets/mobile.py": "import torch\nfrom . import blocks\nfrom .parts.conv import Conv\n",
    "nets/blocks.py": "import sibling\n",
    "nets/unused.py": "A = 1\n",
    "nets/parts/__init__.py": "",
    "nets/parts/conv.py": "from ..deep import depth\n",
    "nets/deep.py": "def depth():\n    import late\n",
    "sibling.py": "B = 1\n",
    "late.py": "C = 1\n",
    "stranger.py": "D = 1\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def digest(tmp_path: Path) -> Callable[[], str]:
    write(tmp_path, TREE)
    return lambda: code_digest(["nets.mobile:build"], [str(tmp_path)])


@pytest.mark.parametrize(
    "file",
    [
        "nets/mobile.py",
        "nets/__init__.py",
        "nets/blocks.py",
        "nets/parts/__init__.py",
        "nets/parts/conv.py",
        "nets/deep.py",
        "sibling.py",
        "late.py",
    ],
)
def test_changes_with_every_file_that_is_imported(
    file: str, tmp_path: Path, digest: Callable[[], str]
) -> None:
    before = digest()
    (tmp_path / file).write_text(TREE[file] + "Z = 2\n")
    assert digest() != before


@pytest.mark.parametrize("file", ["nets/unused.py", "stranger.py"])
def test_stays_when_a_file_changes_that_nothing_imports(
    file: str, tmp_path: Path, digest: Callable[[], str]
) -> None:
    before = digest()
    (tmp_path / file).write_text("Z = 2\n")
    assert digest() == before


def test_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", TREE), write(tmp_path / "b", TREE)
    one, two = (code_digest(["nets.mobile"], [str(folder)]) for folder in (first, second))
    assert one == two


def test_takes_the_first_folder_that_has_the_module(tmp_path: Path) -> None:
    first = write(tmp_path / "a", {"net.py": "A = 1\n"})
    second = write(tmp_path / "b", {"net.py": "A = 2\n"})
    path = [str(first), str(second)]
    before = code_digest(["net"], path)
    (second / "net.py").write_text("A = 3\n")
    assert code_digest(["net"], path) == before
    assert code_digest(["net"], path[::-1]) != before


def test_a_module_that_no_folder_has_counts_by_its_name(tmp_path: Path) -> None:
    path = [str(tmp_path)]
    assert code_digest(["timm:create_model"], path) == code_digest(["timm"], path)
    assert code_digest(["timm"], path) != code_digest(["torchvision"], path)


def test_sees_a_namespace_package(tmp_path: Path) -> None:
    write(tmp_path, {"space/net.py": "A = 1\n"})
    before = code_digest(["space.net:build"], [str(tmp_path)])
    (tmp_path / "space/net.py").write_text("A = 2\n")
    assert code_digest(["space.net:build"], [str(tmp_path)]) != before


@pytest.mark.parametrize("text", ["def (:\n", "\0", "x = '\\ud800'\n", "\udcff"])
def test_code_that_does_not_parse_counts_by_its_bytes(text: str, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    before = code_digest(["net"], [str(tmp_path)])
    file.write_bytes(text.encode("utf-8", "surrogateescape") + b"#")
    assert code_digest(["net"], [str(tmp_path)]) != before


def test_ends_on_imports_that_go_in_a_circle(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "import b\n", "b.py": "import a\n"})
    before = code_digest(["a"], [str(tmp_path)])
    (tmp_path / "b.py").write_text("import a\nB = 1\n")
    assert code_digest(["a"], [str(tmp_path)]) != before


def test_refuses_nothing_when_dots_lead_out_of_the_package(tmp_path: Path) -> None:
    write(tmp_path, {"net.py": "from ...far import away\nfrom . import near\n"})
    assert len(code_digest(["net"], [str(tmp_path)])) == 64
