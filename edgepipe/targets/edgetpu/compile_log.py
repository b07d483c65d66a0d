"""Reads what `edgetpu_compiler` prints and writes into its logs, versions 1.0 to 16."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

VERSION = re.compile(r"Edge TPU Compiler version (\d[\w.]*)(.*)")
_SIZE = re.compile(r"([0-9.]{1,20})\s*([KMG]i?)?B")
_UNITS = {None: 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_COMPILED = re.compile(r"Model compiled successfully(?: in ([0-9]{1,12}) ms)?")
_ROW = re.compile(r"^([A-Z][\w:.-]*)\s+([0-9]{1,9})\s+(\S.*)$")
_SIZES = {
    "Input size": "input_bytes",
    "Output size": "output_bytes",
    "On-chip memory used for caching model parameters": "cached_bytes",
    "On-chip memory remaining for caching model parameters": "remaining_bytes",
    "On-chip memory available for caching model parameters": "available_bytes",
    "Off-chip memory used for streaming uncached model parameters": "streamed_bytes",
}
_COUNTS = {
    "Number of Edge TPU subgraphs": "subgraphs",
    "Total number of operations": "operations",
    "Number of operations that will run on Edge TPU": "mapped",
    "Number of operations that will run on CPU": "cpu",
}
_TEXTS = {
    "Input model": "input", "Input": "input", "Output model": "output", "Output": "output",
    "Operation log": "log",
}  # fmt: skip
_FIELD = re.compile(rf"^({'|'.join(map(re.escape, (*_SIZES, *_COUNTS, *_TEXTS)))}): *(.*)$")
MAPPED = "Mapped to Edge TPU"


@dataclass(frozen=True)
class Row:
    """How many operators of a kind have a status."""

    op: str
    count: int
    status: str


@dataclass(frozen=True)
class ModelLog:
    """What was said of one compiled model; None for what this version doesn't say."""

    input: str = ""
    output: str = ""
    log: str = ""
    milliseconds: int | None = None
    input_bytes: int | None = None
    output_bytes: int | None = None
    cached_bytes: int | None = None
    remaining_bytes: int | None = None
    available_bytes: int | None = None
    streamed_bytes: int | None = None
    subgraphs: int | None = None
    operations: int | None = None
    mapped: int | None = None
    cpu: int | None = None
    rows: tuple[Row, ...] = ()

    @property
    def table(self) -> dict[tuple[str, str], int]:
        """Operators by kind and status, whatever the order and however many rows a kind has."""
        found: dict[tuple[str, str], int] = {}
        for row in self.rows:
            found[row.op, row.status] = found.get((row.op, row.status), 0) + row.count
        return found

    def to_json(self) -> dict[str, Any]:
        facts = {name: value for name, value in vars(self).items() if name != "rows"}
        rows = [{"op": op, "status": s, "count": n} for (op, s), n in sorted(self.table.items())]
        return {**facts, "rows": rows}


@dataclass
class CompileLog:
    """All of one call: the version, each model that was compiled, and the lines in between."""

    version: str = ""
    models: list[ModelLog] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def of(self, output: str) -> ModelLog | None:
        """The last said of the file of that name: of several tries of -d, the one that counts."""
        found = [one for one in self.models if _name(one.output) == output]
        return found[-1] if found else None


def parse(text: str) -> CompileLog:
    """Read output or a log file; what isn't understood is kept in `other`, not lost."""
    log = CompileLog()
    begun: dict[str, Any] = {}
    rows: list[Row] = []

    def close() -> None:
        if begun or rows:
            log.models.append(replace(ModelLog(**begun), rows=tuple(rows)))
        begun.clear()
        rows.clear()

    for line in map(str.strip, text.replace("\r", "\n").splitlines()):
        if found := VERSION.search(line):
            close()
            log.version = log.version or found[1]
        elif found := _COMPILED.search(line):
            close()
            begun["milliseconds"] = int(found[1]) if found[1] else None
        elif found := _FIELD.match(line):
            name, value = found[1], found[2].strip()
            kind = _TEXTS.get(name)
            if kind == "input" and "input" in begun:
                close()
            begun[kind or _SIZES.get(name) or _COUNTS[name]] = _value(name, value)
        elif (found := _ROW.match(line)) and not _is_heading(line):
            rows.append(Row(found[1], int(found[2]), found[3]))
        elif line and not _is_heading(line):
            log.other.append(line)
    close()
    return log


def size(text: str) -> int | None:
    """Bytes of "6.25MiB", "512.00KiB", "0.00B"; None for what is no size."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    try:
        return round(float(found[1]) * _UNITS[found[2][0] if found[2] else None])
    except ValueError:
        return None


def _value(name: str, text: str) -> Any:
    if name in _SIZES:
        return size(text)
    if name in _COUNTS:
        return int(text) if re.fullmatch(r"[0-9]{1,12}", text) else None
    return text


def _is_heading(line: str) -> bool:
    return re.sub(r"\s+", " ", line) == "Operator Count Status"


def _name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]
