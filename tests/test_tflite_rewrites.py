"""Rewrites before quantization: what ai-edge-quantizer makes of one operator before and after."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rewrite_cases import CASES, Case
from tflite_models import Maker, chain, floats, ints, model_of

import edgepipe
from edgepipe.errors import BrokenOutput
from edgepipe.tflite import loading, saving
from edgepipe.tflite.graph import Model, Op, Tensor
from edgepipe.tflite.rewrite import (
    REWRITES,
    Feeds,
    Prover,
    Results,
    changed,
    load_rewrites,
    prepare,
    same,
)

ROOT = Path(edgepipe.__file__).parent.parent

INT8 = """
import json, sys, numpy
from ai_edge_quantizer import quantizer, recipe
from ai_edge_litert.interpreter import Interpreter

def feeds(runner):
    random, found = numpy.random.default_rng(0), {}
    for name, one in runner.get_input_details().items():
        found[name] = random.uniform(-3, 3, one["shape"]).astype("float32")
        found[name].flat[0], found[name].flat[-1] = -3, 3
    return found

def stored(values, one):
    scale, zero = one["quantization"]
    if one["dtype"] != numpy.int8:
        return values
    return numpy.clip(numpy.round(values / scale + zero), -128, 127).astype("int8")

def meant(values, one):
    scale, zero = one["quantization"]
    return values if values.dtype.kind == "f" else (values.astype("float32") - zero) * scale

def measure(path):
    before = Interpreter(path).get_signature_runner()
    given = feeds(before)
    made = quantizer.Quantizer(path, recipe.static_wi8_ai8())
    made.quantize(made.calibrate({"serving_default": [given]})).export_model(path + ".int8")
    after = Interpreter(path + ".int8").get_signature_runner()
    inputs, outputs = after.get_input_details(), after.get_output_details()
    expected = before(**given)
    received = after(**{name: stored(values, inputs[name]) for name, values in given.items()})
    (name,) = expected
    noise = ((expected[name] - meant(received[name], outputs[name])) ** 2).sum()
    return float(10 * numpy.log10((expected[name] ** 2).sum() / (noise + 1e-30)))

for path in sys.argv[1:]:
    try:
        print(json.dumps({"path": path, "sqnr": measure(path)}), flush=True)
    except Exception as error:
        print(json.dumps({"path": path, "error": str(error)}), flush=True)
"""

PREPARE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from edgepipe.tflite.rewrite import prepare
for path in sys.argv[2:]:
    notes = prepare(Path(path), Path(path.replace("before", "after")))
    print(json.dumps([path, notes]), flush=True)
"""


@dataclass
class Tried:
    """What int8 gave, before and after the rewrites: decibels, or how it failed."""

    before: float | str
    after: float | str
    notes: list[str]
    ops: tuple[list[str], list[str]]
    """Of the int8 files."""


@pytest.fixture(scope="module")
def tried(
    toolchain: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tried]:
    """All cases, each raw one in a process of its own: some end it."""
    edge, folder = toolchain("edge"), tmp_path_factory.mktemp("rewrites")
    (folder / "before").mkdir()
    (folder / "after").mkdir()
    for case in CASES:
        saving.save(case.build(), folder / "before" / f"{case.name}.tflite")
    before = [folder / "before" / f"{case.name}.tflite" for case in CASES]
    after = [folder / "after" / path.name for path in before]
    notes = dict(run(edge, PREPARE, ROOT, *before))
    measured = {one["path"]: one for path in before for one in run(edge, INT8, path)}
    measured |= {one["path"]: one for one in run(edge, INT8, *after)}
    return {
        case.name: Tried(
            _outcome(measured.get(str(raw))),
            _outcome(measured.get(str(new))),
            notes[str(raw)],
            (_ops(raw), _ops(new)),
        )
        for case, raw, new in zip(CASES, before, after, strict=True)
    }


def run(python: Path, code: str, *arguments: Path) -> list[Any]:
    """The lines that were printed, as JSON; fewer where the process died."""
    done = subprocess.run(
        [str(python), "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]


def _outcome(found: dict[str, Any] | None) -> float | str:
    if found is None:
        return "the process died"
    return str(found["error"]) if "error" in found else float(found["sqnr"])


def _ops(path: Path) -> list[str]:
    quantized = Path(f"{path}.int8")
    return [op.name for op in loading.load(quantized).main.ops] if quantized.exists() else []


@pytest.mark.toolchain("edge")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_raw_tool_fails_and_rewritten_model_passes(case: Case, tried: dict[str, Tried]) -> None:
    found = tried[case.name]
    if isinstance(case.raw, str):
        assert isinstance(found.before, str), f"the raw tool gave {found.before} dB"
        assert case.raw in found.before
    elif isinstance(case.raw, float):
        assert isinstance(found.before, float)
        assert found.before < case.raw
    else:
        assert case.raw <= set(found.ops[0])
        assert not case.raw & set(found.ops[1])
    assert isinstance(found.after, float), found.after
    assert found.after >= case.wanted
    assert [note.split(":")[0] for note in found.notes] == list(case.rewrites)
    assert not {"DEQUANTIZE", "QUANTIZE"} & set(found.ops[1]) - case.scales


@pytest.mark.toolchain("edge")
def test_a_model_that_the_raw_tool_refuses_is_delivered_in_int8(tmp_path: Path) -> None:
    path = tmp_path / "given.tflite"
    saving.save(next(case for case in CASES if case.name == "pad_pool").build(), path)
    result = edgepipe.convert(path, precision="int8", calibration="random", out=tmp_path / "out")
    assert [op.name for op in loading.load(result.model).main.ops] == ["MIRROR_PAD", "MAX_POOL_2D"]
    kept = tmp_path / "out" / "model_float32.tflite"
    assert kept.read_bytes() == path.read_bytes(), "the float model is not to be rewritten"
    notes = json.dumps(result.report["routes"])
    assert "padding: PADV2 became a padding that quantizes (1x)" in notes
    assert "prepared.tflite" not in notes


# The proof


def test_a_rewrite_that_changes_the_result_is_undone_alone(tmp_path: Path) -> None:
    m = Maker(1, 4)
    for number in (0.0, 0.0, 0.0):
        m.op("ADD", m.ops[-1].outputs[0] if m.ops else m.x, np.float32(number))
    m.op("ABS", m.ops[-1].outputs[0])
    path = tmp_path / "model.tflite"
    saving.save(m.model(), path)
    seen: list[int] = []

    def run_litert(model: Path, samples: Any) -> list[Results]:
        """The second addition can't go."""
        left = loading.load(model).main
        seen.append(len(left.ops))
        names = {tensor.name for op in left.ops for tensor in op.outputs}
        return [[np.array([1.0 if "t1" in names else 2.0], np.float32)]]

    model, outcome = Prover(path, [{}], run_litert).apply(
        loading.load(path), load_rewrites(["neutral"])
    )
    assert [op.outputs[0].name for op in model.main.ops] == ["t1", "t3"]
    assert outcome.applied == {"neutral": 2}
    assert outcome.undone == {"neutral": 1}
    assert seen[:2] == [4, 1]
    assert any("undone 1x" in note for note in outcome.notes)


def test_a_model_that_does_not_run_is_passed_on_as_it_is(tmp_path: Path) -> None:
    path, out = tmp_path / "model.tflite", tmp_path / "out.tflite"
    saving.save(chain(Tensor("x", (1, 4)), ("DIV", (1, 4), ["x", np.float32(2)], {})), path)

    def broken(model: Path, samples: Any) -> list[Results]:
        raise BrokenOutput("LiteRT can't run it")

    assert prepare(path, out, run=broken) == ["not rewritten: LiteRT can't run it"]
    assert out.read_bytes() == path.read_bytes()


def test_a_model_without_patterns_is_not_even_run(tmp_path: Path) -> None:
    path, out = tmp_path / "model.tflite", tmp_path / "out.tflite"
    saving.save(chain(Tensor("x", (1, 4)), ("TANH", (1, 4), [], {})), path)

    def never(model: Path, samples: Any) -> list[Results]:
        raise AssertionError("it was run")

    assert prepare(path, out, run=never) == []
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("before", "after", "equal"),
    [
        ([1.0, 2.0], [1.0, 2.00001], True),
        ([1.0, 2.0], [1.0, 2.01], False),
        ([1.0, np.nan], [1.0, 2.0], False),
        ([1.0, np.inf], [1.0, np.inf], True),
        ([0.0], [1e-3], False),
    ],
)
def test_floats_are_held_to_a_bound(before: list[float], after: list[float], equal: bool) -> None:
    assert same([floats(before)], [floats(after)]) is equal


def test_integers_are_held_to_the_bit() -> None:
    assert same([np.array([1, 2], np.int8)], [np.array([1, 2], np.int8)])
    assert not same([np.array([1, 2], np.int8)], [np.array([1, 3], np.int8)])
    assert not same([np.array([1], np.int8)], [floats([1])])


# Where patterns are left alone


def rewritten(model: Model, name: str) -> list[str]:
    (rewrite,) = load_rewrites([name])
    graph = model.main
    places = {op.outputs[0].name for op in rewrite.places(graph)}
    return [op.name for op in changed(model, rewrite, places)[0].main.ops]


def test_what_is_nearly_a_known_function_stays() -> None:
    m = Maker(1, 8)
    inner = m.op("ADD", m.x, np.float32(3), fused_activation_function="RELU6")
    m.op("MUL", m.op("MUL", m.x, inner), np.float32(1 / 5.9))
    assert rewritten(m.model(), "activations") == ["ADD", "MUL", "MUL"]


def test_a_factor_per_channel_is_no_activation() -> None:
    m = Maker(1, 8)
    inner = m.op("ADD", m.x, np.arange(8, dtype=np.float32))
    m.op("MUL", m.x, m.op("LOGISTIC", inner))
    assert rewritten(m.model(), "activations") == ["ADD", "LOGISTIC", "MUL"]


def test_a_scale_that_something_else_reads_stays() -> None:
    m = Maker(1, 8)
    scaled = m.op("MUL", m.x, np.arange(1, 9, dtype=np.float32))
    m.op("FULLY_CONNECTED", scaled, np.ones((2, 8), np.float32), shape=(1, 2))
    m.op("ABS", scaled)
    assert rewritten(m.model(*m.ops[1].outputs, *m.ops[2].outputs), "affine")[0] == "MUL"


def _windowed(first: str, padding: str) -> Model:
    m = Maker(1, 6, 6, 4)
    m.op(first, m.x, np.arange(1, 5, dtype=np.float32))
    weights = np.ones((1, 3, 3, 8), np.float32)
    size = 6 if padding == "SAME" else 4
    m.op("DEPTHWISE_CONV_2D", m.ops[0].outputs[0], weights, np.zeros(8, np.float32),
         shape=(1, size, size, 8), padding=padding, stride_w=1, stride_h=1,
         depth_multiplier=2)  # fmt: skip
    return m.model()


@pytest.mark.parametrize(
    ("first", "padding", "left"),
    [("MUL", "SAME", 1), ("SUB", "VALID", 1), ("SUB", "SAME", 2), ("ADD", "SAME", 2)],
)
def test_a_shift_stays_in_front_of_a_padded_window(first: str, padding: str, left: int) -> None:
    assert len(rewritten(_windowed(first, padding), "affine")) == left


@pytest.mark.toolchain("edge")
def test_scales_and_shifts_in_layers_compute_the_same(
    toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    models = {"mul": _windowed("MUL", "SAME"), "sub": _windowed("SUB", "VALID")}
    m = Maker(1, 6, 6, 4)
    weights = floats(np.random.default_rng(0).standard_normal((5, 3, 3, 4)))
    m.op("CONV_2D", m.x, weights, np.ones(5, np.float32), shape=(1, 4, 4, 5), padding="VALID",
         stride_w=1, stride_h=1)  # fmt: skip
    m.op("MUL", m.ops[-1].outputs[0], np.arange(1, 6, dtype=np.float32))
    m.op("SUB", m.ops[-1].outputs[0], np.float32(0.5), fused_activation_function="RELU")
    models["behind"] = m.model()
    m = Maker(1, 6, 6, 4)
    m.op("MUL", m.x, np.arange(1, 5, dtype=np.float32))
    m.op("PAD", m.ops[0].outputs[0], ints([[0, 0], [1, 1], [1, 1], [0, 0]]), shape=(1, 8, 8, 4))
    weights = floats(np.random.default_rng(1).standard_normal((8, 3, 3, 1)))
    m.op("CONV_2D", m.ops[1].outputs[0], weights, np.ones(8, np.float32), shape=(1, 6, 6, 8),
         padding="VALID", stride_w=1, stride_h=1)  # fmt: skip
    models["grouped"] = m.model()
    (tmp_path / "before").mkdir()
    (tmp_path / "after").mkdir()
    for name, model in models.items():
        saving.save(model, tmp_path / "before" / f"{name}.tflite")
    files = [tmp_path / "before" / f"{name}.tflite" for name in models]
    notes = dict(run(toolchain("edge"), PREPARE, ROOT, *files))
    assert [len(one) for one in notes.values()] == [1, 1, 1, 2]
    after = {
        path.stem: loading.load(Path(str(path).replace("before", "after"))).main.ops
        for path in files
    }
    assert [op.name for op in after["mul"]] == ["DEPTHWISE_CONV_2D"]
    assert [op.name for op in after["sub"]] == ["DEPTHWISE_CONV_2D"]
    assert [op.label + op.activation for op in after["behind"]] == ["CONV_2DRELU"]
    assert [op.name for op in after["grouped"]] == ["PAD", "DEPTHWISE_CONV_2D"]


@pytest.mark.toolchain("edge")
def test_a_division_by_a_root_is_proven_as_a_multiplication(
    toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    m = Maker(1, 8, 16)
    mean = m.op("MEAN", m.op("MUL", m.x, m.x), ints([2]), shape=(1, 8, 1), keep_dims=True)
    m.op("DIV", m.x, m.op("SQRT", m.op("ADD", mean, np.float32(1e-6))))
    path = tmp_path / "before.tflite"
    saving.save(m.model(), path)
    ((_, notes),) = run(toolchain("edge"), PREPARE, ROOT, path)
    assert notes == ["division: DIV by a constant or a root became MUL (1x)"]
    after = loading.load(tmp_path / "after.tflite").main.ops
    assert [op.name for op in after] == ["MUL", "MEAN", "ADD", "RSQRT", "MUL"]


def test_padding_larger_than_half_the_window_is_not_mirrored() -> None:
    pads = ints([[0, 0], [2, 2], [2, 2], [0, 0]])
    model = chain(
        Tensor("x", (1, 8, 8, 2)),
        ("PADV2", (1, 12, 12, 2), ["x", pads, floats([-np.inf])], {}),
        ("MAX_POOL_2D", (1, 10, 10, 2), [], {"padding": "VALID", "stride_w": 1, "stride_h": 1,
                                             "filter_width": 3, "filter_height": 3}),
    )  # fmt: skip
    assert rewritten(model, "padding") == ["PADV2", "MAX_POOL_2D"]


def test_transposes_cancel_across_functions_and_pairs() -> None:
    m = Maker(1, 4, 6, 3)
    there, back = ints([0, 3, 1, 2]), ints([0, 2, 3, 1])
    a = m.op("TRANSPOSE", m.x, there, shape=(1, 3, 4, 6))
    b = m.op("TANH", m.op("MUL", a, np.float32(2)))
    c = m.op("TRANSPOSE", m.op("ABS", m.x), there, shape=(1, 3, 4, 6))
    m.op("TRANSPOSE", m.op("ADD", b, c), back, shape=(1, 4, 6, 3))
    model, (rewrite,) = m.model(), load_rewrites(["transposes"])
    for _ in range(6):
        places = {op.outputs[0].name for op in rewrite.places(model.main)}
        model, _count = changed(model, rewrite, places)
    assert sorted(op.name for op in model.main.ops) == ["ABS", "ADD", "MUL", "TANH"]


@pytest.mark.parametrize(
    ("bound", "compared"), [(0.0, "int32"), (0.5, "float32"), (2e7, "float32")]
)
def test_integers_are_compared_as_integers_with_whole_numbers_only(
    bound: float, compared: str
) -> None:
    m = Maker(1, 8)
    m.x.dtype = "int32"
    real = m.op("CAST", m.x, in_data_type="int32", out_data_type="float32")
    less = m.op("LESS", real, np.float32(bound))
    real.dtype, less.dtype = "float32", "bool"
    model = m.model()
    (rewrite,) = load_rewrites(["comparisons"])
    places = {one.outputs[0].name for one in rewrite.places(model.main)}
    (op,) = changed(model, rewrite, places)[0].main.operators("LESS")
    assert [tensor.dtype for tensor in op.reads()] == [compared] * 2


@pytest.mark.parametrize(("factor", "left"), [(0, ["ADD"]), (1, ["MUL", "CAST", "ADD"])])
def test_only_a_product_with_0_becomes_a_constant(factor: int, left: list[str]) -> None:
    m = Maker(1, 8)
    m.x.dtype = "int32"
    product = m.op("MUL", m.x, np.int32(factor))
    real = m.op("CAST", product, in_data_type="int32", out_data_type="float32")
    product.dtype, real.dtype = "int32", "float32"
    m.op("ADD", real, Tensor("y", (1, 8)))
    assert rewritten(m.model(), "zero_products") == left


def test_a_look_up_in_a_table_gathers_its_rows() -> None:
    ids, rows = Tensor("ids", (3,), "int32"), Tensor("rows", (3, 4))
    table = Tensor.constant("table", np.arange(20, dtype=np.float32).reshape(5, 4))
    model = model_of([Op.make("EMBEDDING_LOOKUP", [ids, table], [rows])], [ids], [rows])
    assert rewritten(model, "embeddings") == ["GATHER"]


def test_every_rewrite_is_listed_and_says_what_it_does() -> None:
    folder = ROOT / "edgepipe" / "tflite" / "rewrites"
    assert {path.stem for path in folder.glob("[a-z]*.py")} == set(REWRITES)
    for name, rewrite in zip(REWRITES, load_rewrites(), strict=True):
        assert rewrite.name == name
        assert rewrite.says
        assert type(rewrite).__doc__


def test_samples_may_be_named_after_the_signature(
    toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    from edgepipe.tflite.rewrite import _feed

    model = chain(Tensor("x:0", (1, 4)), ("TANH", (1, 4), [], {}))
    model.signatures[0].inputs = [("image", model.main.inputs[0])]
    feeds: Feeds = {"image": np.ones((1, 4), np.float32)}
    assert _feed(model, feeds, 0).sum() == 4
