"""The samples on which both sides differ most, with what was fed where it can be shown."""

from __future__ import annotations

import re

from edgepipe.report.html import wording
from edgepipe.report.html.markup import Html, el
from edgepipe.report.html.view import Data, View

TITLE = "Worst samples"
PNG = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")
"""Nothing else is taken from a report into an image: it may be another's."""
MOST_BYTES = 1_500_000
"""Of all pictures together: the page stays one that can be sent."""


def section(view: View) -> list[Html] | None:
    found = view.part("worst") or ()
    if not found:
        return None
    cards, left = [], MOST_BYTES
    for sample in found:
        picture = sample.get("picture") or ""
        shown = bool(PNG.fullmatch(picture)) and len(picture) <= left
        left -= len(picture) if shown else 0
        cards.append(_card(sample, picture if shown else ""))
    return [
        el("p", "Where the deployed model is farthest from the float one, the worst first."),
        el("ul", cards, class_="samples"),
    ]


def _card(sample: Data, picture: str) -> Html:
    name = sample.get("name") or f"sample {sample['index']}"
    truth = sample.get("truth")
    said = [("float", sample["baseline"]), ("deployed", sample["candidate"])]
    if truth:
        said.insert(0, ("truth", truth))
    return el(
        "li",
        el("img", src=picture, alt=f"what was fed: {name}") if picture else None,
        el("b", name),
        el("span", f"number {sample['index']}, error {wording.number(sample['error'])}"),
        el("dl", [el("div", el("dt", key), el("dd", value)) for key, value in said]),
    )
