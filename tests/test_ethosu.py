"""Models compiled for an Ethos-U by the real Vela: figures, limits, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from click.testing import CliRunner
from int8_models import NORMALIZED, SIDE, convolution, net, saved, tensor
from tflite_models import conv, dense, model_of

import edgepipe
from edgepipe import catalog
from edgepipe.artifact import Format
from edgepipe.cli.convert import convert as command
from edgepipe.cli.main import run
from edgepipe.errors import (
    BelowLimit,
    EdgepipeError,
    ModelNotFound,
    NoRouteLeft,
    OptionError,
    UnknownName,
    UnsupportedModel,
)
from edgepipe.identify import identify
from edgepipe.report import ethosu as words
from edgepipe.targets.ethosu import accelerators, compiled, quantized_ops, vela_words
from edgepipe.targets.ethosu.accelerators import AUTO, system_of
from edgepipe.tflite import reader, saving
from edgepipe.tflite.graph import Op, Quantization, Tensor

needs_vela = pytest.mark.toolchain("vela", "edge")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(net(NORMALIZED), tmp_path_factory.mktemp("ethosu") / "net.tflite")


def figures(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = result.report["routes"][0]["steps"][-1]["summary"]["ethosu"]
    return found


@needs_vela
def test_compiles_and_tells_what_it_takes(model: Path, tmp_path: Path) -> None:
    result = edgepipe.convert(model, target="ethos-u55-128", out=tmp_path / "out")
    assert result.model.name == "model_vela.tflite"
    assert identify(result.model) is Format.ETHOSU
    assert (tmp_path / "out" / "model_int8.tflite").read_bytes() == model.read_bytes()
    assert compiled.read(result.model).accelerators == ("ethos-u55-128",)
    found = figures(result)
    assert (found["ops"], found["on_npu"]) == (2, 1)
    assert found["sram_bytes"] >= SIDE * SIDE * 8
    assert found["file_bytes"] == result.model.stat().st_size
    assert found["cycles"] > 0
    assert found["seconds"] == pytest.approx(found["cycles"] / found["clock_hz"], rel=0.01)
    assert found["macs"] >= SIDE * SIDE * 8 * 27
    (layer,) = (one for one in found["layers"] if one["op"] == "Conv2D")
    assert layer["macs"] > 0


@needs_vela
def test_what_stays_on_the_cpu_has_velas_reason_and_a_fix(model: Path, tmp_path: Path) -> None:
    result = edgepipe.convert(model, target="ethos-u55-256", out=tmp_path / "out")
    (left,) = figures(result)["fallbacks"]
    assert (left["op"], left["output"]) == ("L2_NORMALIZATION", "t0")
    assert left["reason"] == "Unsupported opType"
    told = words.summary(result.report)
    assert any("1 of 2 ops on the NPU" in line for line in told)
    assert "on the CPU: 1 L2_NORMALIZATION: Unsupported opType" in told
    assert any(line.startswith("  → no Ethos-U of this family has it") for line in told)


@needs_vela
def test_says_that_it_ran_on_no_npu_and_claims_no_decibels(model: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        command, [str(model), "--target", "ethos-u55-256", "-o", str(tmp_path / "out")]
    )
    assert done.exit_code == 0
    assert "not run on one, the quantized model stands in for it in LiteRT" in done.output
    assert " dB" not in done.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    proof = report["routes"][0]["steps"][0]["proof"]
    assert "the quantized model that it was made of stands in for it" in proof["not_run"]
    assert not proof["proven"]
    assert not proof["failures"]


@needs_vela
def test_defaults_are_explained_in_the_place_of_velas_warning(model: Path, tmp_path: Path) -> None:
    def told(**options: str) -> str:
        result = edgepipe.convert(
            model,
            target="ethos-u55-256",
            out=tmp_path / "out",
            options={"ethosu_from_tflite": options},
        )
        assert "may be invalid" not in json.dumps(result.report)
        return "\n".join(words.summary(result.report))

    assert "assumed: system_config Ethos_U55_High_End_Embedded and memory_mode" in told()
    said = told(system_config="Ethos_U55_Deep_Embedded", memory_mode="Sram_Only")
    assert "assumed" not in said
    assert "at 200 MHz" in said


@needs_vela
@pytest.mark.parametrize("name", ["ethos-u55-32", "ethos-u65-256", "ethos-u85-2048"])
def test_every_family_is_compiled_for(model: Path, tmp_path: Path, name: str) -> None:
    result = edgepipe.convert(model, target=name, out=tmp_path / "out")
    assert compiled.read(result.model).accelerators == (name,)


@needs_vela
@pytest.mark.parametrize(
    ("limit", "told"), [({"max_sram": "100"}, "SRAM"), ({"max_flash": "1K"}, "flash")]
)
def test_memory_that_is_not_there_ends_with_the_figures(
    model: Path, tmp_path: Path, limit: dict[str, Any], told: str
) -> None:
    with pytest.raises(BelowLimit) as caught:
        edgepipe.convert(model, target="ethos-u55-256", out=tmp_path / "out", **limit)
    assert caught.value.exit_code == 5
    size = 100 if "max_sram" in limit else 1024
    assert f"{told}: " in caught.value.message
    assert f"({size:,} bytes) are there" in caught.value.message
    assert not (tmp_path / "out" / "model_vela.tflite").exists()
    assert (tmp_path / "out" / "model_int8.tflite").exists()
    if "max_sram" in limit:
        assert "most at Conv2D conv" in caught.value.message


@pytest.mark.toolchain("keras", "onnx2tf", "edge", "vela")
def test_a_limit_that_one_route_misses_is_not_missed_on_each(tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "examples" / "digits_keras"
    with pytest.raises(BelowLimit) as caught:
        edgepipe.convert(
            data / "digits.h5",
            target="ethos-u55-256",
            calibration=str(data / "calibration.npz"),
            max_flash="1K",
            out=tmp_path / "out",
        )
    assert "(1 tried)" in caught.value.message
    assert (tmp_path / "out" / "model_int8.tflite").exists()


@needs_vela
def test_a_limit_that_can_be_met_is_aimed_at(tmp_path: Path) -> None:
    # Without an aim Vela buffers what it can: a chain of wide layers takes more than it must.
    x = tensor("x", (1, 32, 32, 16))
    ops = [convolution(x, "a", 32)]
    for name in "bcd":
        ops.append(convolution(ops[-1].outputs[0], name, 32))
    path = saved(model_of(ops, [x], ops[-1].outputs), tmp_path / "wide.tflite")
    free = figures(edgepipe.convert(path, target="ethos-u55-256", out=tmp_path / "a"))
    limit = free["sram_bytes"] - 1
    tight = edgepipe.convert(path, target="ethos-u55-256", max_sram=str(limit), out=tmp_path / "b")
    assert figures(tight)["sram_bytes"] <= limit


@pytest.mark.toolchain("keras", "onnx2tf", "edge", "vela")
def test_goes_all_the_way_from_keras(tmp_path: Path) -> None:
    data = Path(__file__).parents[1] / "examples" / "digits_keras"
    result = edgepipe.convert(
        data / "digits.h5",
        target="ethos-u55-256",
        calibration=str(data / "calibration.npz"),
        samples=str(data / "samples.npz"),
        out=tmp_path / "out",
    )
    assert result.report["request"]["precision"] == "int8"
    assert result.sqnr_db is not None
    assert 30 < result.sqnr_db < 100
    assert figures(result)["on_npu"] == figures(result)["ops"]
    tried = [one for one in result.report["routes"] if one["steps"]]
    assert len(tried) == 1, "the NPU's operator is none that a converter inserted"
    assert set(result.files) >= {"model_float32.tflite", "model_int8.tflite", "model_vela.tflite"}


# What is refused


def float_inside(path: Path) -> Path:
    """Weights of eight bits, and floats between all operators."""
    made = dense()
    graph = made.graphs[0]
    weights = graph.ops[0].inputs[1]
    assert weights is not None
    weights.dtype = "int8"
    weights.quantization = Quantization((0.1, 0.2), (0, 0))
    weights.set(np.ones((2, 4), np.int8))
    del graph.ops[1]
    graph.outputs = list(graph.ops[0].outputs)
    made.signatures[0].outputs = [("y", graph.outputs[0])]
    return saved(made, path)


def test_an_int8_file_that_is_float_inside_is_one_error(tmp_path: Path) -> None:
    path = float_inside(tmp_path / "dynamic.tflite")
    assert identify(path) is Format.TFLITE_QUANTIZED
    with pytest.raises((UnsupportedModel, NoRouteLeft), match="is float inside"):
        edgepipe.convert(path, target="ethos-u55-256", out=tmp_path / "out")


@needs_vela
def test_what_is_compiled_already_is_refused(model: Path, tmp_path: Path) -> None:
    result = edgepipe.convert(model, target="ethos-u55-256", out=tmp_path / "out")
    with pytest.raises(UnsupportedModel, match="compiled already"):
        edgepipe.convert(result.model, target="ethos-u65-512", out=tmp_path / "again")


@needs_vela
def test_a_model_that_the_npu_has_nothing_of_is_told_why(tmp_path: Path) -> None:
    x, y = tensor("x", (1, 8)), tensor("y", (1, 8))
    path = saved(model_of([Op.make("L2_NORMALIZATION", [x], [y])], [x], [y]), tmp_path / "n.tflite")
    with pytest.raises(NoRouteLeft, match=r"none of the 1 operators on the NPU: L2_NORM.*opType"):
        edgepipe.convert(path, target="ethos-u55-256", out=tmp_path / "out")


def test_a_typo_in_the_accelerator_offers_the_nearest(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", str(model), "--target", "ethos-u55-265"]) == 2
    assert "did you mean ethos-u55-256" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"options": {"ethosu_from_tflite": {"accelerator": "ethos-u85-128"}}}, "contradict"),
        ({"max_sram": "much"}, "--max-sram takes a size, received 'much'"),
        ({"max_streamed_bytes": 0}, "--max-streamed-bytes: not for the target ethos-u55-256"),
        ({"target": "edgetpu", "max_sram": "1M"}, "--max-sram: not for the target edgetpu"),
        ({"precision": "float32"}, "unknown precision for target ethos-u55-256"),
        (
            {"target": "tflite", "precision": "dynamic", "max_flash": "1M"},
            "targets with a compiler of their own",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_at_once(
    model: Path, tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgepipeError, match=message):
        edgepipe.convert(model, **{"target": "ethos-u55-256", "out": tmp_path / "out", **said})
    assert not (tmp_path / "out").exists()


def test_a_float_model_needs_samples(tmp_path: Path) -> None:
    path = tmp_path / "float.tflite"
    x, y = Tensor("x", (1, 4)), Tensor("y", (1, 4))
    saving.save(model_of([Op.make("RELU", [x], [y])], [x], [y]), path)
    with pytest.raises(OptionError, match="--precision int8 needs samples"):
        edgepipe.convert(path, target="ethos-u55-256", out=tmp_path / "out")


# The systems around the chip


def test_the_stage_knows_the_accelerators_of_the_catalog() -> None:
    options = catalog.stage("ethosu_from_tflite").options
    assert get_args(get_type_hints(options)["accelerator"]) == accelerators.ACCELERATORS
    assert set(accelerators.ACCELERATORS) < set(catalog.TARGETS)


@pytest.mark.parametrize(
    ("chip", "system", "mode"),
    [
        ("ethos-u55-256", "Ethos_U55_High_End_Embedded", "Shared_Sram"),
        ("ethos-u65-512", "Ethos_U65_Client_Server", "Dedicated_Sram_384KB"),
        ("ethos-u85-128", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
    ],
)
def test_what_is_left_out_is_velas_own_default(chip: str, system: str, mode: str) -> None:
    found = system_of(chip, "", AUTO, AUTO)
    assert (found.system, found.mode) == (system, mode)
    assert found.assumed == ("system_config", "memory_mode")


def test_a_board_without_dram_gets_a_memory_mode_that_it_can_hold() -> None:
    assert system_of("ethos-u85-256", "", "Ethos_U85_SYS_Flash_Low", AUTO).mode == "Shared_Sram"


@pytest.mark.parametrize(
    ("system", "mode", "error", "message"),
    [
        ("Ethos_U65_Mid_End", AUTO, OptionError, "isn't one for ethos-u55-256"),
        ("Ethos_U55_High_End", AUTO, UnknownName, "unknown system configuration"),
        (AUTO, "Shared_Ram", UnknownName, "unknown memory mode"),
    ],
)
def test_a_system_of_another_chip_is_refused(
    system: str, mode: str, error: type[EdgepipeError], message: str
) -> None:
    with pytest.raises(error, match=message):
        system_of("ethos-u55-256", "", system, mode)


OWN = """
[System_Config.Board]
core_clock=100e6
axi0_port=Sram
axi1_port=OffChipFlash
Sram_clock_scale=1.0
OffChipFlash_clock_scale=0.125
[Memory_Mode.Here]
const_mem_area=Axi1
arena_mem_area=Axi0
cache_mem_area=Axi0
"""


@needs_vela
def test_a_configuration_file_of_ones_own_counts_by_what_it_says(
    model: Path, tmp_path: Path
) -> None:
    own = tmp_path / "board.ini"

    def seconds(text: str) -> float:
        own.write_text(text)
        result = edgepipe.convert(
            model,
            target="ethos-u55-256",
            out=tmp_path / "out",
            options={"ethosu_from_tflite": {"config": str(own)}},
        )
        assert figures(result)["system"] == "Board"
        return float(figures(result)["seconds"])

    assert seconds(OWN) > 1.5 * seconds(OWN.replace("100e6", "200e6"))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (None, ModelNotFound, "there is no Vela configuration file"),
        ("core_clock=1", OptionError, "is no Vela configuration file"),
        ("[Memory_Mode.Here]\n", OptionError, "describes no system configuration"),
        (OWN + "[Memory_Mode.There]\n", OptionError, "describes 2 of a memory mode: Here, There"),
    ],
)
def test_a_configuration_file_that_does_not_do_is_refused(
    tmp_path: Path, text: str | None, error: type[EdgepipeError], message: str
) -> None:
    path = tmp_path / "own.ini"
    if text is not None:
        path.write_text(text)
    with pytest.raises(error, match=message):
        system_of("ethos-u55-256", str(path), AUTO, AUTO)


# What Vela prints


def test_reasons_are_read_off_what_vela_prints() -> None:
    told = [
        "Warning (supported operators) operator: MEAN, ofm: 'a:b'",
        "Reason: Unsupported depth-reduction.  IFM: 1, 7, 7, 768",
        "Reduction over depth is only supported if any of h,w,c == 1",
        "",
        "Warning (supported operators) operator: CUSTOM, ofm: 'output'",
        "Reason: Unsupported opType",
        "Warning: SRAM target for arena memory area exceeded.",
    ]
    mean, custom = vela_words.fallbacks(told)
    assert (mean.op, mean.output) == ("MEAN", "a:b")
    assert mean.constraint == "Reduction over depth is only supported if any of h,w,c == 1"
    assert custom.reason == "Unsupported opType"
    assert vela_words.warnings(told) == ["SRAM target for arena memory area exceeded."]


def test_the_last_words_of_a_traceback_are_one_sentence() -> None:
    told = [
        "Traceback (most recent call last):",
        '  File "vela.py", line 1, in main',
        "ethosu.vela.errors.ConfigOptionError: 'Error: Invalid configuration of x=1'",
    ]
    assert vela_words.last_error(told) == "Invalid configuration of x=1"


def test_an_int8_convolution_computes_in_integers() -> None:
    found = reader.read_bytes(saving.to_bytes(conv()))
    assert quantized_ops.float_ops(found) == []
