"""How edgepipe calls ssh, for boards and for compilers elsewhere: no questions, keys checked."""

from __future__ import annotations

import re

CONNECT_SECONDS = 15
NO_CONNECTION = 255
"""How ssh itself ends when it fails, whatever the other side would say."""
_REMEDIES = (
    (r"host key verification failed|no .* host key is known",
     "the host's key isn't known here: `ssh {host}` once by hand, look at its fingerprint and"
     " accept it"),
    (r"permission denied",
     "it must let you in without a question: `ssh-copy-id {host}`, or `ssh-add` your key"),
    (r"could not resolve", "is the name of the host right?"),
    (r"refused|timed out|no route|unreachable|closed|reset",
     "is the host on, and is this its SSH port?"),
)  # fmt: skip


def options() -> list[str]:
    """No password is asked for, and a host whose key isn't known is not talked to."""
    return [
        "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes",
        "-o", f"ConnectTimeout={CONNECT_SECONDS}",
    ]  # fmt: skip


def remedy(told: str, host: str) -> str:
    """What to do about ssh's own words; empty where they are none that are known."""
    hint = next((words for pattern, words in _REMEDIES if re.search(pattern, told, re.I)), "")
    return hint.format(host=host)
