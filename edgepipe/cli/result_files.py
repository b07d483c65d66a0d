"""`--junit`, `--markdown`, `--html FILE`: what became of a run, for CI and for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from edgepipe.errors import EdgepipeError

if TYPE_CHECKING:
    from edgepipe.report.outcome import Outcome

Command = Callable[..., Any]


def result_file_options(command: Command) -> Command:
    for option in reversed(
        (
            click.option(
                "--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                help="Write JUnit XML: a case for each step and each gate.",
            ),
            click.option(
                "--markdown", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                help="Write a summary for a pull request.",
            ),
            click.option(
                "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
                help="Write one page over all of it, without network.",
            ),
        )
    ):  # fmt: skip
        command = option(command)
    return command


class ResultFiles:
    """Writes them when the run is over, however it ended; not when it was interrupted."""

    def __init__(self, flags: dict[str, Any], name: str = "", allow_undecided: bool = False):
        """Takes its own flags out of those of the command."""
        self.junit: Path | None = flags.pop("junit")
        self.markdown: Path | None = flags.pop("markdown")
        self.html: Path | None = flags.pop("html", None)
        self.name = name or "model"
        self.allow_undecided = allow_undecided
        self.outcomes: list[Outcome] = []

    def tell(self, *outcomes: Outcome) -> None:
        self.outcomes += outcomes

    def tell_report(self, report: Mapping[str, Any], folder: Path) -> None:
        from edgepipe.report.outcome import Outcome

        self.tell(Outcome.of(self.name, report, None, folder))

    def tell_validation(self, document: Mapping[str, Any]) -> None:
        from edgepipe.report.outcome import Outcome

        seconds = float(document["seconds"])
        self.tell(Outcome(self.name, validation=document, seconds=seconds))

    def __enter__(self) -> ResultFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not (self.junit or self.markdown or self.html):
            return
        if isinstance(error, EdgepipeError):
            self._add(error)
        elif error is not None:
            return
        self.write()

    def _add(self, error: EdgepipeError) -> None:
        """A broken gate is met after the run was told; of several targets each has its own."""
        from edgepipe.report.outcome import Outcome, without_report

        if not self.outcomes:
            self.tell(Outcome.of(self.name, None, error))
        elif len(self.outcomes) == 1 and not self.outcomes[0].exit_code:
            told = without_report(error)
            self.outcomes = [replace(self.outcomes[0], error=told, exit_code=error.exit_code)]

    def write(self) -> None:
        from edgepipe import delivery
        from edgepipe.report import junit, markdown

        if self.junit is not None:
            delivery.write_text(self.junit, junit.text(self.outcomes, self.allow_undecided))
        if self.markdown is not None:
            delivery.write_text(self.markdown, markdown.text(self.outcomes))
        if self.html is not None:
            from edgepipe.report.html import checked

            delivery.write_text(self.html, checked.render(self.outcomes, self.html))
