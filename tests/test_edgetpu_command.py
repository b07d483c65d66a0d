"""`edgepipe compile`: files, report and exit codes; several models, segments, limits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from edgetpu_compilers import REPLAY, compiler, entry_of, mapping_all
from edgetpu_files import needs_pairs, pair, source

import edgepipe
from edgepipe.cli.main import run
from edgepipe.errors import BrokenOutput, LimitError, OptionError, ToolMissing
from edgepipe.tflite import saving

CHANNELS = "model_size_channel32_quant.tflite"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.tflite"
    saving.save(source(), path)
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGETPU_COMPILER", "")
    monkeypatch.setenv("PATH", str(tmp_path))


def report_of(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "report.json").read_text())
    return found


@needs_pairs
def test_a_recorded_model_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGETPU_COMPILER", str(REPLAY))
    model, out = pair("source", entry_of(CHANNELS)), tmp_path / "out"
    assert run(["compile", str(model), "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "a REPLAY of recordings" in shown and "9 of 10 ops mapped" in shown
    assert "not run on a device" in shown and "all ops as foretold" in shown
    assert sorted(path.name for path in out.iterdir()) == [
        "compile.log", f"{model.stem}_edgetpu.log", f"{model.stem}_edgetpu.tflite",
        "report.html", "report.json",
    ]  # fmt: skip
    report = report_of(out)
    assert report["status"] == "done" and report["proofs"] == [
        {"proven": False, "not_run": "not run on a device: inputs and outputs were compared with"
         " those of the model that it was made of, and nothing else of it is proven"}
    ]  # fmt: skip


def test_models_that_share_a_chip_are_compiled_in_one_call(tmp_path: Path, small: Path) -> None:
    other = tmp_path / "deep" / "small.tflite"
    other.parent.mkdir()
    other.write_bytes(small.read_bytes())
    program = compiler(tmp_path, "(out.parent / 'asked').write_text(' '.join(words))\n"
                       + mapping_all())  # fmt: skip
    made = edgepipe.compile([small, other], out=tmp_path / "out", compiler=str(program))
    assert [path.name for path in made.files] == [
        "small_edgetpu.tflite", "small_2_edgetpu.tflite",
    ]  # fmt: skip
    assert all(path.is_file() for path in made.files)
    tokens = [one["packages"][0]["caching_tokens"] for one in made.report["models"]]
    assert tokens[0] == tokens[1]


def test_segments_are_checked_as_a_chain(tmp_path: Path, small: Path) -> None:
    program = compiler(tmp_path, mapping_all(segments=2))
    made = edgepipe.compile(small, out=tmp_path / "out", compiler=str(program), num_segments=2)
    names = [f"small_segment_{number}_of_2_edgetpu.tflite" for number in range(2)]
    assert [path.name for path in made.files] == names
    assert (tmp_path / "out" / "small_segment_1_of_2.tflite").is_file()
    assert [sum(one["mapped"].values()) for one in made.report["models"]] == [1, 1]
    broken = mapping_all(segments=2) + (
        "shutil.copyfile(out / 'small_segment_0_of_2_edgetpu.tflite',"
        " out / 'small_segment_1_of_2_edgetpu.tflite')\n"
        "shutil.copyfile(out / 'small_segment_0_of_2.tflite', out / 'small_segment_1_of_2.tflite')"
    )
    with pytest.raises(BrokenOutput, match="no segment gives the output 'z'"):
        edgepipe.compile(
            small, out=tmp_path / "out", compiler=str(compiler(tmp_path, broken)), num_segments=2
        )
    with pytest.raises(OptionError, match="cuts one model"):
        edgepipe.compile(
            [small, small], out=tmp_path / "out", compiler=str(program), num_segments=2
        )


@pytest.mark.usefixtures("nowhere")
def test_without_a_compiler_the_report_has_what_is_foretold(
    tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(["compile", str(small), "-o", str(out)]) == 3
    told = capsys.readouterr().err
    assert "no edgetpu_compiler on the PATH" in told and "2 of 2 ops would be mapped" in told
    report = report_of(out)
    assert report["status"] == "incomplete" and report["compiled"] is False
    assert report["foretold"]["small.tflite"]["mapped"] == 2  # type: ignore[index]


@needs_pairs
def test_limits_end_with_code_5_and_leave_the_report(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(LimitError, match=r"1 QUANTIZE on the CPU.*device has 13") as caught:
        edgepipe.compile(
            pair("source", entry_of(CHANNELS)), out=out, compiler=str(REPLAY),
            require_full_mapping=True, runtime_version=13,
        )  # fmt: skip
    assert caught.value.exit_code == 5
    assert sorted(path.name for path in out.iterdir()) == [
        "compile.log", "report.html", "report.json",
    ]  # fmt: skip
    assert report_of(out)["compiled"] is True and report_of(out)["status"] == "failed"


def test_a_failed_run_takes_an_earlier_result_away_and_nothing_else(
    tmp_path: Path, small: Path
) -> None:
    out = tmp_path / "out"
    edgepipe.compile(small, out=out, compiler=str(compiler(tmp_path, mapping_all())))
    (out / "mine.tflite").write_bytes(b"mine")
    program = compiler(tmp_path, "sys.exit(1)")
    assert run(["compile", str(small), "-o", str(out), "--compiler", str(program)]) == 4
    assert sorted(path.name for path in out.iterdir()) == [
        "compile.log", "mine.tflite", "report.html", "report.json",
    ]  # fmt: skip


def test_flags_reach_the_compiler(tmp_path: Path, small: Path) -> None:
    asked = tmp_path / "asked"
    body = f"Path({str(asked)!r}).write_text(' '.join(words))\n" + mapping_all()
    out, program = tmp_path / "out", compiler(tmp_path, body)
    words = ["-a", "-d", "--delegate-search-step", "3", "-m", "12", "-i", "y", "--timeout-sec", "9"]
    line = ["compile", str(small), "-o", str(out), "--compiler", str(program), *words, "--json"]
    assert run(line) == 0
    given = "-s -a -d --delegate_search_step 3 -m 12 -i y --timeout_sec 9 -o"
    assert asked.read_text().startswith(given)


def test_a_device_that_is_not_there_is_said_before_any_work(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPIPE_LIBEDGETPU", str(tmp_path / "none.so"))
    with pytest.raises(ToolMissing, match="libedgetpu can't be loaded"):
        edgepipe.compile(small, out=tmp_path / "out", compiler="/none", device="usb:0")
