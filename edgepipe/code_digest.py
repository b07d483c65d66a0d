"""A digest of the user's own code: what a factory or custom layer imports, read and not run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ast


@dataclass(frozen=True)
class _Source:
    """A module found below a folder of the python path; `package` is what `.` means in it."""

    name: str
    file: Path
    package: str


def code_digest(modules: Sequence[str], python_path: Sequence[str]) -> str:
    """The SHA-256 over the files of these modules and of all that they import from `python_path`.

    A module may be written `package.module:name`. One that no folder has counts by its name
    alone: it lives in the toolchain, whose versions are in every key already. An import that
    is put together at run time can't be seen; only text is read, nothing is run.
    """
    folders = [Path(folder) for folder in python_path]
    todo = [module.partition(":")[0] for module in modules if module]
    seen: dict[str, str] = {}
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        source = _find(name, folders)
        if source is None:
            seen[name] = ""
            continue
        content = _read(source.file)
        seen[name] = hashlib.sha256(content).hexdigest()
        todo.extend(_parents(name))
        todo.extend(found for found in _imports(source, content) if _find(found, folders))
    lines = "".join(f"{name}\0{seen[name]}\n" for name in sorted(seen))
    return hashlib.sha256(lines.encode()).hexdigest()


def _find(name: str, folders: Sequence[Path]) -> _Source | None:
    """As Python would: the first folder that has it, a package before a module."""
    relative = Path(*name.split(".")) if name else Path()
    parent = name.rpartition(".")[0]
    for folder in folders:
        package = folder / relative / "__init__.py"
        if name and package.is_file():
            return _Source(name, package, name)
        for suffix in (".py", ".pyw"):
            module = folder / relative.parent / f"{relative.name}{suffix}"
            if name and module.is_file():
                return _Source(name, module, parent)
    return None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""  # it will not be importable either, and that error names the file


def _parents(name: str) -> Iterator[str]:
    """Importing a.b.c runs a and a.b first."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _imports(source: _Source, content: bytes) -> Iterator[str]:
    import ast

    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return  # the toolchain's Python may read what this one can't; the bytes are counted
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(source, node)


def _imported_from(source: _Source, node: ast.ImportFrom) -> Iterator[str]:
    """`from a import b` may mean the module a.b as well as a name in a."""
    base = node.module or ""
    if node.level:
        package = source.package.split(".") if source.package else []
        kept = package[: max(0, len(package) - node.level + 1)]
        base = ".".join([*kept, *filter(None, [node.module])])
    if base:
        yield base
        yield from _parents(base)
    prefix = f"{base}." if base else ""
    for alias in node.names:
        if alias.name != "*":
            yield f"{prefix}{alias.name}"
