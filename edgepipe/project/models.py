"""The models of an edgepipe.toml: what is said of each, over [defaults], as arguments of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepipe import catalog, settings, several_targets
from edgepipe.dataset import RANDOM
from edgepipe.errors import EdgepipeError, OptionError, UnknownName, UsageError
from edgepipe.project import keys
from edgepipe.project.keys import NONE
from edgepipe.request import Request
from edgepipe.validation import limits

MODELS, DEFAULTS, GATES = "models", "defaults", "gates"
OUT = "out"
NEVER = {
    "trust": "a file in a checkout must not consent to running its own code: say --trust",
    "compiler": "it names a program, which would be run: name it with EDGETPU_COMPILER",
    "device": "it is of this machine and not of the model",
}


@dataclass(frozen=True)
class Case:
    """One model for one target: what `edgepipe check` runs and judges."""

    name: str
    """NAME, or NAME/TARGET of a model with several targets."""
    model: str
    arguments: dict[str, Any]
    """Of `convert`, paths absolute; `out` among them."""
    validation: dict[str, Any] = field(default_factory=dict)
    gates: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        return str(self.arguments["target"])

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "notes": list(self.notes)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Case:
        return Case(**{**data, "notes": tuple(data["notes"])})


@dataclass(frozen=True)
class Project:
    """An edgepipe.toml, read and checked."""

    path: Path
    cases: tuple[Case, ...]

    @property
    def folder(self) -> Path:
        return self.path.parent

    def take(self, names: Sequence[str]) -> tuple[Case, ...]:
        """Those of these models, or all. `NAME/TARGET` takes one target of several."""
        known = {case.name for case in self.cases} | {_stem(case) for case in self.cases}
        for name in names:
            if name not in known:
                raise UnknownName.of(f"model of {self.path}", name, known)
        wanted = set(names)
        return tuple(case for case in self.cases if not wanted or {case.name, _stem(case)} & wanted)


def find() -> Project:
    """The models of the nearest edgepipe.toml."""
    path = settings.project_file()
    if path is None:
        raise OptionError(
            f"no {settings.PROJECT_FILE} here or in a folder above",
            hint="write one with a table [models.NAME]; docs/check.md has an example.",
        )
    return read(path)


def read(path: Path) -> Project:
    """Every mistake is named with its file and key, before anything is run."""
    tables = settings.project_settings(path.parent)
    named = tables.get(MODELS, {})
    if not named:
        raise OptionError(
            f"{path} has no models",
            hint="add a table [models.NAME] with model = PATH and what else it needs.",
        )
    common = tables.get(DEFAULTS, {})
    gates = {GATES: tables[GATES]} if GATES in tables else {}
    # By themselves first, so that a mistake in them is told of them and not of a model.
    _read_table(path, "", gates)
    _read_table(path, DEFAULTS, common)
    cases: list[Case] = []
    for name, table in named.items():
        if not isinstance(table, Mapping):
            raise OptionError(
                f"{path}: expected a table [{MODELS}.{name}], received {table!r}",
                hint=f'write [{MODELS}.{name}], and model = "PATH" below it.',
            )
        if not name or "/" in name or name in (".", ".."):
            raise OptionError(
                f"{path}: a model can't be called {name!r}: its results go to a folder of that name"
            )
        cases += _cases(path, name, merged(merged(gates, common), table))
    return Project(path, tuple(cases))


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key, all else is replaced, lists too."""
    found = dict(below)
    for name, value in above.items():
        under = found.get(name)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        found[name] = merged(under, value) if both and under is not None else value
    return found


def _cases(path: Path, name: str, table: Mapping[str, Any]) -> list[Case]:
    where = f"{MODELS}.{name}"
    said, validation, gates = _read_table(path, where, table)
    if "model" not in said:
        raise OptionError(
            f"{path}: [{where}] names no model", hint='add model = "PATH" of the trained model.'
        )
    model = str(said.pop("model"))
    if gates and "validate" not in validation:
        raise OptionError(
            f"{path}: [{where}] has gates ({', '.join(gates)}), and no data to judge them on",
            hint='add validate = "DATA", labelled where accuracy counts; "random" where all is'
            " about size or latency.",
        )
    targets = said.pop("target", None) or ["tflite"]
    targets = [targets] if isinstance(targets, str) else list(targets)
    out = Path(said.pop("out", path.parent / OUT)) / name
    cases = []
    try:
        for request, notes in several_targets.requests(model, targets, said, path.parent):
            target, several = request.target, len(targets) > 1
            foreign = several_targets.foreign_to(catalog.target(target), said)
            arguments = {key: value for key, value in said.items() if key not in foreign}
            arguments |= {"target": target, "out": str(out / target if several else out)}
            full = f"{name}/{target}" if several else name
            cases.append(Case(full, model, arguments, validation, gates, notes))
    except UsageError as error:
        raise _located(error, f"{path}, [{where}]") from error
    return cases


def _read_table(
    path: Path, where: str, table: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What convert takes, what validate takes, and the gates."""
    known, of_validation = keys.model_keys(), keys.validation_keys()
    said: dict[str, Any] = {}
    validation: dict[str, Any] = {}
    gates: dict[str, Any] = {}
    for name, value in table.items():
        place = f"{path}: {where}{'.' if where else ''}{name}"
        if name in NEVER:
            raise OptionError(f"{place} can't be set in a file", hint=f"{NEVER[name]}.")
        if name == GATES:
            gates = _read_gates(path, where, value)
        elif name not in known and name not in of_validation:
            listed = [*known, *of_validation, GATES]
            raise UnknownName.of(f"key {where}.{name} in {path}:", name, listed)
        elif value != NONE:
            key = known.get(name) or of_validation[name]
            read = keys.read(value, key, place)
            into = said if name in known else validation
            into[name] = placed(path.parent, read, key.path) if key.path else read
    for stage, values in said.get("options", {}).items():
        if stage not in catalog.STAGES:
            raise UnknownName.of(f"stage {where}.options.{stage} in {path}:", stage, catalog.STAGES)
        for name in set(values) & set(catalog.stage(stage).options.never_from_files):
            raise OptionError(f"{path}: {where}.options.{stage}.{name} can't be set in a file")
    return said, validation, gates


def _read_gates(path: Path, where: str, table: Any) -> dict[str, Any]:
    place = f"{path}: {where}{'.' if where else ''}{GATES}"
    if not isinstance(table, Mapping):
        raise OptionError(f"{place} takes a table of limits, received {table!r}")
    said = {name: value for name, value in table.items() if value != NONE}
    try:
        limits.read(said)
    except UsageError as error:
        raise _located(error, place) from error
    return said


def placed(folder: Path, value: Any, kind: str) -> Any:
    """A path from where the file is; what is a name and no path stays as it is."""
    if isinstance(value, (list, tuple)):
        return type(value)(placed(folder, item, kind) for item in value)
    text = str(value)
    path = folder / Path(text).expanduser()
    named = kind == keys.PATH_OR_NAME or text == RANDOM or _names_code(text)
    return text if named and not path.exists() else str(path)


def _names_code(text: str) -> bool:
    """As `Request.factory` tells it: a factory may have a class before its last name."""
    module, colon, name = text.partition(":")
    parts = [*module.split("."), *name.split(".")]
    return bool(colon) and all(part.isidentifier() for part in parts)


def _stem(case: Case) -> str:
    return case.name.partition("/")[0]


def _located(error: EdgepipeError, place: str) -> EdgepipeError:
    return type(error)(f"{place}: {error.message}", hint=error.hint, **error.details)


def request_of(case: Case, folder: Path, trust: bool = False, retry: bool = False) -> Request:
    """As `convert` would be asked."""
    more = {name: True for name, said in (("trust", trust), ("retry", retry)) if said}
    arguments = {**case.arguments, **more}
    ((request, _),) = several_targets.requests(case.model, [case.target], arguments, folder)
    return replace(request, out=case.arguments["out"])
