"""Compiled Edge TPU files decoded: made here, damaged, and those of the real compiler."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from edgetpu_files import (
    PAIRS,
    cached,
    compiled,
    needs_pairs,
    options,
    package,
    pair,
    source,
)  # fmt: skip
from test_tflite_fuzz import damaged
from tflite_models import conv

from edgepipe.cli.inspect import inspect as command
from edgepipe.cli.main import run
from edgepipe.errors import LimitError, UnknownFormat, UnsupportedModel
from edgepipe.targets.edgetpu import compiled as compiled_file
from edgepipe.targets.edgetpu import flexbuffer
from edgepipe.targets.edgetpu.package import Kind, of_operator, parse
from edgepipe.tflite import saving

COUNT = int(os.environ.get("FUZZ", "300"))
SECONDS = 2.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model_edgetpu.tflite"
    saving.save(compiled(options(package(cached()))), path)
    return path


def test_reads_a_package_of_two_executables() -> None:
    (found,) = of_operator(options(package(cached(), runtime=13)))
    run_, caching = found.executables
    assert (found.runtime_version, found.compiler_version) == (13, "a compiler")
    assert (run_.kind, caching.kind) == (Kind.EXECUTION_ONLY, Kind.PARAMETER_CACHING)
    assert (found.cached_bytes, found.streamed_bytes, found.tokens) == (640, 0, (7,))
    assert (run_.instruction_bytes, run_.activation_bytes_per_tile) == (48, 832)
    assert run_.estimated_cycles == 1000
    (layer,) = run_.inputs
    assert (layer.name, layer.sizes, layer.bytes, layer.dtype) == ("x", (1, 1, 4), 64, "int8")
    assert (layer.scale, layer.zero_point, layer.executions) == (0.5, -3, 1)


def test_parameters_outside_the_cache_are_streamed_in_either_kind() -> None:
    both = [{"kind": 2, "parameters": 96}, {"kind": 1, "parameters": 640}]
    assert parse(package(both)).streamed_bytes == 96
    assert parse(package([{"kind": 0, "parameters": 640}])).streamed_bytes == 640


def test_cycles_come_from_the_older_field_too() -> None:
    assert parse(package([{"kind": 0, "cycles": 55}])).executables[0].estimated_cycles == 55


def test_reads_several_packages_and_several_chips() -> None:
    one = package(cached(), runtime=10)
    assert len(of_operator(options(one, one, one))) == 3
    many = parse(package([], runtime=10, inside=[one, package(cached(), runtime=14)]))
    assert (many.chips, many.cached_bytes, many.runtime_version) == (2, 1280, 14)


def test_a_package_nested_twice_is_refused() -> None:
    one = package([], inside=[package(cached())])
    with pytest.raises(UnknownFormat, match="inside another"):
        parse(package([], inside=[one]))


@pytest.mark.parametrize("bad", [b"", b"\x00" * 64, options(b"\x00" * 64)])
def test_what_is_no_package_is_refused(bad: bytes) -> None:
    with pytest.raises(UnknownFormat):
        of_operator(bad)


def test_a_flexbuffer_that_leads_to_itself_is_refused() -> None:
    # A vector of one vector, whose offset leads back to its own slot.
    with pytest.raises(UnknownFormat):
        flexbuffer.read(bytes([1, 0, 10 << 2, 2, 10 << 2, 1]))


def test_a_file_that_is_not_compiled_is_refused(tmp_path: Path) -> None:
    saving.save(conv(), tmp_path / "model.tflite")
    with pytest.raises(UnsupportedModel, match=r"model\.tflite holds no edgetpu-custom-op"):
        compiled_file.read(tmp_path / "model.tflite")


def test_tells_which_ops_of_the_source_were_mapped(file: Path, tmp_path: Path) -> None:
    saving.save(source(), tmp_path / "source.tflite")
    found = compiled_file.read(file, tmp_path / "source.tflite")
    assert (found.mapped, found.unmapped) == ({"RELU": 1}, {"SOFTMAX": 1})
    saving.save(conv(), tmp_path / "other.tflite")
    with pytest.raises(UnsupportedModel, match="made of another model"):
        compiled_file.read(file, tmp_path / "other.tflite")


def test_a_file_mapped_in_whole_is_not_held_against_another_source(tmp_path: Path) -> None:
    model = compiled(options(package([{"kind": 0, "parameters": 2048}])))
    custom = model.main.ops[0]
    model.main.ops, model.main.outputs = [custom], list(custom.outputs)
    saving.save(model, tmp_path / "x_edgetpu.tflite")
    saving.save(source(), tmp_path / "source.tflite")
    assert compiled_file.read(tmp_path / "x_edgetpu.tflite", tmp_path / "source.tflite").mapped
    other = conv()
    other.main.inputs[0].name = "picture"
    saving.save(other, tmp_path / "other.tflite")
    with pytest.raises(UnsupportedModel, match="made of another model"):
        compiled_file.read(tmp_path / "x_edgetpu.tflite", tmp_path / "other.tflite")


def test_gates_say_all_that_is_worse() -> None:
    streaming = [{"kind": 0, "parameters": 2048}]
    found = compiled_file.of_model(compiled(options(package(streaming, runtime=14))))
    found.check(2048, False, 14)
    with pytest.raises(LimitError) as caught:
        found.check(1024, True, 13)
    for words in ("2,048 bytes", "1 SOFTMAX on the CPU", "runtime version 14"):
        assert words in caught.value.message


def test_command_shows_the_package(file: Path) -> None:
    shown = CliRunner().invoke(command, [str(file)])
    assert shown.exit_code == 0, shown.output
    for words in (
        "needs runtime version 14", "640 B cached", "0 B streamed", "execution-only",
        "caching token", "no latency", "on the CPU: 1 SOFTMAX",
    ):  # fmt: skip
        assert words in shown.output
    facts = json.loads(CliRunner().invoke(command, [str(file), "--json"]).output)["edgetpu"]
    assert (facts["cached_bytes"], facts["runtime_version"]) == (640, 14)
    assert [one["kind"] for one in facts["packages"][0]["executables"]] == [
        "execution-only", "parameter-caching",
    ]  # fmt: skip


def test_gates_of_the_command_end_with_5_and_others_with_2(file: Path, tmp_path: Path) -> None:
    assert run(["inspect", str(file), "--max-streamed-bytes", "0"]) == 0
    assert run(["inspect", str(file), "--require-full-mapping"]) == 5
    assert run(["inspect", str(file), "--runtime-version", "13"]) == 5
    saving.save(conv(), tmp_path / "model.tflite")
    assert run(["inspect", str(tmp_path / "model.tflite"), "--runtime-version", "13"]) == 2


def test_damaged_packages_are_refused_or_read() -> None:
    both = package([], inside=[package(cached())])
    whole = options(package(cached()), both)
    rng, refused = random.Random(4), 0
    for number in range(COUNT):
        bad = damaged(whole, rng)
        start = time.monotonic()
        try:
            for one in of_operator(bad):
                one.to_json()
        except UnknownFormat as error:
            assert error.message
            refused += 1
        except Exception as error:
            pytest.fail(f"number {number}: {error!r} from {bad.hex()}")
        assert time.monotonic() - start < SECONDS, f"number {number}: {bad.hex()}"
    assert COUNT // 5 < refused < COUNT


@needs_pairs
@pytest.mark.parametrize("entry", PAIRS, ids=lambda entry: str(entry["compiled"])[:40])
def test_decodes_what_the_real_compiler_wrote(entry: dict[str, Any]) -> None:
    found = compiled_file.read(pair("compiled", entry), pair("source", entry))
    assert found.runtime_version == entry["min_runtime"]
    assert (found.cached_bytes, found.streamed_bytes) == (entry["cached"], entry["streamed"])
    assert found.mapped == {name: count for name, count in entry["mapped"].items() if count}
    assert found.unmapped == entry["cpu"]
    said = [(op.index, op.name, "TPU" if op.mapped else "CPU") for op in found.source]
    assert said == [tuple(op) for op in entry["ops"]]
    tile = max(e.activation_bytes_per_tile for p in found.packages for e in p.executables)
    assert tile == entry["narrow_per_tile"]


def test_ten_megabytes_are_decoded_in_half_a_second(tmp_path: Path) -> None:
    big = [{"kind": 2}, {"kind": 1, "parameters": 10 << 20}]
    path = tmp_path / "big_edgetpu.tflite"
    saving.save(compiled(options(package(big))), path)
    start = time.perf_counter()
    assert compiled_file.read(path).cached_bytes == 10 << 20
    assert time.perf_counter() - start < 0.5
