"""Pages of real runs: a conversion that is validated and diagnosed, one that fails, two targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser, find
from test_html import Outline

import edgepipe
from edgepipe import manifest
from edgepipe.errors import BelowLimit

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "examples" / "digits_keras"
HELD_OUT = DIGITS / "held_out.npz"
pytestmark = [pytest.mark.toolchain("keras", "onnx2tf", "edge"), pytest.mark.slow]


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return edgepipe.convert(
        DIGITS / "digits.h5", precision="int8", calibration=DIGITS / "calibration.npz",
        samples=HELD_OUT, out=tmp_path_factory.mktemp("run") / "out",
    )  # fmt: skip


def text_of(folder: Path) -> str:
    return Outline((folder / "report.html").read_text(encoding="utf-8")).text


def test_conversion_is_told_with_its_path_files_and_memory(converted: Any) -> None:
    said = text_of(converted.folder)
    for words in ("Converted and proven", "tflite_quantize", "model_int8.tflite", "image",
                  "at the worst", "edgepipe diagnose model_float32.tflite --int8"):  # fmt: skip
        assert words in said
    for file in converted.report["outputs"]:
        assert file["sha256"] in said
    assert "report.html" in manifest.read(converted.folder)


def test_validation_and_diagnosis_come_into_the_same_page(converted: Any, tmp_path: Path) -> None:
    folder = converted.folder
    edgepipe.validate(folder, data=HELD_OUT, gates={"max-drop": "5", "min-agreement": "90"})
    said = text_of(folder)
    for words in ("All 2 limits kept.", "top1 of digit", "Worst samples", "Most often taken for",
                  "tflite_quantize"):  # fmt: skip
        assert words in said
    edgepipe.diagnose(
        folder / "model_float32.tflite", int8=folder / "model_int8.tflite", samples=HELD_OUT,
        out=folder,
    )  # fmt: skip
    assert "Each layer's integer kernel ran" in text_of(folder)
    assert "top1 of digit" in text_of(folder)
    assert manifest.verify(folder).whole
    if find() is not None:
        with Browser(tmp_path) as browser:
            browser.size(320, 800, mobile=True)
            browser.open(folder / "report.html")
            assert browser.errors == []
            assert browser.run("document.documentElement.scrollWidth") <= 320
            loaded = "[...document.images].map((one) => one.naturalWidth > 0)"
            shown = browser.run(loaded)
            assert len(shown) >= 4 and all(shown)


def test_a_failed_conversion_leaves_its_story(tmp_path: Path) -> None:
    with pytest.raises(BelowLimit):
        edgepipe.convert(
            DIGITS / "digits.h5", precision="int8", calibration=DIGITS / "calibration.npz",
            min_sqnr=150, repair="off", route="tf2onnx+onnx2tf+aeq", out=tmp_path,
        )  # fmt: skip
    said = text_of(tmp_path)
    for words in ("Below the limits", "edgepipe diagnose", "made, and not what the model was"):
        assert words in said


def test_several_targets_have_a_page_that_leads_to_theirs(tmp_path: Path) -> None:
    edgepipe.convert_targets(DIGITS / "digits.h5", ["tflite", "onnx"], out=tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    links = [str(one["href"]) for one in Outline(page).all("a")]
    for target in ("tflite", "onnx"):
        assert f"./{target}/report.html" in links
        assert (tmp_path / target / "report.html").is_file()
        told = json.loads((tmp_path / target / "report.json").read_text())
        assert told["outputs"][-1]["sha256"] in text_of(tmp_path / target)
