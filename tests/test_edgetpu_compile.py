"""The driver of edgetpu_compiler: what it makes of a compiler's work, and of its every failure."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from edgetpu_compilers import REPLAY, calls, compiler, copying, entry_of, mapping_all
from edgetpu_files import PAIRS, needs_pairs, pair, source
from tflite_models import model_of

from edgepipe.errors import (
    BrokenOutput,
    EdgepipeError,
    OptionError,
    StageCrashed,
    StageFailed,
    StageTimedOut,
    ToolMissing,
    UnsupportedModel,
)
from edgepipe.targets.edgetpu import compilable, compiling, ends, outcome, preflight
from edgepipe.targets.edgetpu import compiler as finding
from edgepipe.targets.edgetpu.compile_options import CompileOptions
from edgepipe.targets.edgetpu.compiled import SourceOp
from edgepipe.targets.edgetpu.compiling import Compilation
from edgepipe.targets.edgetpu.memory import Forecast
from edgepipe.tflite import saving
from edgepipe.tflite.graph import Graph, Model, Op, Tensor

N32, CHANNELS = "N32-nMACs41287680_quant.tflite", "model_size_channel32_quant.tflite"


def drive(program: Path, model: Path, tmp_path: Path, **settings: object) -> Compilation:
    options = CompileOptions(**settings)  # type: ignore[arg-type]
    found = finding.find(str(program))
    return compiling.compile_models(found, [model], options, tmp_path / "work", tmp_path / "log")


def small(tmp_path: Path) -> Path:
    """An int8 model of two operators."""
    path = tmp_path / "small.tflite"
    saving.save(source(), path)
    return path


def failing(tmp_path: Path, body: str, **settings: object) -> EdgepipeError:
    with pytest.raises(EdgepipeError) as caught:
        drive(compiler(tmp_path, body), small(tmp_path), tmp_path, **settings)
    return caught.value


# What comes out


@needs_pairs
@pytest.mark.parametrize("entry", PAIRS, ids=lambda entry: entry["compiled"])
def test_every_recorded_model_is_compiled_as_foretold(
    entry: dict[str, str], tmp_path: Path
) -> None:
    made = drive(REPLAY, pair("source", entry), tmp_path)
    (piece,) = made.pieces
    assert made.compiler.replayed and made.attempts == 1
    mapped = {op: count for op, count in entry["mapped"].items() if count}  # type: ignore[attr-defined]
    assert piece.facts.mapped == mapped
    # What an LSTM keeps on the chip isn't foretold well; that it is shown is what is tested here.
    known = ["parameters"] if "lstm" in entry["source"] else []
    assert [one.op for one in piece.disagreements] == known and piece.notes == ()
    assert "REPLAY" in made.words()[0] and "not the real compiler" in made.words()[0]
    assert made.to_json()["compiler"]["replayed"] is True


@needs_pairs
def test_the_recorded_log_is_read_and_kept(tmp_path: Path) -> None:
    made = drive(REPLAY, pair("source", entry_of(CHANNELS)), tmp_path)
    said = made.pieces[0].said
    assert said is not None and sum(said.table.values()) == 10
    made.write_log(tmp_path / "kept.log")
    kept = (tmp_path / "kept.log").read_text()
    assert kept.startswith("# a REPLAY") and "Mapped to Edge TPU" in kept


@needs_pairs
def test_the_replay_fails_on_what_was_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="exit code 1"):
        drive(REPLAY, small(tmp_path), tmp_path)
    with pytest.raises(StageFailed) as caught:
        drive(REPLAY, pair("source", entry_of(N32)), tmp_path, multiple_subgraphs=True)
    assert "nothing was recorded with -a" in "\n".join(caught.value.details["tail"])


@needs_pairs
def test_another_outcome_than_foretold_is_shown(tmp_path: Path) -> None:
    entry = entry_of(CHANNELS)
    rows = "QUANTIZE 1 Operation not supported\nCONV_2D 3 Mapped to Edge TPU\n"
    body = copying(entry) + f"say({rows!r})"
    made = drive(compiler(tmp_path, body), pair("source", entry), tmp_path)
    (told,) = made.disagreements
    assert told.startswith("QUANTIZE: foretold '1 x Operation is otherwise supported")
    assert "'1 x Operation not supported'" in told
    assert "the log counts 3 CONV_2D as mapped, the file 4" in made.pieces[0].notes
    assert not made.compiler.replayed
    assert made.to_json()["models"][0]["disagreements"][0]["op"] == "QUANTIZE"


def test_memory_that_was_foretold_wrong_is_shown() -> None:
    def differing(parameters: int, streamed: tuple[int, int], real: tuple[int, int]) -> list[str]:
        forecast = Forecast(parameters, 0, "", *streamed, 0, 0.0)
        return [one.op for one in outcome.compare_memory(forecast, *real)]

    assert differing(1_000_000, (0, 0), (1_015_000, 0)) == []
    assert differing(1_000_000, (0, 0), (1_030_000, 0)) == ["parameters"]
    assert differing(900, (0, 0), (1_300, 0)) == []
    assert differing(9_000_000, (600_000, 2_600_000), (8_000_000, 1_000_000)) == []
    assert differing(9_000_000, (600_000, 2_600_000), (8_900_000, 100_000)) == [
        "streamed parameters"
    ]


def test_disagreements_name_the_operator_and_both_sides() -> None:
    foretold = preflight.of_model(source())
    happened = [SourceOp(0, "RELU", "y", True), SourceOp(1, "SOFTMAX", "z", False)]
    (one,) = outcome.compare(foretold, happened, None)
    assert one.words() == (
        "op 1 SOFTMAX z: foretold 'Mapped to Edge TPU', the compiler:"
        " 'left on the CPU without a reason'"
    )
    behind = outcome.behind(source().main, ["y"])
    (wished,) = outcome.compare(foretold, happened, None, behind)
    assert wished.why == "left out by -i"


@needs_pairs
def test_another_models_output_is_refused(tmp_path: Path) -> None:
    body = copying(entry_of(N32))
    with pytest.raises(BrokenOutput, match="other ends than the model"):
        drive(compiler(tmp_path, body), pair("source", entry_of(CHANNELS)), tmp_path)


def test_an_output_whose_ops_have_other_names_is_kept_with_a_note(tmp_path: Path) -> None:
    """Real compilers may add operators; the ends tell that it is of this model."""
    body = mapping_all() + (
        "made = out / 'small_edgetpu.tflite'\n"
        "model = loading.load(made)\n"
        "end = model.main.outputs[0]\n"
        "model.main.ops.append(Op.make('RELU', [end], [end.like('extra')]))\n"
        "saving.save(model, out / 'new')\n"
        "(out / 'new').rename(made)"
    )
    made = drive(compiler(tmp_path, body), small(tmp_path), tmp_path)
    assert "can't be set beside the model's" in made.pieces[0].notes[0]
    assert made.pieces[0].facts.cached_bytes == 640


def test_changed_ends_are_named() -> None:
    one, other = source().main, source().main
    other.inputs[0].quantization = None
    other.outputs[0].shape = (1, 5)
    assert ends.differences(one, other) == [
        "input 'x' has scale (), expected (0.5,)",
        "input 'x' has zero point (), expected (0,)",
        "output 'z' has shape (1, 5), expected (1, 4)",
    ]


# What goes wrong


def test_a_compiler_that_hangs_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepipe.targets.edgetpu.compile_options.SLACK_SECONDS", 0.0)
    left = tmp_path / "left"
    body = (
        "import subprocess\n"
        f"subprocess.Popen([sys.executable, '-c', \"import time; time.sleep(4);"
        f" open({str(left)!r}, 'w')\"])\n"
        "time.sleep(600)"
    )
    start = time.monotonic()
    error = failing(tmp_path, body, timeout_sec=2)
    assert isinstance(error, StageTimedOut) and "no end after 2 s" in error.message
    assert time.monotonic() - start < 20
    time.sleep(max(0.0, start + 7 - time.monotonic()))
    assert not left.exists(), "the child lived on"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel tells of a parent's death")
def test_a_killed_edgepipe_leaves_no_compiler_behind(tmp_path: Path) -> None:
    started, left = tmp_path / "started", tmp_path / "left"
    child = f"import time; open({str(started)!r}, 'w'); time.sleep(3); open({str(left)!r}, 'w')"
    body = f"import subprocess\nsubprocess.run([sys.executable, '-c', {child!r}])"
    program, model = compiler(tmp_path, body), small(tmp_path)
    line = [sys.executable, "-m", "edgepipe", "compile", str(model), "-o", str(tmp_path / "out")]
    running = subprocess.Popen([*line, "--compiler", str(program)], start_new_session=True)
    try:
        until = time.monotonic() + 60
        while not started.exists():
            assert time.monotonic() < until and running.poll() is None
            time.sleep(0.02)
    finally:
        running.kill()
        running.wait()
    time.sleep(5)
    assert not left.exists(), "the compiler's child lived on"


def test_a_compiler_that_dies_is_told_from_one_that_fails(tmp_path: Path) -> None:
    error = failing(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    assert isinstance(error, StageCrashed) and "SIGSEGV" in error.message


def test_a_compiler_that_prints_garbage_is_no_compiler(tmp_path: Path) -> None:
    error = failing(tmp_path, "sys.stdout.buffer.write(bytes(range(256)) * 9); sys.exit(3)")
    assert isinstance(error, StageFailed)
    assert "exit code 3 and no reason" in error.message


def test_a_compiler_that_prints_without_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepipe.targets.edgetpu.compiler_process.MOST_OUTPUT", 100_000)
    error = failing(tmp_path, "while True: say('again')")
    assert isinstance(error, StageFailed) and "printed without end" in error.message


def test_a_compiler_that_writes_nothing_is_found_out(tmp_path: Path) -> None:
    error = failing(tmp_path, "say('Model compiled successfully in 3 ms.')")
    assert "ended well and wrote no small_edgetpu.tflite" in error.message
    empty = "(out / 'small_edgetpu.tflite').touch()"
    assert "wrote no small_edgetpu.tflite" in failing(tmp_path, empty).message


def test_a_damaged_output_is_found_out(tmp_path: Path) -> None:
    body = "(out / 'small_edgetpu.tflite').write_bytes(models[0].read_bytes()[:100])"
    error = failing(tmp_path, body)
    assert isinstance(error, BrokenOutput) and "damaged" in error.message


def test_a_success_that_maps_nothing_is_a_failure_and_m_is_explained(tmp_path: Path) -> None:
    rows = "RELU 1 Operation version not supported"
    body = (
        "say('Model compiled successfully in 3 ms.')\n"
        f"say('Output model: {tmp_path}/small_edgetpu.tflite\\n{rows}')\n"
        "shutil.copyfile(models[0], out / 'small_edgetpu.tflite')"
    )
    error = failing(tmp_path, body)
    assert isinstance(error, StageFailed)
    assert "mapped none of 2 ops (it says: 1 x Operation version not supported)" in error.message
    error = failing(tmp_path, body, min_runtime_version=10)
    assert "-m 10 asks for a runtime that is too old" in error.message
    assert "--min-runtime-version" in error.hint


def test_a_fatal_text_becomes_a_diagnosis(tmp_path: Path) -> None:
    words = (
        "ERROR: Didn't find op for builtin opcode 'QUANTIZE' version '3'.\nInvalid model: small"
        "\nModel could not be parsed"
    )
    error = failing(tmp_path, f"say({words!r}); sys.exit(1)")
    assert error.details["diagnosis"] == "op-version"
    assert "QUANTIZE version 3 is newer" in error.message
    assert "preflight" in error.hint
    assert "Model could not be parsed" in (tmp_path / "log").read_text()


def test_an_internal_error_is_tried_once_more(tmp_path: Path) -> None:
    error = failing(tmp_path, "say('Internal compiler error. Aborting!'); sys.exit(1)")
    assert error.details["diagnosis"] == "internal" and calls(tmp_path) == 2


@needs_pairs
def test_an_internal_error_that_goes_away_is_only_a_note(tmp_path: Path) -> None:
    entry = entry_of(N32)
    body = "if not count: say('Internal compiler error. Aborting!'); sys.exit(1)\n"
    made = drive(compiler(tmp_path, body + copying(entry)), pair("source", entry), tmp_path)
    assert made.attempts == 2 and "run again" in made.notes[0]


# What is refused before


def refused(model: Model, tmp_path: Path) -> str:
    path = tmp_path / "m.tflite"
    saving.save(model, path)
    with pytest.raises(UnsupportedModel) as caught:
        compilable.load(path)
    assert caught.value.hint
    return caught.value.message


def floats(name: str) -> Tensor:
    return Tensor(name, (1, 4))


def test_a_float_model_is_refused(tmp_path: Path) -> None:
    x, y = floats("x"), floats("y")
    assert "float model" in refused(model_of([Op.make("RELU", [x], [y])], [x], [y]), tmp_path)


def test_a_half_quantized_model_is_refused_unless_it_is_wanted(tmp_path: Path) -> None:
    model = source()
    y, z = floats("f"), floats("g")
    last = model.main.outputs[0]
    model.main.ops += [Op.make("DEQUANTIZE", [last], [y]), Op.make("TANH", [y], [z])]
    model.main.outputs = [z]
    words = refused(model, tmp_path)
    assert "quantized by half: 1 of 4 operators compute in float (TANH 'g')" in words
    compilable.check(model, "m", allow_float=True)


def test_open_shapes_are_refused_and_an_open_batch_is_not(tmp_path: Path) -> None:
    model = source()
    model.main.inputs[0].signature = (-1, 4)
    compilable.check(model, "m")
    model.main.inputs[0].signature = (1, -1)
    assert "'x' is 1x?" in refused(model, tmp_path)


def test_several_subgraphs_are_refused(tmp_path: Path) -> None:
    model, other = source(), source()
    model.graphs.append(Graph("second", ops=other.main.ops, inputs=other.main.inputs,
                              outputs=other.main.outputs))  # fmt: skip
    assert "2 subgraphs" in refused(model, tmp_path)


@needs_pairs
def test_a_compiled_file_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="compiled for the Edge TPU already"):
        compilable.load(pair("compiled", entry_of(N32)))


# Finding and asking


def test_without_a_compiler_it_is_said_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGETPU_COMPILER", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ToolMissing, match="no edgetpu_compiler on the PATH") as caught:
        finding.find()
    assert caught.value.exit_code == 3
    for words in ("apt-get install", "docker:", "ssh://"):
        assert words in caught.value.hint


def test_another_program_is_not_taken_for_the_compiler(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_text("#!/bin/sh\necho hello\n")
    path.chmod(0o755)
    with pytest.raises(ToolMissing, match="it said 'hello'"):
        finding.find(str(path))


def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = compiler(tmp_path, "")
    monkeypatch.setenv("EDGETPU_COMPILER", str(path))
    found = finding.find()
    assert found.version == "16.0.384591198" and str(path) in found.words


def test_only_what_was_asked_becomes_a_flag() -> None:
    assert CompileOptions().arguments() == ["-s"]
    full = CompileOptions(
        multiple_subgraphs=True, search_delegate=True, delegate_search_step=4,
        min_runtime_version=13, intermediate_tensors=("a", "b"), num_segments=2, timeout_sec=60,
    )  # fmt: skip
    assert " ".join(full.arguments()) == (
        "-s -a -d --delegate_search_step 4 -m 13 -i a,b -n 2 --timeout_sec 60"
    )
    assert "compiler" not in full.key()


@pytest.mark.parametrize(
    "settings",
    [{"delegate_search_step": 2}, {"num_segments": 0}, {"timeout_sec": 0},
     {"intermediate_tensors": ("a,b",)}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        CompileOptions(**settings).check()  # type: ignore[arg-type]
