"""What torch says when it fails, without the advice, links and source that it adds."""

from __future__ import annotations

import re

SENTENCE_END = re.compile(r"\.\s+(?=[A-Z])")


def first_sentence(error: BaseException) -> str:
    """The first sentence of the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return SENTENCE_END.split(lines[0])[0][:300] if lines else "no message"
