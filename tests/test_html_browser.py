"""The report's page in a real browser: silent, alone, sortable, narrow, dark, readable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import LACKING, Browser, find
from evidence_documents import hostile, validation

from edgepipe.report.html import page
from edgepipe.validation.evidence import Verdict

pytestmark = pytest.mark.skipif(find() is None, reason=LACKING)

CONTRAST = """
(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgb = (words) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = words;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (words) => {
    const [r, g, b] = rgb(words).map((one) => one / 255)
      .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (; one; one = one.parentElement) {
      const found = getComputedStyle(one).backgroundColor;
      if (rgb(found)[3] === 255) return found;
    }
    return "white";
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const one = node.parentElement;
    if (!node.data.trim() || !one.checkVisibility() || one.closest("script, title, desc")) continue;
    const style = getComputedStyle(one);
    const [a, b] = [light(one.closest("svg") ? style.fill : style.color), light(ground(one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${one.tagName}.${one.className.baseVal ?? one.className}: `
      + `${ratio.toFixed(2)} ${node.data.trim().slice(0, 30)}`);
  }
  return poor;
})()
"""
WIDER = """
[...document.querySelectorAll("body *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll"))
  .map((one) => one.tagName + "." + one.className)
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


def written(folder: Path, document: dict[str, Any]) -> Path:
    return page.write(folder / "report.html", page.render(json.loads(json.dumps(document))))


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_page_is_silent_alone_narrow_enough_and_readable(
    browser: Browser, tmp_path: Path, verdict: Verdict, scheme: str, width: int
) -> None:
    browser.media(scheme)
    browser.size(width, 800, mobile=width < 500)
    browser.open(written(tmp_path, validation(verdict).to_json()))
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert browser.errors == []
    assert [
        one for one in browser.requests if not one.startswith(("file:", "data:image/png"))
    ] == []
    assert len([one for one in browser.requests if one.startswith("file:")]) == 1
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(WIDER) == []
    assert browser.run(CONTRAST) == []
    dark = browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(16, 20, 24)"
    assert dark == (scheme == "dark")


def column(browser: Browser, number: int) -> list[str]:
    script = (
        "[...document.querySelectorAll('#mapping .sortable tbody tr')]"
        f".map((one) => one.cells[{number}].textContent)"
    )
    found: list[str] = browser.run(script)
    return found


def sorted_by(browser: Browser) -> list[str]:
    script = "[...document.querySelectorAll('#mapping th[aria-sort]')].map((one) => one.ariaSort)"
    found: list[str] = browser.run(script)
    return found


def test_a_table_is_sorted_by_click_and_says_so(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(tmp_path, validation().to_json()))
    as_written = column(browser, 2)
    assert sorted_by(browser) == ["none"] * 5
    browser.run("document.querySelectorAll('#mapping th button')[4].click()")
    assert sorted_by(browser) == ["none"] * 4 + ["ascending"]
    assert column(browser, 2) == as_written
    browser.run("document.querySelectorAll('#mapping th button')[4].click()")
    assert sorted_by(browser) == ["none"] * 4 + ["descending"]
    assert column(browser, 2) == as_written[::-1]


def test_a_table_is_sorted_with_the_keyboard_alone(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(tmp_path, validation().to_json()))
    where = "document.activeElement.closest('#mapping th') && document.activeElement.textContent"
    for _ in range(80):
        browser.key("Tab", 9)
        if browser.run(where) == "Device":
            break
    assert browser.run(where) == "Device"
    browser.key("Enter", 13, "\r")
    assert sorted_by(browser) == ["none", "none", "none", "ascending", "none"]
    assert column(browser, 3) == ["CPU", *["XNNPACK"] * 7]
    browser.key(" ", 32, " ")
    assert column(browser, 3) == [*["XNNPACK"] * 7, "CPU"]
    assert browser.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("word", ["<script>boom()</script>", "\"><img src=x onerror=boom()>",
                                  "javascript:boom()", "</style><b>&amp;'"])  # fmt: skip
def test_names_of_others_are_text_and_nothing_else(
    browser: Browser, tmp_path: Path, word: str
) -> None:
    browser.open(written(tmp_path, hostile(word).to_json()))
    assert browser.errors == []
    assert len(browser.requests) == 1
    assert browser.run("document.scripts.length") == 1
    assert browser.run("document.querySelectorAll('img, b:empty, a[href^=javascript]').length") == 0
    assert word in browser.run("document.body.textContent")


def test_a_script_that_got_in_would_not_run(browser: Browser, tmp_path: Path) -> None:
    made = page.render(json.loads(json.dumps(validation().to_json())))
    worse = made.replace("</main>", "<script>document.title = 'ours'</script></main>")
    assert worse != made
    browser.open(page.write(tmp_path / "worse.html", worse))
    assert browser.run("document.title") != "ours"
    assert any("Content Security Policy" in one for one in browser.errors)


def test_four_thousand_operators_come_when_they_are_asked_for(
    browser: Browser, tmp_path: Path
) -> None:
    document = validation().to_json()
    name = "model/block_{}/very_long_name_of_a_tensor/BiasAdd;model/block_{}/Conv2D"
    document["placement"]["rows"] = [
        {"op": "CONV_2D", "name": name.format(at, at), "device": ("NPU", "CPU")[at % 7 == 0],
         "seconds": 1e-6 * ((at * 7919) % 4001)} for at in range(4000)
    ]  # fmt: skip
    path = written(tmp_path, document)
    assert path.stat().st_size < 2_000_000
    browser.open(path)
    assert len(column(browser, 2)) == 100
    browser.run("document.querySelector('#mapping .more button').click()")
    assert len(column(browser, 2)) == 4000
    browser.open(path)
    browser.run("document.querySelectorAll('#mapping th button')[4].click()")
    assert len(column(browser, 2)) == 4000, "what is sorted is all of it"
    assert column(browser, 2)[0] == "0"
    browser.run(
        "const field = document.querySelector('#mapping input'); field.value = 'block_3999/';"
        "field.dispatchEvent(new Event('input'))"
    )
    shown = "document.querySelectorAll('#mapping tbody tr:not([hidden])').length"
    assert browser.run(shown) == 1


def test_the_command_can_be_copied(browser: Browser, tmp_path: Path) -> None:
    document = {
        "status": "failed",
        "routes": [],
        "command": ["/a/bin/edgepipe", "convert", "m y.h5"],
    }
    browser.open(written(tmp_path, document))
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    browser.run("document.querySelector('button.copy').click()")
    browser.run("new Promise((done) => setTimeout(done, 200))")
    said = browser.run("document.querySelector('.command [role=status]').textContent")
    assert said in ("copied", "selected: press Ctrl+C")
    code = browser.run("document.querySelector('.command code').textContent")
    assert code == "edgepipe convert 'm y.h5'"


def test_paper_has_what_was_folded_and_no_buttons(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(tmp_path, validation().to_json()))
    browser.media("light", "print")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    assert browser.run("document.querySelectorAll('details:not([open])').length") == 0
    assert browser.run("document.querySelector('nav').checkVisibility()") is False
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run("document.querySelectorAll('details[open]').length") == 0
    browser.media("light")
