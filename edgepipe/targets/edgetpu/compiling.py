"""Drives the compiler: models in, compiled files out, and all that can go wrong between told."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepipe.errors import OptionError, StageCrashed, StageFailed, StageTimedOut
from edgepipe.post_mortem import tail
from edgepipe.targets.edgetpu import compilable, compile_diagnosis, compile_log, piece
from edgepipe.targets.edgetpu.compile_log import CompileLog
from edgepipe.targets.edgetpu.compile_options import CompileOptions
from edgepipe.targets.edgetpu.compiler import Compiler
from edgepipe.targets.edgetpu.compiler_process import Said
from edgepipe.targets.edgetpu.piece import Piece
from edgepipe.tflite.graph import Model

ATTEMPTS = 2
"""The same call was seen to end in an internal error and then well: google-coral/edgetpu 173."""

NOT_OF_THE_MODEL = {"not-for-this-machine", "library", "internal"}
"""Diagnoses that the next call, or another machine, may not give again."""


@dataclass(frozen=True)
class Compilation:
    """What one call of the compiler made, with its words and how it fits what was foretold."""

    compiler: Compiler
    options: CompileOptions
    pieces: tuple[Piece, ...]
    log: Path
    seconds: float
    attempts: int
    notes: tuple[str, ...] = field(default=())

    @property
    def disagreements(self) -> list[str]:
        """Every difference from preflight, named by its file where there are several."""
        several = len(self.pieces) > 1
        return [
            f"{made.path.name}: {one.words()}" if several else one.words()
            for made in self.pieces
            for one in made.disagreements
        ]

    def words(self) -> list[str]:
        """What a user should be told beside the result."""
        found = [f"compiled by {self.compiler.words}"]
        found += self.notes
        found += [note for one in self.pieces for note in one.notes]
        return found + [f"not as foretold: {words}" for words in self.disagreements]

    def write_log(self, path: Path) -> None:
        """The compiler's words, and under them its own log files; a replay says so first."""
        parts = [f"# {self.compiler.words}"] if self.compiler.replayed else []
        parts.append(self.log.read_text(encoding="utf-8"))
        files = [one.log_file for one in self.pieces if one.log_file is not None]
        for file in files:
            parts.append(f"# {file.name}\n{file.read_text(encoding='utf-8', errors='replace')}")
        path.write_text("\n".join(parts), encoding="utf-8")

    def to_json(self) -> dict[str, Any]:
        return {
            "compiler": self.compiler.to_json(),
            "options": self.options.key(),
            "seconds": round(self.seconds, 3),
            "attempts": self.attempts,
            "notes": list(self.notes),
            "models": [made.to_json() for made in self.pieces],
        }


def compile_models(
    compiler: Compiler, models: Sequence[Path], options: CompileOptions, folder: Path, log: Path
) -> Compilation:
    """Compile one model, or several to share a chip. `folder` gets `out/` with what was written.

    `log` gets the compiler's words, whatever becomes of it.
    """
    options.check()
    if options.num_segments > 1 and len(models) > 1:
        raise OptionError(
            f"--num-segments cuts one model, and {len(models)} were given",
            hint="call it once for each.",
        )
    loaded = [compilable.load(path, options.allow_float) for path in models]
    names = _staged(models, folder / "in")
    patience = options.patience([len(one.main.ops) for one in loaded])
    seconds, notes = 0.0, []
    for attempt in range(1, ATTEMPTS + 1):
        _empty(folder / "out")
        said = compiler.place.run(names, options.arguments(), folder, patience)
        seconds += said.seconds
        log.write_text(said.text, encoding="utf-8")
        found = compile_diagnosis.of(said.text.splitlines()) if said.code else None
        if found is None or not found.random or said.why or attempt == ATTEMPTS:
            break
        notes.append(f"run again: {found.words!r}, which is known to go away by itself")
    parsed = compile_log.parse(said.text)
    expected = _expected(names, options.num_segments)
    _check_ended(said, parsed, [folder / "out" / name for name in expected], options, log)
    pieces = _pieces(loaded, names, options, folder, parsed, log)
    if compiler.replayed:
        notes.append("replayed, not the real compiler: this proves nothing about a new model")
    return Compilation(compiler, options, pieces, log, seconds, attempt, tuple(notes))


def _staged(models: Sequence[Path], folder: Path) -> list[str]:
    """Copies under names that no shell, image or flag can misread, each of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    for path in models:
        stem = re.sub(r"[^\w.+-]+", "_", path.stem).lstrip("-.") or "model"
        name, number = f"{stem}.tflite", 2
        while name in names:
            name, number = f"{stem}_{number}.tflite", number + 1
        shutil.copyfile(path, folder / name)
        names.append(name)
    return names


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _expected(names: Sequence[str], segments: int) -> list[str]:
    stems = [name.removesuffix(".tflite") for name in names]
    if segments > 1:
        return [
            f"{stem}_segment_{number}_of_{segments}_edgetpu.tflite"
            for stem in stems
            for number in range(segments)
        ]
    return [f"{stem}_edgetpu.tflite" for stem in stems]


def _check_ended(
    said: Said, parsed: CompileLog, files: list[Path], options: CompileOptions, log: Path
) -> None:
    """Raise what became of the compiler where not every file is there."""
    facts: dict[str, Any] = {"log": str(log), "tail": tail(log)}
    if said.why.startswith("it printed"):
        raise StageFailed(f"edgetpu_compiler was ended: {said.why}", type="OSError", **facts)
    if said.why:
        raise StageTimedOut(
            f"edgetpu_compiler was ended: {said.why}",
            hint="raise --timeout-sec, or make the model smaller.",
            **facts,
        )
    missing = [path.name for path in files if not path.is_file() or not path.stat().st_size]
    if not said.code and not missing:
        return
    found = compile_diagnosis.of(said.text.splitlines())
    if found is not None:
        error = StageFailed(
            f"edgetpu_compiler refuses the model: {found.meaning} ({found.words!r})",
            hint=f"{found.remedy} ({found.source}).",
            diagnosis=found.kind,
            **facts,
        )
        if found.kind in NOT_OF_THE_MODEL:
            error.details["type"] = "OSError"  # So that it isn't remembered as the model's.
        raise error
    if said.death:
        raise StageCrashed(
            f"edgetpu_compiler died of {said.death}",
            hint="try --search-delegate; where the machine is short of memory, a larger one.",
            **facts,
        )
    version = "" if parsed.version else ", and nothing that it printed is a compiler's"
    if said.code:
        raise StageFailed(
            f"edgetpu_compiler ended with exit code {said.code} and no reason{version}",
            hint="its words are in the log.",
            **facts,
        )
    raise StageFailed(
        f"edgetpu_compiler ended well and wrote no {', '.join(missing)}{version}",
        hint="is this edgetpu_compiler, and is there room on the disk?",
        type="OSError",
        **facts,
    )


def _pieces(
    loaded: Sequence[Model],
    names: Sequence[str],
    options: CompileOptions,
    folder: Path,
    parsed: CompileLog,
    log: Path,
) -> tuple[Piece, ...]:
    files = [folder / "out" / name for name in _expected(names, options.num_segments)]
    if options.num_segments > 1:
        return piece.segments(files, loaded[0], parsed, options, log)
    return tuple(
        piece.whole(path, folder / "in" / name, model, parsed, options, log)
        for path, name, model in zip(files, names, loaded, strict=True)
    )
