"""What results show of themselves in a notebook, as text and in a page of somebody else's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chromium import LACKING, Browser, find
from evidence_documents import hostile, validation
from test_html import Outline
from test_html_browser import CONTRAST, WIDER
from tflite_models import dense

import edgepipe
from edgepipe.api import Result
from edgepipe.diagnosis import Diagnosis
from edgepipe.report.html import notebook
from edgepipe.several_targets import TargetResults
from edgepipe.tflite import saving
from edgepipe.validation.evidence import Verdict
from edgepipe.validation.validating import Validated

LAYER = {"own_cosine": 1.0, "final_sqnr_db": {}, "not_measured": "", "causes": []}
DIAGNOSIS = {
    "data": "images", "samples": 8, "causes": [],
    "outputs": {"digit": {"sqnr_db": 41.5, "cosine": 0.99}},
    "layers": [
        {**LAYER, "layer": f"conv_{at}", "op": "CONV_2D", "index": at, "own_sqnr_db": 60.0 - at,
         "share": 1.0 if at == 11 else 0.0}
        for at in range(30)
    ],
}  # fmt: skip
FAILED = {
    "status": "failed", "routes": [], "outputs": [],
    "error": {"error": "NoRouteLeft", "message": "nothing <worked>", "hint": "", "details": {}},
}  # fmt: skip
ROW = {
    "target": "openvino", "status": "done", "precision": "int8", "size": 512, "memory_bytes": None,
    "memory_of": "", "accelerated": None, "ops": None, "latency_ms": 1.5, "latency_is": "measured",
    "latency_of": "here", "mapping": "", "sqnr_db": 40.0, "accuracy": None, "error": None,
    "report": "openvino/report.json",
}  # fmt: skip
TARGETS = {"model": "net.h5", "status": "done", "targets": [ROW]}


def fragments() -> dict[str, str]:
    where = Path("out/report.json")
    seen = validation(Verdict.FAILED)
    return {
        "convert": Result(Path("out"), Path("m"), {}, FAILED, where)._repr_html_(),
        "validate": Validated(seen, json.loads(json.dumps(seen.to_json())), where)._repr_html_(),
        "diagnose": Diagnosis(DIAGNOSIS, {})._repr_html_(),
        "targets": TargetResults(Path("out"), (), {}, {}, TARGETS, where)._repr_html_(),
    }


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("convert", ["Not converted", "nothing <worked>", "out/report.html"]),
        ("validate", ["1 of 2 limits broken.", "limit 1 point", "2.07 ms"]),
        ("diagnose", ["41.5 dB", "conv_11", "and 18 more"]),
        ("targets", ["net.h5", "openvino", "1.50 ms", "40.0 dB"]),
    ],
)
def test_a_result_shows_what_matters_without_script(what: str, words: list[str]) -> None:
    outline = Outline(fragments()[what])
    for word in words:
        assert word in outline.text
    assert outline.all("script", "a", "button", "template") == []
    assert not any("id" in attributes for _, attributes in outline.found)


def test_the_costliest_layer_is_the_first() -> None:
    said = Outline(fragments()["diagnose"]).text
    assert said.index("conv_11", said.index("the costliest first")) < said.index("conv_0")


def test_inspect_shows_a_models_size_ends_and_operators(tmp_path: Path) -> None:
    model = tmp_path / "dense.tflite"
    saving.save(dense(), model)
    found = edgepipe.inspect(model)
    said = Outline(found._repr_html_()).text
    assert found.digest in said and "FULLY_CONNECTED" in said and "input" in said


def test_names_of_others_are_escaped() -> None:
    document: dict[str, Any] = json.loads(json.dumps(hostile("<script>x</script>").to_json()))
    assert "<script" not in notebook.report(document)


@pytest.mark.skipif(find() is None, reason=LACKING)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1100])
def test_cells_look_right_and_leave_the_notebook_alone(
    tmp_path: Path, scheme: str, width: int
) -> None:
    page = tmp_path / "notebook.html"
    head = "<!doctype html><meta charset='utf-8'><title>n</title><h2 id='theirs'>theirs</h2>"
    body = "".join(f"<div>{one}</div>" for one in fragments().values())
    look = (
        "JSON.stringify(['fontFamily', 'fontSize', 'margin', 'color']"
        ".map((one) => getComputedStyle(document.getElementById('theirs'))[one]))"
    )
    with Browser(tmp_path) as browser:
        browser.media(scheme)
        browser.size(width, 800)
        page.write_text(head, encoding="utf-8")
        browser.open(page)
        before = browser.run(look)
        page.write_text(head + body, encoding="utf-8")
        browser.open(page)
        assert browser.run(look) == before
        assert browser.errors == []
        assert browser.run(WIDER) == []
        theirs = "document.querySelectorAll('body > :not(div)').forEach((one) => one.remove())"
        browser.run(theirs)
        assert browser.run(CONTRAST) == []
        card = browser.run("getComputedStyle(document.querySelector('.tiles div')).backgroundColor")
        assert card == ("rgb(25, 31, 37)" if scheme == "dark" else "rgb(255, 255, 255)")
