"""Routes: which there are from every format, in which order, under which names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgepipe import catalog
from edgepipe.artifact import COMPILED, QUANTIZED, Format
from edgepipe.errors import UnknownName, UnsupportedModel
from edgepipe.plan import Route, pick, routes_between

KERAS = ["tf2onnx+onnx2tf", "tf2onnx+onnx2tf-tf", "tflite-converter"]
TORCH = [
    "dynamo+onnx2tf",
    "torchscript+onnx2tf",
    "dynamo+onnx2tf-tf",
    "torchscript+onnx2tf-tf",
    "litert-torch",
]
TO_TFLITE = {
    Format.KERAS: KERAS,
    Format.KERAS_H5: KERAS,
    Format.SAVED_MODEL: KERAS,
    Format.TORCH_EXPORT: TORCH,
    Format.TORCHSCRIPT: TORCH,
    Format.TORCH_PICKLE: TORCH,
    Format.TORCH_SOURCE: TORCH,
    Format.ONNX: ["onnx2tf", "onnx2tf-tf"],
    Format.TFLITE: ["as-is"],
}
EVERY_ROUTE = [
    pytest.param(route, id=f"{source}-{route.name}")
    for source in TO_TFLITE
    for route in routes_between(source, Format.TFLITE)
]


@pytest.mark.parametrize("source", TO_TFLITE, ids=str)
def test_order_of_routes(source: Format) -> None:
    """Through ONNX first, the default back-end before the slow one, exporters within."""
    assert [route.name for route in routes_between(source, Format.TFLITE)] == TO_TFLITE[source]


@pytest.mark.parametrize("goal", [Format.TFLITE, Format.TFLITE_QUANTIZED], ids=str)
def test_nothing_leads_back_from_integers(goal: Format) -> None:
    assert {*TO_TFLITE, *QUANTIZED, *COMPILED, Format.OPENVINO} == set(Format)
    with pytest.raises(UnsupportedModel, match="is quantized"):
        routes_between(Format.TFLITE_QUANTIZED, goal)


def test_every_float_tflite_can_be_quantized() -> None:
    for source in TO_TFLITE:
        found = routes_between(source, Format.TFLITE_QUANTIZED)
        assert all(route.stages[-1].target is Format.TFLITE_QUANTIZED for route in found)
        assert found[0].stages[-1].name == "tflite_quantize"


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_each_step_takes_what_the_one_before_makes(route: Route) -> None:
    at = route.source
    for stage in route.stages:
        assert at in stage.sources
        at = stage.target
    assert at is Format.TFLITE
    assert route.formats()[0] is route.source
    assert route.formats()[-1] is Format.TFLITE


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_cleaner_stands_wherever_a_route_passes_its_format(route: Route) -> None:
    for place, (format, following) in enumerate(
        zip(route.formats(), (*route.formats()[1:], None), strict=True)
    ):
        cleaned = place and route.formats()[place - 1] is format
        if format is Format.ONNX and not cleaned:
            assert following is Format.ONNX, f"{route.name} leaves ONNX uncleaned"
            assert route.stages[place].name == "onnx_clean"


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_direct_routes_are_those_without_onnx(route: Route) -> None:
    assert route.direct is (Format.ONNX not in route.formats())


@pytest.mark.parametrize("route", EVERY_ROUTE)
def test_toolchains_are_those_of_stages_and_of_proofs(route: Route) -> None:
    wanted = {stage.toolchain for stage in route.stages}
    wanted |= {catalog.runner(format).toolchain for format in route.formats()}
    assert set(route.toolchains()) == wanted
    assert len(route.toolchains()) == len(wanted)


def test_goal_of_onnx_is_cleaned_too() -> None:
    (route,) = routes_between(Format.KERAS, Format.ONNX)
    assert [stage.name for stage in route.stages] == ["onnx_from_keras", "onnx_clean"]
    assert [route.name for route in routes_between(Format.ONNX, Format.ONNX)] == ["as-is"]


def test_openvino_is_reached_through_clean_onnx() -> None:
    route, *others = routes_between(Format.KERAS, Format.OPENVINO)
    assert [stage.name for stage in route.stages][1:] == ["onnx_clean", "openvino_from_onnx"]
    assert all(other.direct for other in others)  # None by ONNX and TFLite both.
    assert [route.name for route in routes_between(Format.TFLITE, Format.OPENVINO)] == ["openvino"]
    named = [route.name for route in routes_between(Format.SAVED_MODEL, Format.OPENVINO)]
    assert named[0] == "tf2onnx+openvino"
    assert "openvino.tf" in named
    (route,) = routes_between(Format.ONNX, Format.OPENVINO_QUANTIZED)
    assert route.name == "openvino+nncf"
    with pytest.raises(UnsupportedModel, match="is quantized"):
        routes_between(Format.OPENVINO_QUANTIZED, Format.OPENVINO)
    with pytest.raises(UnsupportedModel, match="no route leads from openvino to tflite"):
        routes_between(Format.OPENVINO, Format.TFLITE)


def test_goal_behind_the_source_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="no route leads from tflite to onnx") as caught:
        routes_between(Format.TFLITE, Format.ONNX)
    assert "tflite" in caught.value.hint


def test_route_is_picked_by_its_name_and_an_unknown_one_is_told_the_others() -> None:
    found = routes_between(Format.KERAS, Format.TFLITE)
    assert pick(found, "tflite-converter") is found[2]
    with pytest.raises(UnknownName, match="unknown route 'litert-torch'") as caught:
        pick(found, "litert-torch")
    assert caught.value.details["known"] == sorted(KERAS)


def test_laying_out_routes_imports_no_numpy() -> None:
    """A kept run does little else, and is to be fifty times faster than the first."""
    code = """
import sys
import edgepipe.api, edgepipe.cli.convert, edgepipe.pipeline
from edgepipe.artifact import Format
from edgepipe.report import compiled, ethosu, quantized
from edgepipe.validation import after_conversion
from edgepipe.plan import routes_between
routes_between(Format.KERAS_H5, Format.TFLITE_QUANTIZED)
print("numpy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.toolchain("keras", "onnx2tf", "edge")
def test_kept_run_imports_no_numpy(tmp_path: Path, fresh_store: Path) -> None:
    """Its report and its page included."""
    model = Path(__file__).parents[1] / "examples" / "digits_keras" / "digits.h5"
    command = [sys.executable, "-X", "importtime", "-m", "edgepipe", "convert", str(model), "-q"]
    for _ in range(2):
        done = subprocess.run(
            [*command, "-o", str(tmp_path / "out")], capture_output=True, text=True, check=True
        )
    assert "Memory over the operators" in (tmp_path / "out" / "report.html").read_text()
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "edgepipe.pipeline" in imported
    assert "numpy" not in imported


def test_a_chip_is_reached_through_integers_and_nothing_leads_back() -> None:
    found = routes_between(Format.KERAS_H5, Format.ETHOSU)
    assert all(route.formats()[-2:] == (Format.TFLITE_QUANTIZED, Format.ETHOSU) for route in found)
    assert found[0].name == "tf2onnx+onnx2tf+aeq+vela"
    (direct,) = routes_between(Format.TFLITE_QUANTIZED, Format.ETHOSU)
    assert direct.toolchains() == ("vela", "edge")
    with pytest.raises(UnsupportedModel, match="compiled already"):
        routes_between(Format.ETHOSU, Format.TFLITE_QUANTIZED)
