"""A run told while it goes on: a line a step, with a clock on a terminal and plain when piped."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

import click

from edgepipe import process_memory
from edgepipe.cli.folding import columns, fold
from edgepipe.story import Step, Trial

MARKS = {"made": "✓", "kept": "=", "failed": "✗", "unproven": "✗", "left-out": "-"}
COLOURS = {
    "made": "green",
    "kept": "cyan",
    "failed": "red",
    "unproven": "red",
    "left-out": "yellow",
}
TICK_SECONDS = 0.2
PIPED_SECONDS = 10


class Progress:
    """Writes to standard error, so that standard output stays for results."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self.live = not quiet and sys.stderr.isatty()
        self._running: dict[str, tuple[str, float]] = {}
        self._open: set[str] = set()
        self._mixed = False
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._clock: threading.Thread | None = None

    def __enter__(self) -> Progress:
        if self.live:
            self._clock = threading.Thread(target=self._tick, daemon=True)
            self._clock.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._clock is not None:
            self._clock.join()
            self._wipe()

    def route_started(self, route: str) -> None:
        with self._lock:
            self._running.pop("", None)
            self._open.add(route)
            self._mixed = self._mixed or len(self._open) > 1
        self._line(click.style(f"route {route}", bold=True))

    def step_started(self, route: str, what: str, toolchain: str) -> None:
        with self._lock:
            self._running[route if what != "read" else ""] = (
                f"{what} ({toolchain})" if toolchain else what,
                time.monotonic(),
            )

    def step_ended(self, route: str, step: Step) -> None:
        with self._lock:
            self._running.pop(route, None)
        mark = click.style(MARKS[step.status], fg=COLOURS[step.status])
        facts = []
        if step.proof is not None and step.proof.proven:
            facts.append(f"proven, {step.proof.sqnr_db:.0f} dB")
        remembered = step.error is not None and step.error.details.get("kept")
        if step.peak_memory and step.status != "kept" and not remembered:
            facts.append(process_memory.words(step.peak_memory))
        words = f"  {mark} {step.stage:<30} {step.seconds:6.1f} s  {step.status:<8}"
        if self._mixed:
            facts.append(f"[{route}]")
        self._line(f"{words} {', '.join(facts)}".rstrip())
        if step.error is not None:
            told = " (seen in an earlier run)" if remembered else ""
            self._line(fold(f"      {step.error.message}{told}"))
            if step.log:
                self._line(f"      log: {step.log}")
        if self.verbose:
            self._tell(step)

    def route_ended(self, trial: Trial) -> None:
        with self._lock:
            self._open.discard(trial.route)
        if trial.status == "failed" and trial.steps and trial.steps[-1].error is None:
            self._line(f"  ✗ {trial.reason}")

    def note(self, text: str) -> None:
        self._line(click.style("note: ", fg="yellow") + fold(f"note: {text}")[len("note: ") :])

    def progressed(self, what: str, done: int, total: int, left: float | None) -> None:
        """On a terminal one line that moves; piped, a line each `PIPED_SECONDS` at most."""
        remains = "" if left is None or done >= total else f", {_time_words(left)} left"
        text = f"{what}: {done:,} of {total:,}{remains}"
        with self._lock:
            self._running.pop(what, None)
            if done < total:
                self._running[what] = (text, time.monotonic())
        now = time.monotonic()
        self._told.setdefault(what, now)  # A short run needs no word.
        if not self.live and now - self._told[what] > PIPED_SECONDS:
            self._told[what] = now
            self._line(f"  {text}")

    def _tell(self, step: Step) -> None:
        from pathlib import Path

        from edgepipe.post_mortem import tail

        for note in step.notes:
            self._line(f"      {note}")
        if step.log:
            for line in tail(Path(step.log), 200):
                self._line(f"      | {line}")

    def _line(self, text: str) -> None:
        if self.quiet:
            return
        with self._lock:
            self._wipe()
            click.echo(text, err=True)

    def _tick(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            with self._lock:
                now = time.monotonic()
                parts = [f"{what} {now - start:.0f} s" for what, start in self._running.values()]
                self._wipe()
                if parts:
                    width = columns() - 3
                    sys.stderr.write(("… " + " · ".join(parts))[:width])
                sys.stderr.flush()

    def _wipe(self) -> None:
        if self.live:
            sys.stderr.write("\r\x1b[K")


def _time_words(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
