"""Breaks long lines between words on a terminal, and leaves whole what a user may want to copy."""

from __future__ import annotations

import re
import shutil
import sys

COPIED = re.compile(r"`[^`]*`|\bedgepipe( [^\s,;:]+)+|--[a-z-]+ \S+")
"""Commands, and options with their values: a line break in one would be typed, too."""
GLUE = "\xa0"


def fold(text: str) -> str:
    """Lines of the terminal's width, each hanging under its own start; piped text as it is."""
    if not sys.stderr.isatty():
        return text
    return "\n".join(_fold_line(line, columns()) for line in text.splitlines())


def columns() -> int:
    return shutil.get_terminal_size().columns


def _fold_line(line: str, width: int) -> str:
    if len(line) <= width:
        return line
    import textwrap

    margin = len(line) - len(line.lstrip())
    hanging = " " * (margin + 2)
    if margin + 20 > width:
        return line
    glued = COPIED.sub(lambda found: found[0].replace(" ", GLUE), line.strip(" "))
    folded = textwrap.fill(
        glued,
        width,
        initial_indent=" " * margin,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return folded.replace(GLUE, " ")
