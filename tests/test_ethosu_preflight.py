"""Where an Ethos-U runs each operator, what a compiled file holds, and what is rewritten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from int8_models import NORMALIZED, SIDE, Behind, mean_over_depth, net, saved, tensor
from tflite_models import model_of

import edgepipe
from edgepipe.cli.inspect import inspect as inspect_command
from edgepipe.cli.main import run
from edgepipe.cli.preflight import preflight as preflight_command
from edgepipe.errors import (
    EdgepipeError,
    LimitError,
    StageFailed,
    UnknownFormat,
    UnsupportedModel,
)
from edgepipe.session import Session
from edgepipe.targets.ethosu import compiled, fixes, legalising
from edgepipe.targets.ethosu.preflight import Preflight, Verdict
from edgepipe.targets.ethosu.vela_words import Fallback
from edgepipe.tflite import loading, reader, saving
from edgepipe.tflite.graph import Op, Tensor

COUNT = int(os.environ.get("FUZZ", "300"))
needs_vela = pytest.mark.toolchain("vela", "edge")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ethosu")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return saved(net(NORMALIZED), folder / "net.tflite")


@pytest.fixture(scope="module")
def vela_file(model: Path, folder: Path) -> Path:
    return edgepipe.convert(model, target="ethos-u65-256", out=folder / "vela").model


def asked(path: Path, target: str = "ethos-u55-256", **options: Any) -> Preflight:
    found = edgepipe.preflight(path, target=target, options={"ethosu_from_tflite": options})
    assert isinstance(found, Preflight)
    return found


# Preflight


@needs_vela
def test_each_op_has_its_place_and_velas_words(model: Path) -> None:
    found = asked(model)
    conv, norm = found.verdicts
    assert conv == Verdict(0, "CONV_2D", "conv", "NPU")
    assert (norm.place, norm.reason) == ("CPU", "Unsupported opType")
    assert "rebuild it" in norm.fix
    assert (found.mapped, found.full, found.float_ops) == (1, False, 0)
    with pytest.raises(LimitError, match="1 of 2 ops would run on the CPU"):
        found.check()


@needs_vela
def test_a_model_of_which_the_npu_runs_nothing_is_foretold_too(tmp_path: Path) -> None:
    x, y = tensor("x", (1, 8)), tensor("y", (1, 8), 1 / 128)
    path = saved(model_of([Op.make("L2_NORMALIZATION", [x], [y])], [x], [y]), tmp_path / "n.tflite")
    found = asked(path)
    assert found.mapped == 0
    assert found.figures.inferences_per_second == 0


@needs_vela
def test_a_float_layer_of_a_repair_is_named_as_such(tmp_path: Path) -> None:
    made = net()
    (last,) = made.graphs[0].outputs
    real, out = Tensor("real", last.shape), Tensor("out", last.shape)
    made.graphs[0].ops += [
        Op.make("DEQUANTIZE", [last], [real]),
        Op.make("TANH", [real], [out]),
    ]
    made.graphs[0].outputs = [out]
    made.signatures[0].outputs = [("out", out)]
    path = saved(made, tmp_path / "mixed.tflite")
    found = asked(path)
    assert [one.place for one in found.verdicts] == ["NPU", "CPU", "CPU"]
    assert found.float_ops == 1
    assert "Float32" in found.verdicts[2].reason
    assert "--io int8" in found.verdicts[1].fix
    shown = CliRunner().invoke(preflight_command, [str(path), "--target", "ethos-u55-256"])
    assert "1 op(s) compute in float, as a repair may have left them" in shown.output


@needs_vela
def test_the_command_shows_places_reasons_and_what_helps(model: Path) -> None:
    done = CliRunner().invoke(preflight_command, [str(model), "--target", "ethos-u55-64"])
    assert done.exit_code == 0
    assert "1 of 2 ops on the NPU of ethos-u55-64, by Vela 5.2" in done.output
    assert "on the CPU: 1 L2_NORMALIZATION: Unsupported opType" in done.output
    assert "estimated by Vela, not measured" in done.output
    as_json = CliRunner().invoke(
        preflight_command, [str(model), "--target", "ethos-u55-64", "--json"]
    )
    told = json.loads(as_json.output)
    assert (told["mapped"], told["cpu"]) == (1, 1)
    assert told["ops"][1]["fix"]
    assert run(["preflight", str(model), "--target", "ethos-u55-64", "--require-full-mapping"]) == 5


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"target": "ethos-u55-265"}, "unknown target of preflight"),
        ({"target": "ethos-u55-256", "multiple": True}, "-a is for the Edge TPU"),
        ({"options": {"ethosu_from_tflite": {"optimise": "Size"}}}, "-O is for the Ethos-U"),
    ],
)
def test_what_a_chip_does_not_have_is_refused(
    model: Path, said: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgepipeError, match=message):
        edgepipe.preflight(model, **said)


def test_a_float_model_is_refused_before_vela(tmp_path: Path) -> None:
    x, y = Tensor("x", (1, 4)), Tensor("y", (1, 4))
    path = saved(model_of([Op.make("RELU", [x], [y])], [x], [y]), tmp_path / "f.tflite")
    with pytest.raises(UnsupportedModel, match="none of its 1 operators works on int8"):
        edgepipe.preflight(path, target="ethos-u55-256")


def test_the_first_fitting_fix_counts_and_there_is_always_one() -> None:
    mean = Fallback("MEAN", "m", "Unsupported depth-reduction.", "Reduction over depth is only")
    assert "one dimension" in fixes.fix_for(mean)
    assert fixes.fix_for(Fallback("X", "x", "something new", "")) == fixes.OTHERWISE


@needs_vela
@pytest.mark.parametrize(("content", "told"), [(b"no model", "can't compile"), (None, "died of")])
def test_what_vela_chokes_on_is_one_sentence(
    session: Session, model: Path, tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "bad.tflite"
    whole = model.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(StageFailed) as caught:
        session.call(
            "vela",
            "edgepipe.converters.ethosu_from_tflite:foretell",
            session.log("choke"),
            path=str(path),
            options={"legalise": False},
            workdir=str(tmp_path),
        )
    assert told in caught.value.message
    assert "Traceback" not in caught.value.message
    assert "\n" not in caught.value.message


# What a compiled file holds


@needs_vela
def test_inspect_shows_commands_weights_and_arena(model: Path, vela_file: Path) -> None:
    done = CliRunner().invoke(inspect_command, [str(vela_file), "--source", str(model)])
    assert done.exit_code == 0, done.output
    for words in (
        "compiled by Vela for ethos-u65-256: 1 call(s) of the NPU",
        "command stream: ",
        "weights and tables: ",
        "arena: ",
        "on the NPU: 1 CONV_2D",
        "on the CPU: 1 L2_NORMALIZATION",
    ):
        assert words in done.output
    told = json.loads(CliRunner().invoke(inspect_command, [str(vela_file), "--json"]).output)
    (op,) = told["ethosu"]["npu_ops"]
    assert 0 < op["stream_bytes"] < vela_file.stat().st_size
    assert op["constant_bytes"] >= 8 * 27
    assert op["scratch_bytes"] >= SIDE * SIDE * 8


@needs_vela
def test_gates_of_inspect_hold_for_vela_too(vela_file: Path) -> None:
    assert run(["inspect", str(vela_file), "--require-full-mapping"]) == 5
    assert run(["inspect", str(vela_file), "--max-streamed-bytes", "0"]) == 2


@needs_vela
def test_another_source_is_refused(vela_file: Path, tmp_path: Path) -> None:
    other = saved(net(), tmp_path / "other.tflite")
    assert run(["inspect", str(vela_file), "--source", str(other)]) == 2


@needs_vela
@pytest.mark.parametrize("cut", ["magic", "length"])
def test_a_damaged_command_stream_is_told(vela_file: Path, tmp_path: Path, cut: str) -> None:
    damaged = loading.load(vela_file)
    (op,) = (one for one in damaged.main.ops if one.custom == compiled.CODE)
    stream = op.inputs[0]
    assert stream is not None
    words = stream.array().copy()
    if cut == "magic":
        words[:4] = 0
    else:
        words = words[: len(words) // 2]
        stream.shape = (len(words),)
    stream.set(words)
    with pytest.raises(UnknownFormat, match="is damaged"):
        compiled.read(saved(damaged, tmp_path / "cut.tflite"))


@needs_vela
def test_damaged_files_end_in_an_error_and_nothing_else(vela_file: Path) -> None:
    whole, random = vela_file.read_bytes(), np.random.default_rng(7)
    read = 0
    for _ in range(COUNT):
        damaged = bytearray(whole)
        for _ in range(int(random.integers(1, 6))):
            damaged[int(random.integers(0, len(whole)))] = int(random.integers(0, 256))
        if random.random() < 0.1:
            damaged = damaged[: int(random.integers(0, len(whole)))]
        try:
            compiled.of_model(reader.read_bytes(bytes(damaged))).to_json()
        except (UnknownFormat, UnsupportedModel):
            continue
        read += 1
    assert read < COUNT


def test_what_vela_did_not_write_is_refused(model: Path) -> None:
    with pytest.raises(UnsupportedModel, match="Vela did not compile it"):
        compiled.read(model)


@needs_vela
def test_a_custom_operator_of_the_firmware_is_left_to_it(tmp_path: Path) -> None:
    made = net()
    (last,) = made.graphs[0].outputs
    out = tensor("out", last.shape)
    made.graphs[0].ops.append(Op("CUSTOM", [last], [out], custom="MyDecoder"))
    made.graphs[0].outputs = [out]
    made.signatures[0].outputs = [("out", out)]
    path = saved(made, tmp_path / "custom.tflite")
    assert "firmware brings code" in asked(path).verdicts[1].fix
    result = edgepipe.convert(path, target="ethos-u55-256", out=tmp_path / "out")
    proof = result.report["routes"][0]["steps"][0]["proof"]
    assert "nor in LiteRT in its place, which has no MyDecoder" in proof["not_run"]
    assert reader.read(result.model).ops() == {"CUSTOM:ethos-u": 1, "CUSTOM:MyDecoder": 1}


# What is rewritten


@needs_vela
@pytest.mark.parametrize("keep_dims", [True, False])
def test_a_mean_over_depth_gets_onto_the_npu_and_changes_no_number(
    tmp_path: Path, keep_dims: bool
) -> None:
    path = saved(net(mean_over_depth(keep_dims)), tmp_path / "mean.tflite")
    left = asked(path, legalise=False)
    assert [one.place for one in left.verdicts] == ["NPU", "CPU"]
    assert "Reduction over depth" in left.verdicts[1].constraint
    assert asked(path).full
    result = edgepipe.convert(path, target="ethos-u55-256", out=tmp_path / "out")
    step = result.report["routes"][0]["steps"][0]
    assert step["summary"]["ethosu"]["on_npu"] == 2
    assert any(note.startswith("mean_over_depth: ") for note in step["notes"])


@needs_vela
def test_a_rewriting_that_changes_a_number_is_not_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_store: Path
) -> None:
    from edgepipe import ethosu_proof

    path = saved(net(mean_over_depth()), tmp_path / "mean.tflite")
    wrong = tmp_path / "wrong.tflite"
    notes = legalising.legalise(path, wrong)
    assert len(notes) == 1
    changed = loading.load(wrong)
    bias = next(op for op in changed.main.ops if op.name == "CONV_2D").inputs[2]
    assert bias is not None
    bias.set(np.full(8, 5000, np.int32))
    saving.save(changed, wrong)
    # The file that the proof takes for the rewritten one: its numbers are off.
    monkeypatch.setattr(ethosu_proof, "FILE", str(wrong))
    with pytest.raises(EdgepipeError, match="rewritten for Vela changed numbers"):
        edgepipe.convert(path, target="ethos-u55-256", out=tmp_path / "out")


def test_a_mean_that_vela_takes_is_left_alone(tmp_path: Path) -> None:
    over_space: Behind = ("MEAN", (1, 8), (np.array([1, 2], np.int32),), {})
    path = saved(net(over_space), tmp_path / "mean.tflite")
    assert legalising.legalise(path, tmp_path / "out.tflite") == []
    assert not (tmp_path / "out.tflite").exists()
    assert reader.read(path).ops() == {"CONV_2D": 1, "MEAN": 1}
