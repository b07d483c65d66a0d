"""`python -m edgepipe`, and what the command `edgepipe` calls."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    try:
        from edgepipe.cli.main import run
    except KeyboardInterrupt:  # Importing takes a tenth of a second, and nothing has begun yet.
        sys.stderr.write("interrupted\n")
        sys.exit(INTERRUPTED)
    sys.exit(run())


if __name__ == "__main__":
    main()
