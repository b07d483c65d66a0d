"""The page over several models: the worst first, each with the way to its own page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chromium import LACKING, Browser, find
from evidence_documents import hostile, validation
from test_html import Outline
from test_html_browser import CONTRAST, WIDER

from edgepipe.report.html import checked
from edgepipe.report.outcome import Outcome
from edgepipe.validation.evidence import Validation, Verdict


def seen(found: Validation) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(found.to_json()))
    return plain


def outcomes(folder: Path) -> list[Outcome]:
    own = folder / "out" / "first model"
    own.mkdir(parents=True)
    (own / "report.html").write_text("its own")
    error = {"error": "ToolMissing", "message": "no keras <here>", "hint": "install it"}
    return [
        Outcome("first", validation=seen(validation()), seconds=2.0, folder=str(own)),
        Outcome("second", validation=seen(validation(Verdict.FAILED)), exit_code=5),
        Outcome("third", validation=seen(validation(Verdict.UNDECIDED)), exit_code=5),
        Outcome("fourth", error=error, exit_code=3, notes=("its data are new",)),
    ]


def test_what_is_wrong_is_said_first_and_of_each_model(tmp_path: Path) -> None:
    outline = Outline(checked.render(outcomes(tmp_path), tmp_path / "page.html"))
    said = outline.text
    assert "1 of 4 models passed" in said
    for words in ("drops by 1.9 points", "840 more are needed", "no keras <here>",
                  "its data are new"):  # fmt: skip
        assert words in said
    limits = said.partition("the broken ones first")[2]
    assert limits.index("second") < limits.index("third") < limits.index("first")
    assert [one["href"] for one in outline.all("a") if str(one["href"]).startswith("./")] == [
        "./out/first%20model/report.html"
    ]


def test_all_passed_is_said_so(tmp_path: Path) -> None:
    (first, *_) = outcomes(tmp_path)
    outline = Outline(checked.render([first], tmp_path / "page.html"))
    assert "1 of 1 model passed" in outline.text
    assert outline.all("section")[0]["class"] == "verdict passed"


@pytest.mark.skipif(find() is None, reason=LACKING)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_silent_narrow_enough_and_readable(tmp_path: Path, scheme: str) -> None:
    word = "<script>boom()</script>"
    worse = Outcome(word, validation=seen(hostile(word)), exit_code=5)
    page = tmp_path / "page.html"
    page.write_text(checked.render([*outcomes(tmp_path), worse], page), encoding="utf-8")
    with Browser(tmp_path) as browser:
        browser.media(scheme)
        browser.size(320, 800, mobile=True)
        browser.open(page)
        assert browser.errors == []
        assert len(browser.requests) == 1
        assert browser.run("document.documentElement.scrollWidth") <= 320
        assert browser.run(WIDER) == []
        assert browser.run(CONTRAST) == []
