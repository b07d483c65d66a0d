"""`edgepipe convert --target edgetpu`: with a replayed compiler, and as far as it goes without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from edgetpu_compilers import REPLAY, compiler, entry_of, mapping_all
from edgetpu_files import needs_pairs, pair, source
from tflite_models import model_of

import edgepipe
from edgepipe import api
from edgepipe.cli.main import edgepipe as command
from edgepipe.errors import (
    BelowLimit,
    EdgepipeError,
    LimitError,
    NoRouteLeft,
    OptionError,
    ToolMissing,
    UnsupportedModel,
)
from edgepipe.tflite import saving
from edgepipe.tflite.graph import Op, Tensor

pytestmark = [pytest.mark.toolchain("edge"), needs_pairs]
CHANNELS = "model_size_channel32_quant.tflite"
Converts = Callable[..., api.Result]


@pytest.fixture
def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Converts:
    """Of a golden source, by default, with a compiler that replays."""
    monkeypatch.setenv("EDGETPU_COMPILER", str(REPLAY))

    def run(model: str | Path = "", **settings: Any) -> api.Result:
        model = model or pair("source", entry_of(CHANNELS))
        return edgepipe.convert(model, target="edgetpu", out=tmp_path / "out", **settings)

    return run


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No compiler anywhere."""
    monkeypatch.setenv("EDGETPU_COMPILER", "")
    monkeypatch.setenv("PATH", str(tmp_path))


def report_of(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "out" / "report.json").read_text())
    return found


def test_the_folder_gets_both_models_and_the_log(convert: Converts, tmp_path: Path) -> None:
    result = convert()
    assert sorted(result.files) == ["model_edgetpu.tflite", "model_int8.tflite"]
    assert result.model.read_bytes() == pair("compiled", entry_of(CHANNELS)).read_bytes()
    assert (tmp_path / "out" / "model_edgetpu.log").read_text().startswith("# a REPLAY")
    facts = result.report["edgetpu"]
    assert facts["compiled"] and facts["models"][0]["cached_bytes"] == 104640
    assert facts["models"][0]["unmapped"] == {"QUANTIZE": 1}
    assert facts["models"][0]["disagreements"] == []


def test_nothing_claims_a_run_on_a_device_or_the_real_compiler(convert: Converts) -> None:
    result = convert()
    (step,) = result.report["routes"][0]["steps"]
    assert step["proof"]["proven"] is False and "not run on a device" in step["proof"]["not_run"]
    assert result.sqnr_db is None
    facts = result.report["edgetpu"]
    assert facts["compiler"]["replayed"] and "not run on a device" in facts["not_run"]
    assert any("REPLAY" in note for note in step["notes"])
    assert "not the real compiler" in " ".join(facts["notes"])


def test_the_command_says_that_it_was_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETPU_COMPILER", str(REPLAY))
    shown = run_command(tmp_path, str(pair("source", entry_of(CHANNELS))))
    assert shown.exit_code == 0, shown.output
    assert "compiled by a REPLAY of recordings of 16.0.384591198" in shown.output
    assert "9 of 10 ops mapped to the Edge TPU" in shown.output
    assert "proven at" not in shown.output


def run_command(tmp_path: Path, *words: str) -> Result:
    out = str(tmp_path / "out")
    line = ["convert", *words, "--target", "edgetpu", "-o", out]
    return CliRunner().invoke(command, line, catch_exceptions=True)


@pytest.mark.slow
@pytest.mark.toolchain("keras", "onnx2tf")
def test_a_float_model_goes_all_the_way_and_the_int8_model_stands_in(
    convert: Converts, tmp_path: Path
) -> None:
    program = compiler(tmp_path, mapping_all())
    data = Path(__file__).parent.parent / "examples" / "digits_keras"
    result = convert(
        data / "digits.h5", calibration=data / "calibration.npz", samples=data / "held_out.npz",
        compiler=str(program),
    )  # fmt: skip
    assert sorted(result.files) == [
        "model.onnx", "model_edgetpu.tflite", "model_float32.tflite", "model_int8.tflite",
    ]  # fmt: skip
    assert (tmp_path / "out" / "recipe.toml").is_file()
    chosen = next(one for one in result.report["routes"] if one["status"] == "chosen")
    assert chosen["route"].endswith("+edgetpu")
    assert "as a stand-in for the chip" in chosen["end_to_end"]["notes"][-1]
    assert chosen["steps"][-1]["proof"]["proven"] is False
    (quantized,) = [step for step in chosen["steps"] if step["stage"] == "tflite_quantize"]
    assert quantized["proof"]["accuracy"]["quantized"] > 0.98
    assert result.sqnr_db is not None and result.sqnr_db > 40
    facts = result.report["edgetpu"]
    assert facts["compiler"]["replayed"] is False and facts["models"][0]["unmapped"] == {}


@pytest.mark.usefixtures("without")
def test_without_a_compiler_all_made_so_far_is_given_and_the_code_is_3(
    convert: Converts, tmp_path: Path
) -> None:
    with pytest.raises(ToolMissing, match="9 of 10 ops foretold as mapped") as caught:
        convert(compiler=str(tmp_path / "none"))
    assert caught.value.exit_code == 3
    assert "apt-get install edgetpu-compiler" in caught.value.hint
    assert (tmp_path / "out" / "model_int8.tflite").is_file()
    report = report_of(tmp_path)
    assert report["status"] == "incomplete" and report["edgetpu"]["compiled"] is False
    assert report["edgetpu"]["foretold"]["mapped"] == 9
    assert len(report["edgetpu"]["foretold"]["ops"]) == 10


@pytest.mark.usefixtures("without")
def test_no_compile_says_that_this_was_wanted(convert: Converts, tmp_path: Path) -> None:
    result = convert(no_compile=True)
    assert list(result.files) == ["model_int8.tflite"]
    assert result.report["status"] == "done"
    assert result.report["edgetpu"]["why"] == "--no-compile"


def test_a_later_run_without_compiling_takes_the_compiled_file_away(
    convert: Converts, tmp_path: Path
) -> None:
    convert()
    convert(no_compile=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.json", "model_int8.tflite", "report.html", "report.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ({"require_full_mapping": True}, "not all is mapped: 1 QUANTIZE on the CPU"),
        ({"runtime_version": 13}, "needs runtime version 14, and the device has 13"),
    ],
)
def test_what_is_worse_than_a_limit_is_not_given(
    convert: Converts, tmp_path: Path, gate: dict[str, Any], words: str
) -> None:
    with pytest.raises(BelowLimit) as caught:
        convert(**gate)
    assert caught.value.exit_code == 5 and words in caught.value.message
    assert not (tmp_path / "out" / "model_edgetpu.tflite").exists()


def test_limits_that_are_kept_change_nothing(convert: Converts) -> None:
    assert convert(max_streamed_bytes=0, runtime_version=14).report["edgetpu"]["compiled"]


def test_a_limit_on_the_mapping_holds_for_the_one_foretold(
    convert: Converts, tmp_path: Path
) -> None:
    with pytest.raises(LimitError, match="9 of 10 ops foretold"):
        convert(no_compile=True, require_full_mapping=True)
    assert report_of(tmp_path)["status"] == "failed"


def test_a_refusing_compiler_is_the_end_of_the_route_with_its_diagnosis(
    convert: Converts, tmp_path: Path
) -> None:
    program = compiler(tmp_path, "say('Invalid model: m\\nModel not quantized'); sys.exit(1)")
    with pytest.raises(NoRouteLeft, match="not all of it is 8-bit") as caught:
        convert(compiler=str(program))
    assert caught.value.exit_code == 4
    report = report_of(tmp_path)
    (step,) = report["routes"][0]["steps"]
    assert step["error"]["details"]["diagnosis"] == "not-quantized"
    assert [item["path"] for item in report["outputs"]] == ["model_int8.tflite"]
    assert (tmp_path / "out" / "model_int8.tflite").is_file(), "what was made before is given"


def test_a_second_run_asks_the_compiler_only_for_its_version(
    convert: Converts, fresh_store: Path
) -> None:
    assert convert().report["routes"][0]["steps"][0]["status"] == "made"
    assert convert().report["routes"][0]["steps"][0]["status"] == "kept"


def test_bad_input_is_one_early_error(convert: Converts, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match="compiled already"):
        convert(pair("compiled", entry_of(CHANNELS)))
    x, y, z = Tensor("x", (1, 4)), Tensor("y", (1, 4)), Tensor("z", (1, 4))
    floats = tmp_path / "float.tflite"
    saving.save(model_of([Op.make("RELU", [x], [y]), Op.make("TANH", [y], [z])], [x], [z]), floats)
    with pytest.raises(OptionError, match="needs samples that say which values occur"):
        convert(floats)
    half, last = source(), Tensor("f", (1, 4))
    half.main.ops += [
        Op.make("DEQUANTIZE", [half.main.outputs[0]], [last]),
        Op.make("TANH", [last], [z]),
    ]
    half.main.outputs = [z]
    saving.save(half, tmp_path / "half.tflite")
    with pytest.raises(UnsupportedModel, match="quantized by half"):
        convert(tmp_path / "half.tflite")
    with pytest.raises(OptionError, match="excludes --compiler"):
        convert(no_compile=True, compiler="docker:image")
    with pytest.raises(OptionError, match="convert makes one file"):
        convert(options={"edgetpu_compile": {"num_segments": 2}})


def test_flags_of_a_chip_are_refused_for_other_targets() -> None:
    with pytest.raises(OptionError, match="only for targets with a compiler of their own"):
        edgepipe.convert("m.onnx", target="tflite", require_full_mapping=True)


def test_a_file_in_a_checkout_names_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "edgepipe.toml").write_text('[options.edgetpu_compile]\ncompiler = "./mine"\n')
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=r"edgepipe.toml can't set edgetpu_compile\.compiler"):
        edgepipe.convert("m.tflite", target="edgetpu")
    (tmp_path / "edgepipe.toml").write_text('[convert]\ncompiler = "./mine"\n')
    with pytest.raises(EdgepipeError, match="unknown key of"):
        edgepipe.convert("m.tflite", target="edgetpu")
