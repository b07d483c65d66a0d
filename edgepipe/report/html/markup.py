"""Elements of HTML and SVG: what is not markup already is escaped, so nothing is forgotten."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

VOID = {"meta", "br", "img", "hr", "col"}
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


class Html(str):
    """Text that is markup already."""


Child: TypeAlias = "str | int | float | Iterable[Child] | None"
Attribute: TypeAlias = "str | int | float | bool | None"


def text(value: object) -> Html:
    """Any text as itself: `<` is shown, never read."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(UNPRINTABLE.sub("\ufffd", str(value)), quote=True))


def el(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """One element. `class_` is class, `aria_label` is aria-label; None and False are left out."""
    words = "".join(map(_attribute, attributes, attributes.values()))
    if name in VOID:
        return Html(f"<{name}{words}>")
    return Html(f"<{name}{words}>{join(children)}</{name}>")


def join(children: Child) -> Html:
    """Children one after the other; None is nothing, lists are flattened."""
    if children is None:
        return Html("")
    if isinstance(children, str) or not isinstance(children, Iterable):
        return text(children)
    return Html("".join(map(join, children)))


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    # SVG has viewBox and textLength, which no underscore is in.
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(value)}"'
