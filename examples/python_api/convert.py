"""Converts the digits model from Python, reads the report, and handles what can go wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import edgepipe

DIGITS = Path(__file__).parent.parent / "digits_keras"


def main(out: Path) -> None:
    for route in edgepipe.routes(DIGITS / "digits.h5", target="tflite"):
        print(f"possible: {route.name}")

    result = edgepipe.convert(
        DIGITS / "digits.h5",
        target="tflite",
        samples=DIGITS / "samples.npz",
        min_sqnr=100,
        out=out / "digits",
    )
    print(f"made {result.model} by {result.route}, proven at {result.sqnr_db:.0f} dB")
    tell(result)

    refused("a name that no file has", DIGITS / "digit.h5", out=out / "nothing")
    refused(
        "more than float32 can keep",
        DIGITS / "digits.h5",
        out=out / "strict",
        min_sqnr=190,
        route=result.route,
    )


def tell(result: edgepipe.Result) -> None:
    """What the report says of each step; all of it is in report.json."""
    chosen = next(one for one in result.report["routes"] if one["status"] == "chosen")
    for step in chosen["steps"]:
        print(f"  {step['stage']}: {step['status']}, {step['proof']['sqnr_db']:.0f} dB")
    model = edgepipe.inspect(result.model)
    print(f"  {model.size:,} bytes, {sum(model.description.ops.values())} ops")


def refused(what: str, model: Path, **arguments: Any) -> None:
    """The errors are those of the command, with its exit codes; each says what to do."""
    try:
        edgepipe.convert(model, **arguments)
    except edgepipe.EdgepipeError as error:
        print(f"{what}: {type(error).__name__}, exit code {error.exit_code}")
        for line in filter(None, [*error.message.splitlines(), error.hint]):
            print(f"  {line}")
    else:
        sys.exit(f"{what} was not refused")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/examples/python_api"))
