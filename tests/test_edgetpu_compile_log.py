"""What the compiler prints, read: versions 1.0 to 16, and what its fatal words mean."""

from __future__ import annotations

from random import Random

import pytest
from edgetpu_files import GOLDEN

from edgepipe.targets.edgetpu import compile_diagnosis, compile_log
from edgepipe.targets.edgetpu.compile_log import MAPPED

LOGS = sorted((GOLDEN / "logs").glob("*.log"))

VERSION_2_0 = """Edge TPU Compiler version 2.0.291256449

Model compiled successfully in 2356 ms.

Input model: resnet50.tflite
Input size: 25.08MiB
Output model: resnet50_edgetpu.tflite
Output size: 24.87MiB
On-chip memory available for caching model parameters: 6.25MiB
On-chip memory used for caching model parameters: 6.25MiB
Off-chip memory used for streaming uncached model parameters: 18.43MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 77
Operation log: resnet50_edgetpu.log
See the operation log file for individual operation details.
"""
VERSION_2_1 = """Edge TPU Compiler version 2.1.302470888

Model compiled successfully in 12264 ms.

Input model: model2.tflite
Output model: model2_edgetpu.tflite
On-chip memory used for caching model parameters: 6.86MiB
On-chip memory remaining for caching model parameters: 7.75KiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 15
Operation log: model2_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of
the model will instead run on the CPU, which is slower.
Number of operations that will run on Edge TPU: 13
Number of operations that will run on CPU: 2

Operator                       Count      Status

LOGISTIC                       1          More than one subgraph is not supported
ADD                            10         Mapped to Edge TPU
CONCATENATION                  1          More than one subgraph is not supported
CONCATENATION                  3          Mapped to Edge TPU
"""
VERSION_16_SEARCH = """Edge TPU Compiler version 16.0.384591198
Searching for valid delegate with step 10
Try to compile segment with 322 ops
Started a compilation timeout timer of 180 seconds.
ERROR: Restored original execution plan after delegate application failure.
Compilation failed: Compilation failed due to large activation tensors in model.
Compilation child process completed within timeout period.
Compilation failed!
Try to compile segment with 312 ops
Intermediate tensors: Reshape_5,Sigmoid1
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 2270 ms.

Input model: a_segment_0_of_2.tflite
Input size: 5.21MiB
Output model: a_segment_0_of_2_edgetpu.tflite
Number of Edge TPU subgraphs: 1
Total number of operations: 84
Operation log: a_segment_0_of_2_edgetpu.log

Operator                       Count      Status

CONV_2D                        84         Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 1270 ms.

Input model: a_segment_1_of_2.tflite
Output model: a_segment_1_of_2_edgetpu.tflite

Operator                       Count      Status

ADD                            2          Mapped to Edge TPU
"""


def test_sizes_of_every_unit_are_read() -> None:
    texts = {"6.25MiB": 6553600, "7.75KiB": 7936, "0.00B": 0, "512B": 512, "1.00GiB": 1 << 30}
    assert {text: compile_log.size(text) for text in texts} == texts
    assert compile_log.size("much") is None


def test_an_old_log_without_rows_is_read() -> None:
    log = compile_log.parse(VERSION_2_0)
    (model,) = log.models
    assert log.version == "2.0.291256449"
    assert (model.milliseconds, model.operations, model.subgraphs) == (2356, 77, 1)
    assert model.available_bytes == model.cached_bytes == 6553600
    assert model.streamed_bytes == round(18.43 * (1 << 20))
    assert model.remaining_bytes is None and model.rows == ()
    assert model.output == "resnet50_edgetpu.tflite"


def test_several_rows_of_an_operator_are_kept_apart_by_status() -> None:
    log = compile_log.parse(VERSION_2_1)
    (model,) = log.models
    assert model.table["CONCATENATION", MAPPED] == 3
    assert model.table["CONCATENATION", "More than one subgraph is not supported"] == 1
    assert (model.mapped, model.cpu) == (13, 2)
    assert sum(model.table.values()) == model.operations


def test_the_order_of_rows_makes_no_difference() -> None:
    head, _, table = VERSION_2_1.partition("Status\n")
    turned = "\n".join(reversed(table.splitlines()))
    assert compile_log.parse(f"{head}Status\n{turned}").models[0].table == (
        compile_log.parse(VERSION_2_1).models[0].table
    )


def test_the_tries_of_a_search_are_no_models_and_segments_are() -> None:
    log = compile_log.parse(VERSION_16_SEARCH)
    assert [one.output for one in log.models] == [
        "a_segment_0_of_2_edgetpu.tflite", "a_segment_1_of_2_edgetpu.tflite",
    ]  # fmt: skip
    second = log.of("a_segment_1_of_2_edgetpu.tflite")
    assert second is not None and second.table == {("ADD", MAPPED): 2}
    assert "Compilation succeeded!" in log.other


@pytest.mark.skipif(not LOGS, reason="no recorded logs here; set EDGEPIPE_GOLDEN to their folder")
def test_real_logs_are_read_whole() -> None:
    for path in LOGS:
        log = compile_log.parse(path.read_text())
        (model,) = log.models
        assert log.version.startswith(("15.0", "16.0")), path.name
        assert model.rows and not log.other, path.name
        assert model.output.endswith("_edgetpu.tflite")


def test_garbage_is_no_log() -> None:
    log = compile_log.parse("\x00\xff%%\nOperator\n12 12 12\nInput size: ??\n")
    assert log.version == "" and all(one.rows == () for one in log.models)


def test_random_bytes_and_damaged_logs_never_crash_it() -> None:
    random = Random(0)
    whole = VERSION_2_1 + VERSION_16_SEARCH
    for _ in range(300):
        damaged = list(whole)
        for _ in range(40):
            place = random.randrange(len(damaged))
            damaged[place] = chr(
                random.choice((0, 10, 48, 57, 178, 0x660, random.randrange(0xD000)))
            )
        text = "".join(damaged)
        compile_log.parse(text)
        compile_diagnosis.of(text.splitlines())
    endless = "CONV_2D " + "9" * 5000 + " Mapped\nTotal number of operations: \u00b2\u0663\n"
    assert compile_log.parse(endless).models[0].operations is None


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        (
            "ERROR: Didn't find op for builtin opcode 'EXP' version '2'. An older version\n"
            "ERROR: Registration failed.\nInvalid model: m.tflite\nModel could not be parsed",
            "op-version", "EXP version 2",
        ),
        ("ERROR: Op builtin_code out of range: 150. Are you using", "op-code", "code 150"),
        ("Invalid model: m.tflite\nModel not quantized", "not-quantized", "8-bit"),
        (
            "ERROR: Attempting to use a delegate that only supports static-sized tensors with a"
            " graph that has dynamic-sized tensors.\nCompilation failed: Model failed in Tflite"
            " interpreter. Please ensure\nCompilation failed!",
            "dynamic", "when the model runs",
        ),
        ("Compilation failed: Model failed in Tflite interpreter.", "interpreter", "2021"),
        (
            "Compilation failed: Compilation failed due to large activation tensors in model.",
            "activations", "too large",
        ),
        ("Compilation timeout. This is usually caused by large activations.\nCompilation failed!",
         "compiler-timeout", "time was up"),
        ("Internal compiler error. Aborting! ", "internal", "broke down"),
        ("ERROR: Did not get operators, tensors, or buffers in subgraph 0.", "empty-graph", "0"),
        ("libc++abi: terminating with uncaught exception of type std::out_of_range: vector",
         "exception", "bug"),
        ("OSError: [Errno 8] Exec format error: 'edgetpu_compiler'", "not-for-this-machine", "x86"),
        ("Invalid model: m.tflite\nModel could not be parsed", "unreadable", "can't read"),
        ("Compilation child process completed within timeout period.\nCompilation failed!",
         "unexplained", "no more"),
    ],
)  # fmt: skip
def test_each_fatal_text_has_its_meaning_and_a_remedy(words: str, kind: str, told: str) -> None:
    found = compile_diagnosis.of(words.splitlines())
    assert found is not None
    assert found.kind == kind
    assert told in found.meaning
    assert found.remedy and found.source


def test_only_an_internal_error_is_worth_a_second_try() -> None:
    assert [known.kind for known in compile_diagnosis.KNOWN if known.random] == ["internal"]
    assert compile_diagnosis.of(VERSION_2_1.splitlines()) is None
