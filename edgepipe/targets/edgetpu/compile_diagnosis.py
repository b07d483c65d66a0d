"""What the compiler's fatal words mean, and what to do about each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Diagnosis:
    """`words` are the compiler's own; `random` ones may go away by themselves."""

    kind: str
    words: str
    meaning: str
    remedy: str
    source: str
    random: bool = False


@dataclass(frozen=True)
class _Known:
    kind: str
    pattern: re.Pattern[str]
    meaning: str
    remedy: str
    source: str
    random: bool = False


ISSUES = "google-coral/edgetpu issue"


def _known(
    kind: str, pattern: str, meaning: str, remedy: str, source: str, random: bool = False
) -> _Known:
    return _Known(kind, re.compile(pattern, re.I), meaning, remedy, source, random)


KNOWN = (
    _known(
        "op-version", r"Didn't find op for builtin opcode '(?P<op>\w+)' version '(?P<version>\d+)'",
        "{op} version {version} is newer than what this compiler reads",
        "`edgepipe preflight MODEL --fix -o NEW` lowers what can be lowered and names what is left;"
        " save the model with older versions of that, or rebuild it from others",
        f"{ISSUES}s 340, 845, 879",
    ),
    _known(
        "op-code", r"Op builtin_code out of range: (?P<code>\d+)",
        "the model has an operator (code {code}) that didn't exist when the compiler was made",
        "`edgepipe preflight` names it; rebuild it from operators of docs/edgetpu-ops.md",
        "logs of compiler 16",
    ),
    _known(
        "not-quantized", r"Model not quantized",
        "not all of it is 8-bit integers, or its batch is left open",
        "quantize it with `edgepipe convert MODEL --target edgetpu --calibration DATA`, which also"
        " fixes the shapes",
        "coral.ai/docs/edgetpu/models-intro",
    ),
    _known(
        "dynamic", r"only supports static-sized tensors with a graph that has dynamic-sized"
        r"|dynamic-sized tensors",
        "the size of a tensor is only known when the model runs",
        "fix all shapes: convert with --input NAME=1x224x224x3; `edgepipe preflight MODEL --fix -o"
        " NEW` folds what computes them",
        f"{ISSUES}s 434, 829",
    ),
    _known(
        "activations", r"Compilation failed due to large activation tensors in model",
        "an activation is too large for the chip's memory",
        "make the input smaller, compile with --search-delegate, which leaves operators to the CPU"
        " until the rest fits, or stop before it with --intermediate-tensors",
        f"{ISSUES}s 444, 512",
    ),
    _known(
        "compiler-timeout", r"Compilation timeout\. This is usually caused by large activations",
        "the compiler's own time was up, mostly because of large activations",
        "raise --timeout-sec, make the input smaller, or compile with --search-delegate",
        f"{ISSUES} 686",
    ),
    _known(
        "interpreter", r"Model failed in Tflite interpreter",
        "TensorFlow Lite itself, of 2021, can't run the model",
        "`edgepipe preflight` shows what is newer; run it with `edgepipe convert MODEL` to see that"
        " the file is whole",
        f"{ISSUES}s 829, 831",
    ),
    _known(
        "empty-graph", r"Did not get operators, tensors, or buffers in subgraph (?P<graph>\d+)",
        "subgraph {graph} is empty or kept outside of what the compiler reads",
        "models with control flow can't be compiled; of others make the file again",
        "tensorflow/tensorflow issue 43288",
    ),
    _known(
        "internal", r"Internal compiler error",
        "the compiler broke down",
        "where it is not by chance: a smaller input, --search-delegate, and without"
        " --multiple-subgraphs",
        f"{ISSUES}s 189, 211, 358",
        random=True,
    ),
    _known(
        "exception", r"terminat\w+ (?:with uncaught exception|called after throwing).*",
        "the compiler died of a bug of its own",
        "compile with --search-delegate, or change the operator that `edgepipe preflight` is"
        " least sure of",
        f"{ISSUES} 728",
    ),
    _known(
        "not-for-this-machine", r"Exec format error|cannot execute binary file",
        "the compiler is a program for x86-64 Linux, and this machine isn't one",
        "--compiler docker:IMAGE or --compiler ssh://user@host runs it elsewhere",
        "coral.ai/docs/edgetpu/compiler",
    ),
    _known(
        "library", r"error while loading shared libraries: (?P<library>\S+)|GLIBC_\S+' not found",
        "the compiler's own libraries aren't whole here",
        "install it by apt (edgetpu-compiler), which brings them",
        "coral.ai/docs/edgetpu/compiler",
    ),
    _known(
        "flag", r"(?:unknown|unrecognized|invalid) (?:command.line )?(?:option|flag)[^\n]*",
        "this version doesn't know an option",
        "leave it out, or use a newer compiler; the newest is version 16",
        "coral.ai/docs/edgetpu/compiler",
    ),
    _known(
        "unreadable", r"Model could not be parsed|Invalid model:",
        "the compiler can't read the file",
        "`edgepipe preflight` says what in it is too new, or that it is damaged; --fix rewrites",
        f"{ISSUES}s 34, 147",
    ),
    _known(
        "unexplained", r"Compilation failed!",
        "it says no more than that it failed",
        "compile with --search-delegate; `edgepipe preflight` shows which operators are suspect",
        f"{ISSUES}s 800, 903",
    ),
)  # fmt: skip
"""In the order in which they tell most: of several that are said, the first explains the others."""


def of(lines: Sequence[str]) -> Diagnosis | None:
    """The one that explains most of what was said; of one kind said often, the last."""
    for known in KNOWN:
        for line in reversed(lines):
            if found := known.pattern.search(line):
                named = {name: value or "" for name, value in found.groupdict().items()}
                meaning = known.meaning.format(**named)
                return Diagnosis(
                    known.kind, line, meaning, known.remedy, known.source, known.random
                )
    return None
