"""How fast an Edge TPU is behind a kind of host: figures with their sources, from TOML files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgepipe.errors import OptionError, UnknownName
from edgepipe.settings import read_toml
from edgepipe.targets.edgetpu.workload import Work

FOLDER = Path(__file__).with_name("hosts")
FIGURES = ("fixed_ms", "ms_per_gmac", "ms_per_activation_mib", "ms_per_streamed_mib",
           "ms_per_end_mib")  # fmt: skip


@dataclass(frozen=True)
class HostProfile:
    """Milliseconds for each unit of work; `error` is how far estimates were off, as a share."""

    name: str
    words: str
    fixed_ms: float
    ms_per_gmac: float
    ms_per_activation_mib: float
    ms_per_streamed_mib: float
    ms_per_end_mib: float
    error: float
    sources: dict[str, str] = field(default_factory=dict)

    def milliseconds(self, work: Work, streamed: float, ends: float) -> float:
        return (
            self.fixed_ms
            + self.ms_per_gmac * work.gmac
            + self.ms_per_activation_mib * work.activations
            + self.ms_per_streamed_mib * streamed
            + self.ms_per_end_mib * ends
        )

    def to_toml(self) -> str:
        lines = [f'words = "{self.words}"', f"error = {self.error:.3g}", ""]
        for name in FIGURES:
            lines += [f"[{name}]", f"value = {getattr(self, name):.4g}"]
            lines += [f'source = "{self.sources.get(name, "")}"', ""]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(host: str) -> HostProfile:
    """One of edgepipe's own by name, or a user's by the path of its file."""
    path = Path(host).expanduser() if host.endswith(".toml") else FOLDER / f"{host}.toml"
    if not host.endswith(".toml") and host not in names():
        raise UnknownName.of("host", host, [*names(), "FILE.toml"])
    return _read(path)


def _read(path: Path) -> HostProfile:
    said = read_toml(path)
    unknown = set(said) - {"words", "error", *FIGURES}
    if unknown:
        raise OptionError(
            f"{path}: {', '.join(sorted(unknown))} unknown in a host's profile",
            hint=f"known are words, error, {', '.join(FIGURES)}.",
        )
    values: dict[str, float] = {}
    sources: dict[str, str] = {}
    for name in FIGURES:
        entry = said.get(name)
        if not isinstance(entry, dict) or "source" not in entry:
            raise OptionError(
                f"{path}: [{name}] with value and source was expected",
                hint="`edgepipe calibrate-host` writes a profile from measurements.",
            )
        values[name] = _number(entry.get("value"), path, name)
        sources[name] = str(entry["source"])
    error = _number(said.get("error"), path, "error")
    return HostProfile(path.stem, str(said.get("words", "")), **values, error=error,
                       sources=sources)  # fmt: skip


def _number(value: Any, path: Path, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        raise OptionError(f"{path}: {name} takes a number from 0 on, received {value!r}")
    return float(value)
