"""What a user asks for, in one typed object, and the model that it names as an artifact."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from edgepipe import catalog, identify, onnx_file
from edgepipe.artifact import IR, Artifact, Format, Loading, digest_file, digest_path
from edgepipe.code_digest import code_digest
from edgepipe.data import preprocessing
from edgepipe.dataset import DataSource
from edgepipe.errors import EdgepipeError, ModelNotFound, OptionError, UnknownName
from edgepipe.gates import Gates
from edgepipe.identify_openvino import files_of
from edgepipe.learning import HELD_OUT, Learning
from edgepipe.proof import QUANTIZED, Tolerance
from edgepipe.runners.openvino_devices import check_name


@dataclass(frozen=True)
class Request:
    """One conversion. Every field is a keyword of `edgepipe.convert` and a flag of the command."""

    model: str | Path = ""
    target: str = "tflite"
    precision: str = "float32"
    out: str | Path | None = None
    inputs: tuple[str, ...] = ()
    samples: str | Path | None = None
    calibration: str | Path | None = None
    preprocessing: Mapping[str, Any] | str | Path = field(default_factory=dict)
    labels: str = ""
    columns: tuple[str, ...] = ()
    limit: int | None = None
    held_out: float = HELD_OUT
    io: str = ""
    calibration_method: str = ""
    allow_float: bool = False
    repair: str = ""
    repair_budget: float | None = None
    recipe: str | Path | None = None
    seed: int = 0
    weights: str | Path | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)
    python_path: tuple[str, ...] = ()
    submodule: str = ""
    custom_objects: str = ""
    trust: bool = False
    route: str = ""
    explore: bool = False
    keep_layout: bool = False
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    min_sqnr: float | None = None
    max_error: float | None = None
    min_agreement: float | None = None
    stage_timeout: float | None = None
    stage_memory: float | None = None
    retry: bool = False
    compiler: str = ""
    no_compile: bool = False
    device: str = ""
    no_timing: bool = False
    require_full_mapping: bool = False
    max_streamed_bytes: int | None = None
    runtime_version: int | None = None
    max_sram: str = ""
    max_flash: str = ""
    emit: str = ""

    @staticmethod
    def of(model: str | Path, settings: Mapping[str, Any]) -> Request:
        known = [item.name for item in fields(Request)]
        for name in settings:
            if name not in known:
                raise UnknownName.of("argument of convert", name, known)
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in settings.items()
        }
        return Request(model=model, **values)

    def factory(self) -> str:
        """`package.module:name` when that is what the model is, else ''."""
        text = str(self.model)
        if ":" not in text or Path(text).exists():
            return ""
        module, _, name = text.partition(":")
        parts = [*module.split("."), *name.split(".")]
        return text if all(part.isidentifier() for part in parts) else ""

    def check(self, data: bool = True) -> None:
        """Refuse what contradicts itself, before anything is read; without `data`, of routes."""
        goal = catalog.target(self.target)
        if self.precision not in goal.precisions:
            raise UnknownName.of(
                f"precision for target {self.target}", self.precision, goal.precisions
            )
        self.tolerance()
        self.quantized_tolerance()
        if data:
            self._check_learning()
        self._check_compiling()
        self._check_emit(goal)
        if self.seed < 0:
            raise OptionError(f"--seed takes a number from 0 on, received {self.seed}")
        if self.route and self.explore:
            raise OptionError(
                "--route and --explore exclude each other",
                hint="--route takes one route, --explore tries them all.",
            )
        if not str(self.model):
            raise OptionError("no model was named", hint="edgepipe convert MODEL --target tflite")
        if self.out is not None and Path(self.out).suffix in (".tflite", ".onnx"):
            raise OptionError(
                f"-o takes a folder, received {str(self.out)!r}",
                hint=f"the model is written into it: -o {Path(self.out).with_suffix('')}",
            )
        if (self.weights or self.model_args) and not self.factory():
            raise OptionError(
                "--weights and --model-arg belong to a model that is given as code",
                hint="name its factory: --model package.module:factory --weights FILE.",
            )

    def data(self, where: str | Path) -> DataSource:
        """A place of samples with everything else that was said of data."""
        table = self.preprocessing
        path = tuple(str(Path(folder).absolute()) for folder in self.python_path)
        return DataSource.of(
            where,
            table if isinstance(table, Mapping) else preprocessing.read_file(Path(table)),
            labels=self.labels,
            columns=self.columns,
            limit=self.limit,
            seed=self.seed,
            python_path=path or (str(Path.cwd()),),
            trust=self.trust,
        )

    def data_sources(self) -> dict[str, DataSource]:
        """What was given, by the flag that gave it."""
        given = {"samples": self.samples, "calibration": self.calibration}
        return {name: self.data(where) for name, where in given.items() if where}

    @property
    def quantizes(self) -> bool:
        return self.precision != catalog.FLOAT

    def tolerance(self) -> Tolerance:
        """What an exact arrow may lose; what was said is about the integers, if there are any."""
        return Tolerance() if self.quantizes else replace(Tolerance(), **self._said_limits())

    def quantized_tolerance(self) -> Tolerance:
        """What a quantized arrow may lose, as far as it was said."""
        return replace(QUANTIZED, **self._said_limits()) if self.quantizes else QUANTIZED

    def _said_limits(self) -> dict[str, float]:
        said = {
            "sqnr_db": self.min_sqnr,
            "relative_error": self.max_error,
            "argmax_agreement": self.min_agreement,
        }
        return {name: value for name, value in said.items() if value is not None}

    def learning(self) -> Learning | None:
        """What is learnt from and what is judged on, where something is quantized."""
        given = self.data_sources()
        if not self.quantizes or "calibration" not in given:
            return None
        return Learning.of(given["calibration"], given.get("samples"), self.held_out)

    def gates(self) -> Gates:
        return Gates(
            self.require_full_mapping,
            self.max_streamed_bytes,
            self.runtime_version,
            Gates.read_size("--max-sram", self.max_sram),
            Gates.read_size("--max-flash", self.max_flash),
        )

    def _check_emit(self, goal: catalog.Target) -> None:
        if self.emit and self.emit != "c":
            raise UnknownName.of("form to emit", self.emit, ["c"])
        takes = goal.name == "tflite" or "--emit" in goal.flags
        if self.emit and (not takes or self.no_compile):
            raise OptionError(
                f"--emit c makes C of a TFLite or Vela file, and the target {self.target}"
                f"{' is not compiled' if self.no_compile else ' gives none'}",
                hint="take --target tflite --precision int8, or an Ethos-U, as ethos-u55-256.",
            )

    def quantized_already(self) -> bool:
        """Whether a chip's compiler is all that is left to do, so that nothing is learnt."""
        goal = catalog.target(self.target)
        path = Path(self.model).expanduser()
        if goal.compiled is None or self.factory() or not path.is_file():
            return False
        try:
            return identify.identify(path) in (goal.quantized, goal.compiled)
        except EdgepipeError:
            return False  # It is said where the model is opened.

    def _check_compiling(self) -> None:
        """What only a chip's target knows is refused for the others, not passed over."""
        asked = self.gates().asked()
        asked += ["--compiler"] if self.compiler else []
        asked += ["--no-compile"] if self.no_compile else []
        asked += ["--device"] if self.device else []
        goal = catalog.target(self.target)
        if goal.format in IR and asked == ["--device"]:
            check_name(self.device)
            return
        if asked and not goal.flags:
            chips = ", ".join(name for name, goal in catalog.TARGETS.items() if goal.compiled)
            raise OptionError(
                f"{', '.join(asked)}: only for targets with a compiler of their own ({chips}),"
                f" and the target is {self.target}",
                hint="name the chip with --target.",
            )
        foreign = [flag for flag in asked if flag not in goal.flags]
        if foreign:
            raise OptionError(
                f"{', '.join(foreign)}: not for the target {self.target}",
                hint=f"it has {', '.join(goal.flags)}.",
            )
        if self.no_compile and (self.compiler or self.device):
            raise OptionError("--no-compile excludes --compiler and --device")

    def _check_learning(self) -> None:
        if self.quantized_already():
            return
        if self.precision in catalog.CALIBRATED and not self.calibration:
            raise OptionError(
                f"--precision {self.precision} needs samples that say which values occur",
                hint="give some with --calibration DATA (100 or more that are like those in use);"
                " --calibration random makes a file that runs, and whose figures mean nothing.",
            )
        if not 0 < self.held_out < 1:
            raise OptionError(
                f"--held-out takes a share between 0 and 1, received {self.held_out:g}"
            )

    def output_folder(self) -> Path:
        if self.out is not None:
            return Path(self.out)
        stem = self.factory().rpartition(":")[2] or Path(self.model).stem or "model"
        return Path(f"{stem}_{self.target}")

    def loading(self) -> Loading:
        factory = self.factory()
        path = tuple(str(Path(folder).absolute()) for folder in self.python_path)
        if (factory or self.custom_objects) and not path:
            path = (str(Path.cwd()),)
        for folder in path:
            if not Path(folder).is_dir():
                raise ModelNotFound(f"--python-path {folder}: no such folder")
        modules = [factory.partition(":")[0]] if factory else []
        modules += [name.strip() for name in self.custom_objects.split(",") if name.strip()]
        return Loading(
            custom_objects=self.custom_objects,
            factory=factory,
            factory_args=tuple(sorted(self.model_args.items())),
            weights=str(Path(self.weights).absolute()) if self.weights else "",
            python_path=path,
            trust=self.trust,
            code=code_digest(modules, path) if modules else "",
        )


def open_model(request: Request, scratch: Path) -> Artifact:
    """The model that was named, identified and digested; `scratch` takes a factory's descriptor."""
    loading = request.loading()
    if loading.factory:
        return _from_factory(loading, scratch)
    path = Path(request.model).expanduser().absolute()
    format = identify.identify(path)
    if request.submodule:
        if format is not Format.TORCHSCRIPT:
            raise OptionError(
                f"--submodule belongs to TorchScript, received {request.submodule!r} with {format}",
                hint="code can name the part itself: --model package.module:factory.",
            )
        loading = replace(loading, factory=request.submodule)
    return Artifact(path, format, digest_model(path, format), loading=loading)


def _from_factory(loading: Loading, scratch: Path) -> Artifact:
    weights = ""
    if loading.weights:
        if not Path(loading.weights).is_file():
            raise ModelNotFound(f"no weights at {loading.weights}")
        weights = digest_file(Path(loading.weights))
    facts = json.dumps([loading.key(), weights], sort_keys=True)
    descriptor = scratch / "torch-source.json"
    descriptor.write_text(json.dumps(loading.to_json(), indent=1))
    digest = hashlib.sha256(facts.encode()).hexdigest()
    return Artifact(descriptor, Format.TORCH_SOURCE, digest, loading=loading)


def digest_model(path: Path, format: Format) -> str:
    """The digest of all that belongs to a model: the files beside an ONNX file or an .xml too."""
    if format in IR and path.is_file():
        return hashlib.sha256(" ".join(map(digest_file, files_of(path))).encode()).hexdigest()
    return onnx_file.digest(path) if format is Format.ONNX else digest_path(path)
