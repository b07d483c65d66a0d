"""The report's page as text: what it says of each kind of run, and its structure."""

from __future__ import annotations

import json
import random
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from evidence_documents import hostile, validation
from tflite_models import dense

from edgepipe.artifact import digest_file
from edgepipe.cli.main import edgepipe as command
from edgepipe.errors import InputError, PathError
from edgepipe.report import activations
from edgepipe.report.html import distributions, page, plots, scales, wording
from edgepipe.report.html.markup import el, text
from edgepipe.tflite import saving
from edgepipe.validation.evidence import Verdict


def rendered(document: dict[str, Any], folder: Path | None = None) -> str:
    return page.render(json.loads(json.dumps(document)), folder)


class Outline(HTMLParser):
    """Elements with their attributes, and whether each that is opened is closed in its place."""

    VOID = ("meta", "br", "img", "hr", "col", "input")

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(content)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


def test_page_is_well_formed_and_says_its_language() -> None:
    outline = Outline(rendered(validation().to_json()))
    assert outline.all("html") == [{"lang": "en"}]
    levels = [int(tag[1]) for tag, _ in outline.found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(one["scope"] in ("col", "row") for one in outline.all("th"))
    assert all(one["alt"] for one in outline.all("img"))
    ids = [one["id"] for _, one in outline.found if one.get("id")]
    assert len(ids) == len(set(ids))
    targets = {str(one["href"])[1:] for one in outline.all("a")}
    assert targets <= set(ids)


def test_every_plot_has_a_title_and_a_description() -> None:
    made = rendered(validation().to_json())
    found = re.findall(r'<svg viewBox[^>]*role="img".*?</svg>', made)
    drawn = [one for one in re.findall(r"<svg.*?</svg>", made) if "aria-hidden" not in one[:200]]
    assert len(drawn) >= 6
    for one in drawn:
        assert re.match(r'<svg [^>]*role="img"[^>]*><title>[^<]+</title><desc>[^<]+</desc>', one)
    assert found


def test_nothing_is_loaded_and_no_handler_is_inline() -> None:
    outline = Outline(rendered(validation().to_json()))
    for _, attributes in outline.found:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,"))
    (policy,) = [one["content"] for one in outline.all("meta") if one.get("http-equiv")]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (Verdict.PASSED, "Passed"),
        (Verdict.FAILED, "1 of 2 limits broken."),
        (Verdict.UNDECIDED, "about 840 more samples would tell"),
    ],
)
def test_verdict_comes_first_with_each_gate_in_a_sentence(verdict: Verdict, words: str) -> None:
    document = validation(verdict)
    outline = Outline(rendered(document.to_json()))
    said = outline.text
    assert words in said
    assert said.index(words) < said.index("Latency and energy")
    for gate in document.gates:
        assert gate.words.removeprefix(f"{gate.name}: ") in said


def test_a_failed_conversion_tells_the_story_of_every_route() -> None:
    error = {"error": "NoRouteLeft", "message": "every route failed (1 tried):\n  a: broke",
             "hint": "look", "details": {}}  # fmt: skip
    step = {"stage": "onnx_clean", "toolchain": "edge", "status": "failed", "seconds": 1.5,
            "proof": None, "log": "clean.log",
            "error": {"message": "it crashed", "hint": "more memory",
                      "details": {"tail": ["<oom>"]}}}  # fmt: skip
    routes = [
        {"route": "a", "status": "failed", "reason": "broke", "seconds": 1.6, "steps": [step]},
        {"route": "b", "status": "not-tried", "reason": "no torch here", "steps": []},
    ]
    document = {"status": "failed", "error": error, "routes": routes, "outputs": []}
    said = Outline(rendered(document)).text
    for words in ("Not converted", "every route failed", "look", "it crashed", "more memory",
                  "<oom>", "no torch here", "clean.log"):  # fmt: skip
        assert words in said


def test_commands_of_conversion_and_validation_are_both_there(tmp_path: Path) -> None:
    found = {**validation().to_json(), "command": ["/x/edgepipe", "validate", "out dir"]}
    document = {"routes": [], "outputs": [], "validation": found,
                "command": ["/x/edgepipe", "convert", "net.h5"]}  # fmt: skip
    said = Outline(rendered(document)).text
    assert "edgepipe convert net.h5" in said and "edgepipe validate 'out dir'" in said
    alike = {**document, "command": found["command"]}
    assert Outline(rendered(alike)).text.count("edgepipe validate 'out dir'") == 1


def test_limits_stand_at_the_metric_that_they_are_for() -> None:
    document = validation().to_json()
    gate = {"name": "min-agreement", "limit": "99", "seen": "99.7 %", "verdict": "passed",
            "words": "min-agreement: agreement is 99.7 %, at least 99 % is asked for"}  # fmt: skip
    document["gates"] = [*document["gates"], gate]
    drawn = re.findall(r"<svg.*?</svg>", rendered(document))
    limits = {re.sub(r".*<title>(.*?)</title>.*", r"\1", one): "limit" in one for one in drawn}
    assert limits["top1 of digit, difference"] and limits["agreement of digit, both sides"]
    assert not limits["top1 of digit, both sides"]


def test_words_of_others_are_escaped_everywhere() -> None:
    word = "<script>boom()</script>"
    made = rendered(hostile(word).to_json())
    assert word not in made
    assert text(word) in made


def test_a_picture_that_is_no_png_is_left_out() -> None:
    document = validation().to_json()
    for sample, address in zip(
        document["worst"], ("https://there/a.png", "data:image/svg+xml,<svg/>", "x"), strict=False
    ):
        sample["picture"] = address
    assert len(Outline(rendered(document)).all("img")) == len(document["worst"]) - 3


def test_parts_that_were_not_measured_say_why() -> None:
    document = validation().to_json()
    document |= {"latency": None, "placement": None, "memory": None,
                 "absent": {"latency": "asked not to", "placement": "no device",
                            "memory": "no /proc"}}  # fmt: skip
    said = Outline(rendered(document)).text
    assert "asked not to" in said and "no device" in said and "no /proc" in said


def test_markup_escapes_all_but_itself() -> None:
    assert el("p", "<", el("b", '"'), 1, None, title='"<') == (
        '<p title="&quot;&lt;">&lt;<b>&quot;</b>1</p>'
    )
    assert el("p", "\x00\ud800") == "<p>\ufffd\ufffd</p>"


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.00061, "0.000610"), (1234567.0, "1,234,567"), (-0.5, f"{wording.MINUS}0.500"),
     (None, wording.NOTHING),
     (float("nan"), "not a number"), (99.44, "99.4")],
)  # fmt: skip
def test_figures_read_well(value: float | None, words: str) -> None:
    assert wording.number(value) == words


def test_readings_with_parts_are_said_without_brackets() -> None:
    found = {"mhz": {"min": 800, "max": 2596.5}, "absent": ["boost", "governor"]}
    assert wording.plainly(found) == "mhz min 800, max 2,596, absent boost, governor"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (97.9, 99.9), (-2.7, 0.0), (1e-6, 3e-6)])
def test_marks_of_a_scale_are_few_round_and_within_it(low: float, high: float) -> None:
    found = scales.ticks(low, high)
    assert 2 <= len(found) <= 6
    slack = (high - low) * 1e-6
    assert all(low - slack <= one <= high + slack for one in found)
    assert len({round(b - a, 12) for a, b in pairwise(found)}) == 1


def test_plots_stand_what_is_degenerate() -> None:
    same = {"value": 1.0, "low": 1.0, "high": 1.0}
    assert "NaN" not in plots.intervals("t", [plots.Line("a", same, "1")])
    alike = [plots.Series("a", [2.0] * 5, "mine")]
    assert "nan" not in distributions.histogram("t", alike) + distributions.ecdf("t", alike)
    assert plots.memory("t", [plots.Series("a", [0] * 40, "mine")], 4000, wording.size, "d")


def test_sides_far_apart_are_shown_by_powers_of_ten() -> None:
    fast = plots.Series("fast", [2e-6, 2.1e-6, 2.2e-6] * 20, "mine")
    slow = plots.Series("slow", [3e-4, 3.1e-4, 4e-4] * 20, "float")
    made = distributions.histogram("t", [fast, slow], wording.seconds)
    places = [float(x) for x in re.findall(r'<line x1="([\d.]+)" y1="(?:4|19)"', made)]
    assert places[1] - places[0] > plots.WIDTH / 2, "both medians are seen"
    found = scales.Scale.over(2e-6, 4e-4, 0, 100)
    assert found.logarithmic and found.ticks() == pytest.approx([3e-6, 1e-5, 3e-5, 1e-4, 3e-4])
    assert not scales.Scale.over(2.0, 4.0, 0, 100).logarithmic


def test_page_shows_a_diagnosis_and_a_validation_of_the_same_files_alone(tmp_path: Path) -> None:
    mine, other = "ab" * 32, "cd" * 32
    layer = {"layer": "conv_7", "op": "CONV_2D", "index": 0, "own_sqnr_db": 31.0, "share": 1.0}
    diagnosis = {"digests": ["ef" * 32, mine], "samples": 8, "layers": [layer], "causes": []}
    (tmp_path / "diagnosis.json").write_text(json.dumps(diagnosis))
    (tmp_path / "validation.json").write_text(json.dumps(validation().to_json()))
    ends: dict[str, list[Any]] = {"inputs": [], "outputs": []}
    for digest, shown in ((mine, True), (other, False)):
        model = {"path": "m.tflite", "format": "tflite-quantized", "sha256": digest, "size": 9,
                 "signature": ends}  # fmt: skip
        said = Outline(rendered({"routes": [], "outputs": [model]}, tmp_path)).text
        assert ("conv_7" in said) is shown
        assert ("max-drop" in said) is shown


def spots(found: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document, of long lists the first ones."""
    inside = list(found.items()) if isinstance(found, dict) else []
    inside += list(enumerate(found[:3])) if isinstance(found, list) else []
    return [here, *(spot for key, one in inside for spot in spots(one, (*here, key)))]


def test_a_damaged_report_is_refused_or_shown_and_never_a_crash(tmp_path: Path) -> None:
    document = json.loads(json.dumps(validation().to_json()))
    for side in ("candidate", "baseline"):
        document["latency"][side]["times"] = document["latency"][side]["times"][:40]
    whole = json.dumps({"routes": [], "outputs": [], "validation": document})
    chance = random.Random(0)
    wrong: list[Any] = [
        None,
        "x",
        -1,
        0,
        1e308,
        float("nan"),
        float("inf"),
        [],
        {},
        [None],
        "<b>",
        10**400,
    ]
    every = [spot for spot in spots(json.loads(whole)) if spot]
    refused = 0
    for spot in every:
        damaged = json.loads(whole)
        inner = damaged
        for key in spot[:-1]:
            inner = inner[key]
        inner[spot[-1]] = chance.choice(wrong)
        try:
            made = page.of_file(damaged, tmp_path / "report.json")
        except InputError:
            refused += 1
        else:
            assert '"nan"' not in made and '"inf"' not in made
    assert 0 < refused < len(every)


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(command, list(map(str, words)))


def test_report_makes_the_page_again(tmp_path: Path) -> None:
    source = tmp_path / "validation.json"
    source.write_text(json.dumps(validation().to_json()))
    done = run("report", source, "-o", tmp_path / "page.html")
    assert done.exit_code == 0, done.output
    assert "Passed" in (tmp_path / "page.html").read_text()
    assert str(tmp_path / "page.html") in done.output


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (None, PathError, "can't be read"),
        ("{", InputError, "no JSON"),
        ("[]", InputError, "a JSON object was expected"),
        ("{}", InputError, "no report"),
        ('{"routes": [{}]}', InputError, "KeyError: 'status'"),
        ('{"candidate": 5}', InputError, "no report"),
    ],
)
def test_report_says_what_is_wrong_with_a_file(
    tmp_path: Path, content: str | None, kind: type[Exception], words: str
) -> None:
    source = tmp_path / "report.json"
    if content is not None:
        source.write_text(content)
    done = run("report", source)
    assert isinstance(done.exception, kind)
    assert words in str(done.exception)
    assert not (tmp_path / "report.html").exists()


def test_curve_over_the_operators_needs_no_model_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    saving.save(dense(), path)
    found = {"path": path.name, **activations.of_file(path)}
    assert len(found["live"]) == found["ops"] and max(found["live"]) == found["peak"] > 0
    model = {"path": path.name, "format": "tflite", "sha256": "ab", "size": 9,
             "signature": {"inputs": [], "outputs": []}}  # fmt: skip
    run_of_it = {"routes": [], "outputs": [model]}
    kept = Outline(rendered({**run_of_it, "activations": [found]})).text
    assert found["at"] in kept and "at the worst" in kept
    assert "at the worst" not in Outline(rendered(run_of_it, tmp_path)).text, "another file by now"
    model["sha256"] = digest_file(path)
    assert found["at"] in Outline(rendered(run_of_it, tmp_path)).text


def test_of_many_operators_the_largest_of_neighbours_is_kept() -> None:
    values = [at % 7 for at in range(4000)]
    values[1234] = 99
    found = activations.neighbours(values)
    assert len(found) == activations.MOST and max(found) == 99
    assert activations.neighbours([3, 1, 2]) == [3, 1, 2] and activations.neighbours([]) == []
