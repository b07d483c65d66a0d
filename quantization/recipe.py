"""A recipe: all that was asked of a quantization, as TOML beside its result, to apply again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepipe import __version__
from edgepipe.stage import Options

FILE = "recipe.toml"


def write(folder: Path, stage: str, options: Options, facts: Mapping[str, Any]) -> Path:
    """The options under their stage's name, as `--recipe` reads them; `facts` as comments."""
    lines = [f"# edgepipe {__version__}; apply it again with --recipe {FILE}"]
    lines += [f"# {name}: {value}" for name, value in facts.items()]
    lines += ["", f"[{stage}]"]
    said = {name: value for name, value in options.key().items() if value is not None}
    lines += [f"{name} = {_toml(value)}" for name, value in said.items()]
    path = folder / FILE
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _toml(value: Any) -> str:
    """JSON's texts, numbers, truths and lists are TOML's too."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)
