"""`python -m edgepipe`, and what the command `edgepipe` calls."""

from __future__ import annotations

import sys


def main() -> None:
    from edgepipe.cli.main import run

    sys.exit(run())


if __name__ == "__main__":
    main()
