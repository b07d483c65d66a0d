"""One compiled file, checked against the model that it was made of: a model, or a segment of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgepipe.artifact import Format, digest_file
from edgepipe.errors import BrokenOutput, EdgepipeError, StageFailed, UnsupportedModel
from edgepipe.identify import identify
from edgepipe.post_mortem import tail
from edgepipe.targets.edgetpu import compile_log, compiled, ends, outcome, preflight
from edgepipe.targets.edgetpu.compile_log import MAPPED, CompileLog, ModelLog
from edgepipe.targets.edgetpu.compile_options import CompileOptions
from edgepipe.targets.edgetpu.compiled import Compiled
from edgepipe.targets.edgetpu.outcome import Disagreement
from edgepipe.targets.edgetpu.preflight import Preflight
from edgepipe.tflite import loading
from edgepipe.tflite.graph import Model

RUNTIME_OF_16 = 14


@dataclass(frozen=True)
class Piece:
    """`foretold` is None where there is nothing to set it beside; a note says why."""

    path: Path
    source: Path | None
    facts: Compiled
    said: ModelLog | None
    foretold: Preflight | None
    disagreements: tuple[Disagreement, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def mapped(self) -> int:
        return sum(self.facts.mapped.values())

    @property
    def total(self) -> int:
        return len(self.facts.source)

    @property
    def log_file(self) -> Path | None:
        """The log that the compiler wrote beside it."""
        beside = self.path.with_suffix(".log")
        return beside if beside.is_file() else None

    def to_json(self) -> dict[str, Any]:
        foretold = self.foretold
        return {
            "file": self.path.name,
            "sha256": digest_file(self.path),
            "source_sha256": digest_file(self.source) if self.source else None,
            **self.facts.to_json(),
            "said": self.said.to_json() if self.said else None,
            "foretold": foretold.summary() if foretold else None,
            "disagreements": [one.to_json() for one in self.disagreements],
            "notes": list(self.notes),
        }


def whole(
    path: Path,
    source: Path,
    model: Model,
    parsed: CompileLog,
    options: CompileOptions,
    log: Path,
) -> Piece:
    """A whole model's file, with its ends checked and its mapping set beside the one foretold."""
    said = _said(path, parsed) or (parsed.models[-1] if len(parsed.models) == 1 else None)
    _refuse_unusable(path, model, said, options, log)
    made = loading.load(path)
    wrong = ends.differences(model.main, made.main)
    if wrong:
        raise BrokenOutput(
            f"{path.name} has other ends than the model: {'; '.join(wrong)}", log=str(log)
        )
    return _compared(path, source, model, said, options, log)


def segments(
    files: Sequence[Path], model: Model, parsed: CompileLog, options: CompileOptions, log: Path
) -> tuple[Piece, ...]:
    """The segments' files, in order: together they must have the model's ends."""
    pieces, graphs = [], []
    for path in files:
        said = _said(path, parsed)
        source = path.with_name(path.name.replace("_edgetpu.tflite", ".tflite"))
        part = loading.load(source) if source.is_file() else None
        _refuse_unusable(path, part or model, said, options, log)
        graphs.append(loading.load(path).main)
        if part is None:
            note = f"{path.name}: the compiler kept no source of it, so no op was compared"
            facts = compiled.read(path)
            pieces.append(Piece(path, None, facts, said, None, notes=(note,)))
        else:
            pieces.append(_compared(path, source, part, said, options, log))
    wrong = ends.chain(graphs)
    wanted = {one.name for one in model.main.outputs}
    lost = wanted - {one.name for graph in graphs for one in graph.outputs}
    wrong += [f"no segment gives the output {name!r}" for name in sorted(lost)]
    if [one.name for one in graphs[0].inputs] != [one.name for one in model.main.inputs]:
        wrong.append("the first segment has other inputs than the model")
    if wrong:
        raise BrokenOutput(f"the segments don't fit together: {'; '.join(wrong)}", log=str(log))
    return tuple(pieces)


def _said(path: Path, parsed: CompileLog) -> ModelLog | None:
    """What was printed of it, with the rows of its log file where none were printed."""
    said = parsed.of(path.name)
    beside = path.with_suffix(".log")
    if (said is None or not said.rows) and beside.is_file():
        written = compile_log.parse(beside.read_text(encoding="utf-8", errors="replace"))
        of_file = written.of(path.name) or (written.models[-1] if written.models else None)
        if of_file is not None:
            return replace(said, rows=of_file.rows) if said else of_file
    return said


def _compared(
    path: Path,
    source: Path,
    model: Model,
    said: ModelLog | None,
    options: CompileOptions,
    log: Path,
) -> Piece:
    try:
        facts = compiled.read(path, source)
    except UnsupportedModel as error:
        # It has the model's ends, so it is of this model; only what is left can't be told by name.
        note = f"its ops can't be set beside the model's: {error.message}"
        return Piece(path, source, compiled.read(path), said, None, notes=(note,))
    except EdgepipeError as error:
        raise BrokenOutput(f"{path.name}: {error.message}", log=str(log)) from error
    foretold = preflight.of_model(model, options.multiple_subgraphs, source.name)
    behind = outcome.behind(model.main, options.intermediate_tensors)
    found = outcome.compare(foretold, facts.source, said, behind)
    if all(one.index < 0 for one in found):
        memory = facts.cached_bytes, facts.streamed_bytes
        found += outcome.compare_memory(foretold.memory, *memory)
    notes = outcome.log_against_file(facts.source, said)
    piece = Piece(path, source, facts, said, foretold, tuple(found), tuple(notes))
    if not piece.mapped:
        raise _none_mapped(path, model, said, options, log)
    return piece


def _refuse_unusable(
    path: Path, model: Model, said: ModelLog | None, options: CompileOptions, log: Path
) -> None:
    try:
        found = identify(path)
    except EdgepipeError as error:
        raise BrokenOutput(
            f"edgetpu_compiler wrote a damaged {path.name}: {error.message}", log=str(log)
        ) from error
    if found is not Format.EDGETPU:
        raise _none_mapped(path, model, said, options, log)


def _none_mapped(
    path: Path, model: Model, said: ModelLog | None, options: CompileOptions, log: Path
) -> StageFailed:
    """A "success" that leaves everything to the CPU: the file would run, and gain nothing."""
    statuses = Counter[str]()
    for (_, status), count in (said.table if said else {}).items():
        if status != MAPPED:
            statuses[status] += count
    said_words = "; ".join(f"{count} x {status}" for status, count in statuses.most_common(3))
    version = options.min_runtime_version
    if version is not None and version < RUNTIME_OF_16:
        why = f": -m {version} asks for a runtime that is too old for what the model needs"
        hint = (
            "leave out --min-runtime-version, or raise it to the version of the device's"
            f" libedgetpu; without it compiler 16 compiles for {RUNTIME_OF_16}."
        )
    else:
        why, hint = "", "`edgepipe preflight` shows why for each op, and what helps."
    told = f" (it says: {said_words})" if said_words else ""
    return StageFailed(
        f"edgetpu_compiler ended well and mapped none of {len(model.main.ops)} ops{why}{told}",
        hint=hint,
        diagnosis="none-mapped",
        log=str(log),
        tail=tail(log),
    )
