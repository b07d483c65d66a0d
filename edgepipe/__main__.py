"""`python -m edgepipe`, and what the command `edgepipe` calls."""

from __future__ import annotations

import gc
import sys

INTERRUPTED = 130
OBJECTS_BETWEEN_COLLECTIONS = 20_000
"""Python's 700 mean dozens of searches for cycles in what imports leave, 10 ms in all."""


def main() -> None:
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    try:
        from edgepipe.cli.main import run
    except KeyboardInterrupt:  # Importing takes a tenth of a second, and nothing has begun yet.
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    sys.exit(run())


if __name__ == "__main__":
    main()
