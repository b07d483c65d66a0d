"""The page of operators, made of the rules: `python -m edgepipe.targets.edgetpu.ops_page`."""

from __future__ import annotations

from pathlib import Path

from edgepipe.targets.edgetpu import rules

PATH = Path("docs", "edgetpu-ops.md")


def page() -> str:
    lines = [
        "# What the Edge TPU maps",
        "",
        "Made from the rules that `edgepipe preflight` checks, in the order in which it tries them."
        " Each is one function in `edgepipe/targets/edgetpu/rules.py`.",
        "",
        "| ops | rule | the compiler's words | confidence: source | what helps |",
        "| --- | --- | --- | --- | --- |",
    ]
    for rule in rules.RULES:
        ops = ", ".join(rule.ops) or "all"
        basis = f"{rule.confidence}: {rule.source}"
        lines.append(f"| {ops} | {rule.words} | {rule.status} | {basis} | {rule.fix} |")
    lines += [
        "",
        "## Operators",
        "",
        f"Mapped in real compiled files: {', '.join(sorted(rules.SEEN_MAPPED))}.",
        "",
        f"Documented only: {', '.join(sorted(rules.SUPPORTED - rules.SEEN_MAPPED))}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")
