"""The frame of every page: what is allowed in it, style, script, heads and the way around."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from edgepipe.report.html.markup import Child, Html, el


def fragment(*parts: Child) -> str:
    """Parts in a page of somebody else's, a notebook: the same style, and for these parts alone."""
    style = asset("page.css").replace(":root", "&")
    return el("div", el("style", Html(f".edgepipe {{ {style} }}")), parts, class_="edgepipe")


def document(
    title: str,
    heading: str,
    below: str,
    first: Sequence[Html | None],
    parts: Sequence[tuple[str, str, Sequence[Html]]],
) -> str:
    """A whole page: `first` is above the list of parts, each of which is key, title and content."""
    style, script = asset("page.css"), asset("page.js")
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    links = [el("li", el("a", title, href=f"#{key}")) for key, title, _ in parts]
    sections = [
        el("section", el("h2", title, id=f"{key}-title"), found, id=key,
           aria_labelledby=f"{key}-title")
        for key, title, found in parts
    ]  # fmt: skip
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{title} · edgepipe"),
        el("style", Html(style)),
    )
    body = el(
        "body",
        el("a", "Skip to the verdict", href="#verdict", class_="skip"),
        el("header", el("h1", heading), el("p", below) if below else None),
        el(
            "main",
            first,
            el("nav", el("ul", links), aria_label="Parts of this page") if len(links) > 1 else None,
            sections,
        ),
        el("footer", "Made by edgepipe. Nothing in this file is loaded from anywhere."),
        el("script", Html(script)),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


@cache
def asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _digest(content: str) -> str:
    """As a Content-Security-Policy names what it allows."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
