"""The Python interface, on the same engine as the command: convert, routes, inspect."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepipe import (
    catalog,
    delivery,
    given_data,
    input_ranges,
    inputs,
    making,
    manifest,
    pipeline,
    program_steps,
    toolchain,
)
from edgepipe.artifact import Artifact, Format
from edgepipe.data.survey import Survey
from edgepipe.errors import BrokenOutput, EdgepipeError, InputError, NoRouteLeft, StageFailed
from edgepipe.identify import suffix_note
from edgepipe.layers import request_for
from edgepipe.pipeline import Outcome
from edgepipe.plan import Route, pick, routes_between
from edgepipe.post_mortem import Limits
from edgepipe.report import compiled as compiled_report
from edgepipe.report import document
from edgepipe.report.document import Account
from edgepipe.request import Request, open_model
from edgepipe.runner import Description
from edgepipe.samples import MOST, SampleSource
from edgepipe.session import Session
from edgepipe.shown import Shown
from edgepipe.store import Store
from edgepipe.story import Listener, Silent

if TYPE_CHECKING:
    from edgepipe.cost.counting import Costs

LOOKED_AT = 1000
"""Samples of calibration data that are looked at before a run begins, where no worker is needed."""


@dataclass(frozen=True)
class Result(Shown):
    """Where everything is, and the report as data."""

    folder: Path
    model: Path
    files: dict[str, Path]
    report: dict[str, Any]
    report_path: Path

    @property
    def route(self) -> str:
        return str(self.report["chosen"])

    @property
    def sqnr_db(self) -> float | None:
        """The proof from end to end; None where nothing was made, so that nothing was compared."""
        chosen = next(item for item in self.report["routes"] if item["status"] == "chosen")
        if not chosen["steps"]:
            return None
        proofs = [chosen["end_to_end"], *(step["proof"] for step in chosen["steps"])]
        ran = [proof for proof in proofs if proof and not proof["not_run"]]
        return float(ran[0]["sqnr_db"]) if ran else None


def convert(model: str | Path, *, listener: Listener | None = None, **arguments: Any) -> Result:
    """Convert a model; every keyword is a field of `edgepipe.request.Request`.

    With `validate=DATA` the result is run beside the model, with keywords of `edgepipe.validate`.
    Raises a subclass of `edgepipe.EdgepipeError`, the same that the command prints.
    """
    from edgepipe.validation import after_conversion

    result, found = after_conversion.converted(model, arguments, listener or Silent())
    if found is not None:
        found.check()
    return result


def routes(model: str | Path, **arguments: Any) -> list[Route]:
    """The routes that `convert` would try, best first. Nothing is run."""
    request = request_for(model, arguments)
    request.check(data=False)
    return routes_for(request, format_of(request))


def format_of(request: Request) -> Format:
    if request.factory():
        return Format.TORCH_SOURCE
    from edgepipe.identify import identify

    return identify(Path(request.model).expanduser())


def routes_for(request: Request, format: Format) -> list[Route]:
    found = routes_between(format, catalog.target(request.target).format_of(request.precision))
    return [pick(found, request.route)] if request.route else found


def run(request: Request, listener: Listener, timed: bool = False) -> Result:
    """The whole of `edgepipe convert`; `timed` measures the result on this CPU, too."""
    start = time.perf_counter()
    request.check()
    found = routes_for(request, format_of(request))
    readers = [data.toolchain for data in request.data_sources().values() if data.toolchain]
    lacking = toolchain.missing([*found[0].toolchains(), *readers])
    if lacking is not None:
        raise lacking
    folder = request.output_folder()
    delivery.check_folder(folder)
    with Store() as store, _session(request, store, listener) as session:
        source = open_model(request, session.folder if request.factory() else Path())
        delivery.check_disk(store, source, folder)
        warnings = _warnings(source)
        for text in warnings:
            listener.note(text)
        source, strange = _described(session, source, request, found[0])
        looked = _look_at_data(session, source, request)
        for text in (*strange, *looked):
            warnings.append(text)
            listener.note(text)
        account = Account(request, source, (), (), 0.0, warnings)
        ahead = program_steps.look_ahead(session, request, found, source)
        found = ahead.routes
        if ahead.lacking is not None:
            listener.note(f"{ahead.lacking.message}: the run ends before compiling")
        _check_runs(session, source)
        try:
            outcome = pipeline.run(session, source, found, request.explore, bool(request.route))
        except NoRouteLeft as error:
            _report_failure(account, session, folder, error, time.perf_counter() - start)
            raise
        if timed and outcome.chosen.trial.latency_ms is None:
            pipeline.time_on_cpu(session, [outcome.chosen])
        return _deliver(account, session, folder, outcome, start, ahead.lacking)


def _session(request: Request, store: Store, listener: Listener) -> Session:
    defaults = Limits()
    given = request.data_sources()
    limits = Limits(
        seconds=request.stage_timeout or defaults.seconds,
        memory=int(request.stage_memory * (1 << 30)) if request.stage_memory else defaults.memory,
    )
    return Session(
        store,
        listener,
        SampleSource.of(given["samples"])
        if "samples" in given
        else SampleSource(seed=request.seed),
        request.tolerance(),
        request.options,
        limits,
        request.retry,
        request.learning(),
        request.quantized_tolerance(),
        request.gates(),
        request.device,
        not request.no_timing,
    )


def _described(
    session: Session, source: Artifact, request: Request, route: Route
) -> tuple[Artifact, list[str]]:
    """The source with every input's shape fixed, and what stays open or is a guess."""
    specs = [inputs.parse(text) for text in request.inputs]
    session.listener.step_started(route.name, "read", str(source.format))
    described = making.describe(session, source, lambda: pipeline.warm_first(session, route))
    optional = described.facts.get("optional_inputs", ())
    if stateful := described.facts.get("stateful_layers"):
        raise InputError(
            f"the model keeps state between calls, in: {', '.join(stateful)};"
            " expected the same outputs for the same inputs",
            hint="build it with stateful=False (the weights stay the same) or with the state as"
            " an input and an output of the model, save it, and convert that.",
        )
    pinned = inputs.pin(described.signature, specs, optional)
    open_ends = [
        f"input {port.name!r} of {source.path.name} is open ({inputs.shape_words(port.shape)}) and"
        " stays so: nothing is made of a file that is passed on as it is"
        for port in described.signature.inputs
        if not route.stages and port.shape is not None and not port.fixed
    ]
    bounded, guesses = input_ranges.bound(session, source.with_signature(pinned))
    return bounded, [*open_ends, *guesses]


def _check_runs(session: Session, source: Artifact) -> None:
    """The model's own outputs, which every proof needs; without them no route leads anywhere."""
    samples = session.samples.key(source.ends())
    try:
        making.outputs(session, source, samples)
    except (StageFailed, BrokenOutput) as error:
        if isinstance(error, BrokenOutput) and not error.details.get("running"):
            return  # What this runtime can't load, a converter may know.
        fed = ", ".join(inputs.words(port) for port in source.ends().inputs)
        first = source.ends().inputs[0]
        example = f"{first.name}={'x'.join(map(str, (4, *(first.shape or (1,))[1:])))}"
        raise InputError(
            f"{source.path.name} can't run in its own framework, fed {fed}: {error.message}",
            hint="are these the shapes that it takes? Set others with --input, for instance"
            f" --input {example}; real values with --samples.",
        ) from error


def _look_at_data(session: Session, source: Artifact, request: Request) -> list[str]:
    """Refuses now what would be found after the first step, and says what is strange."""
    warnings = []
    for name, data in request.data_sources().items():
        # What the core reads is read fast: NaN shows now and not after minutes of conversion.
        most = MOST if data.toolchain or name == "samples" else LOOKED_AT
        first = SampleSource.of(data, most).data
        assert first is not None
        found = given_data.look(session, first, source.ends())
        warnings += [*found.problems, *found.warnings]
        if data.random:
            warnings.append(f"--{name} random: {data.words()}; what it leads to says little")
    if request.calibration and request.precision == "float32":
        warnings.append("--calibration is not used: nothing is quantized for float32")
    return list(dict.fromkeys(warnings))


def _warnings(source: Artifact) -> list[str]:
    if source.format is Format.TORCH_SOURCE:
        return []
    note = suffix_note(source.path, source.format)
    return [note] if note else []


def _deliver(
    account: Account,
    session: Session,
    folder: Path,
    outcome: Outcome,
    start: float,
    lacking: EdgepipeError | None,
) -> Result:
    written = delivery.write_models(folder, outcome.chosen.artifacts, account.request.precision)
    account = replace(
        account,
        trials=outcome.trials,
        written=tuple(written),
        seconds=time.perf_counter() - start,
    )
    report = document.of(account, session, folder)
    if account.request.emit:
        report["emitted"] = delivery.write_c(session, outcome.chosen, written[-1].path)
    beside = delivery.beside(outcome.chosen.artifacts)
    report |= {key: name for key, name in delivery.KEYS.items() if name in beside}
    unfinished = compiled_report.add(report, account.request, outcome.chosen, lacking)
    path = delivery.write_report(folder, report)
    files = {item.path.name: item.path for item in written}
    files |= {name: folder / name for name in report.get("emitted", ())}
    manifest.of_run(folder, written, *beside, *report.get("emitted", ()))
    result = Result(folder, written[-1].path, files, report, path)
    if unfinished is not None:
        unfinished.details.update(report=str(path), model=str(result.model))
        raise unfinished
    return result


def _report_failure(
    account: Account, session: Session, folder: Path, error: NoRouteLeft, seconds: float
) -> None:
    """The story is worth having when nothing came of it, too, and so is what was made before."""
    account = replace(account, error=error, seconds=seconds)
    with contextlib.suppress(EdgepipeError, OSError):  # The first error is the one to show.
        if error.made:
            written = delivery.write_models(folder, error.made, account.request.precision)
            account = replace(account, written=tuple(written))
        else:
            delivery.clear_earlier(folder, set())
        report = document.of(account, session, folder)
        report["routes"] = error.details.get("trials", [])
        error.details["report"] = str(delivery.write_report(folder, report))
        if account.written:
            manifest.of_run(folder, account.written)


@dataclass(frozen=True)
class Inspection(Shown):
    """What a model is, without running it on data."""

    format: Format
    digest: str
    size: int
    description: Description
    costs: Costs

    def to_json(self) -> dict[str, Any]:
        return {
            "format": self.format.value,
            "sha256": self.digest,
            "size": self.size,
            **self.description.to_json(),
            **self.costs.to_json(),
        }


def inspect(model: str | Path, **arguments: Any) -> Inspection:
    """Describe a model of any format that edgepipe reads; count what TFLite and ONNX ones cost."""
    from edgepipe.cost import counting  # needs numpy, which `convert` has no use for

    request = request_for(model, arguments)
    kind = format_of(request)
    runner = catalog.runner(kind)
    if not runner.describes_in_core:
        lacking = toolchain.missing([runner.toolchain])
        if lacking is not None:
            raise lacking
    with Store() as store, _session(request, store, Silent()) as session:
        artifact = open_model(request, session.folder if request.factory() else Path())
        specs = [inputs.parse(text) for text in request.inputs]
        described = making.describe(session, artifact)
        if specs and not runner.describes_in_core:
            pinned = inputs.pin(described.signature, specs)
            described = making.describe(session, artifact.with_signature(pinned))
        costs = counting.of(session, artifact, described.signature, specs)
        return Inspection(kind, artifact.digest, delivery.model_size(artifact), described, costs)


def survey(data: str | Path, model: str | Path = "", **arguments: Any) -> Survey:
    """What of this data a model would be fed: the whole data set is read once.

    Without a model its inputs are said: `inputs=["image=1x224x224x3:float32"]`. The other
    keywords are those of `convert`: preprocessing, labels, columns, limit, seed, trust.
    """
    request = request_for(model, arguments)
    source = request.data(data)
    named = [inputs.parse(text) for text in request.inputs]
    readers = [source.toolchain] if source.toolchain else []
    with Store() as store, _session(request, store, Silent()) as session:
        if not str(model):
            ends = inputs.signature_of(named)
        else:
            runner = catalog.runner(format_of(request))
            readers += [] if runner.describes_in_core else [runner.toolchain]
        lacking = toolchain.missing(readers)
        if lacking is not None:
            raise lacking
        if str(model):
            artifact = open_model(request, session.folder if request.factory() else Path())
            described = making.describe(session, artifact)
            optional = described.facts.get("optional_inputs", ())
            ends = inputs.pin(described.signature, named, optional)
        return given_data.look(session, source, ends)
