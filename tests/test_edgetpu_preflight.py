"""What preflight foretells: rule by rule on one-op models, and on models with a known outcome."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from edgetpu_files import PAIRS, cached, compiled, needs_pairs, options, package, pair
from tflite_models import constant, conv, model_of

import edgepipe
from edgepipe.cli.main import run
from edgepipe.cli.preflight import preflight as command
from edgepipe.errors import LimitError, UnsupportedModel
from edgepipe.targets.edgetpu import op_releases, ops_page, rules
from edgepipe.targets.edgetpu.preflight import MAPPED, SECOND, of_model
from edgepipe.tflite import loading, saving
from edgepipe.tflite.graph import Model, Op, Quantization, Tensor

ROOT = Path(__file__).parents[1]
Shape = tuple[int, ...]


def tensor(name: str, shape: Shape, dtype: str = "int8") -> Tensor:
    known = Quantization((0.5,), (0,)) if dtype.endswith("int8") else None
    return Tensor(name, shape, dtype, quantization=known)


def one_op(name: str, shape: Shape, out: Shape, operands: Sequence[Any] = (), **options: Any) -> Op:
    x, y = tensor("x", shape), tensor("y", out)
    more = [constant(f"c{i}", one) for i, one in enumerate(operands)]
    return Op.make(name, [x, *more], [y], **options)


def alone(op: Op) -> Model:
    ends = [one for one in op.reads() if not one.is_constant]
    return model_of([op], ends, op.outputs)


IMAGE, SMALL = (1, 8, 8, 4), (1, 4, 4, 4)
POOL: dict[str, Any] = {
    "padding": "VALID",
    "stride_w": 2,
    "stride_h": 2,
    "filter_width": 2,
    "filter_height": 2,
}
SLICE = [[0, 0, 0, 0], [1, 8, 8, 4]]


@pytest.mark.parametrize(
    ("op", "status"),
    [
        (one_op("MAX_POOL_2D", IMAGE, SMALL, **POOL), MAPPED),
        (one_op("MAX_POOL_2D", IMAGE, SMALL, **POOL, fused_activation_function="RELU"),
         rules.UNSPECIFIED),
        (one_op("HARD_SWISH", IMAGE, IMAGE), rules.UNSUPPORTED),
        (one_op("RELU", (2, 8, 8, 4), (2, 8, 8, 4)), rules.WRONG_RANK),
        (one_op("RELU", (1, 1, 8, 8, 4), (1, 1, 8, 8, 4)), MAPPED),
        (one_op("SOFTMAX", (1, 10), (1, 10), beta=1.0), MAPPED),
        (one_op("SOFTMAX", (5, 10), (5, 10), beta=1.0), rules.UNSPECIFIED),
        (one_op("SOFTMAX", (1, 16_001), (1, 16_001), beta=1.0), rules.UNSPECIFIED),
        (one_op("MEAN", IMAGE, (1, 4), [[1, 2]]), MAPPED),
        (one_op("MEAN", IMAGE, (8, 8, 4), [[0]]), rules.UNSPECIFIED),
        (one_op("MEAN", IMAGE, (1, 8, 8), [[-1]]), MAPPED),
        (one_op("MEAN", (1, 8, 8, 6), (1, 8, 8), [[3]]), rules.UNSPECIFIED),
        (one_op("PAD", IMAGE, (1, 10, 8, 4), [[[0, 0], [1, 1], [0, 0], [0, 0]]]), MAPPED),
        (one_op("STRIDED_SLICE", IMAGE, IMAGE, [*SLICE, [1, 1, 1, 1]]), MAPPED),
        (one_op("STRIDED_SLICE", IMAGE, SMALL, [*SLICE, [1, 2, 2, 1]]), rules.STRIDES),
        (one_op("RESIZE_BILINEAR", IMAGE, (1, 16, 16, 4), [[16, 16]]), MAPPED),
        (one_op("RESIZE_BILINEAR", (1, 1, 1, 4), IMAGE, [[8, 8]]), rules.IMPRECISE),
        (one_op("RESIZE_BILINEAR", (1, 1, 1, 4), (1, 1, 1, 4), [[1, 1]]), MAPPED),
        (one_op("RESIZE_BILINEAR", (1, 256, 256, 32), (1, 512, 512, 32), [[512, 512]]),
         rules.UNSPECIFIED),
        (one_op("SQUEEZE", (1, 1, 8, 4), (8, 4)), MAPPED),
        (one_op("SQUEEZE", (1, 8, 1, 4), (1, 8, 4)), rules.UNSPECIFIED),
        (Op.make("ADD", [tensor("x", IMAGE, "float32"), tensor("z", IMAGE)],
                 [tensor("y", IMAGE)]), rules.WRONG_TYPE),
        (Op.make("QUANTIZE", [tensor("x", IMAGE, "float32")], [tensor("y", IMAGE)]),
         rules.UNSPECIFIED),
        (Op.make("RESHAPE", [tensor("x", IMAGE), tensor("s", (2,), "int32")],
                 [tensor("y", (1, 256))]), rules.NOT_CONSTANT),
    ],
    ids=lambda value: value.name if isinstance(value, Op) else str(value)[:20],
)  # fmt: skip
def test_one_operator(op: Op, status: str) -> None:
    (verdict,) = of_model(alone(op)).verdicts
    assert verdict.status == status
    assert verdict.mapped == (status == MAPPED)
    assert verdict.mapped or (verdict.rule and verdict.source and verdict.fix)


def test_weights_that_are_computed_are_refused() -> None:
    model = conv()
    weights = model.main.ops[0].inputs[1]
    assert weights is not None
    weights.data = None
    (verdict,) = of_model(model).verdicts
    assert verdict.status == rules.NOT_CONSTANT


def test_a_free_batch_counts_as_one_and_other_free_sizes_do_not() -> None:
    op = one_op("RELU", IMAGE, IMAGE)
    op.outputs[0].signature = (-1, 8, 8, 4)
    assert of_model(alone(op)).full
    op.outputs[0].signature = (1, -1, 8, 4)
    assert not of_model(alone(op)).full


def row(*names: str) -> Model:
    """Operators in a row, the first reading x."""
    ends = [tensor(f"t{i}", IMAGE) for i in range(len(names) + 1)]
    ops = [Op.make(name, [ends[i]], [ends[i + 1]]) for i, name in enumerate(names)]
    return model_of(ops, ends[:1], ends[-1:])


def fates(model: Model, multiple: bool = False) -> list[str]:
    return [one.status for one in of_model(model, multiple).verdicts]


def test_nothing_behind_the_first_break_is_mapped() -> None:
    model = row("RELU", "FLOOR", "RELU")
    assert fates(model) == [MAPPED, rules.UNSUPPORTED, SECOND]
    assert fates(model, multiple=True) == [MAPPED, rules.UNSUPPORTED, MAPPED]


def test_an_operator_on_the_cpu_before_the_first_mapped_one_breaks_nothing() -> None:
    assert fates(row("FLOOR", "RELU", "RELU")) == [rules.UNSUPPORTED, MAPPED, MAPPED]


def test_a_break_on_one_branch_leaves_the_other() -> None:
    a, b, c, d = (tensor(name, IMAGE) for name in "abcd")
    ops = [Op.make("RELU", [a], [b]), Op.make("FLOOR", [b], [c]), Op.make("RELU6", [b], [d])]
    assert fates(model_of(ops, [a], [c, d])) == [MAPPED, rules.UNSUPPORTED, MAPPED]


def test_a_version_that_the_compiler_cannot_read_refuses_the_whole_model() -> None:
    model = conv()
    model.main.ops[0].version = 6
    found = of_model(model)
    assert found.refused == ("Didn't find op for builtin opcode 'CONV_2D' version '6'",)
    assert found.mapped == 0
    model.main.ops[0].version = 5
    found = of_model(model)
    assert found.full
    assert "CONV_2D version 5" in found.warnings[0]


def test_the_parse_failures_that_were_seen_are_foretold() -> None:
    seen = [("QUANTIZE", 3), ("TILE", 3), ("CONV_2D", 6), ("EXP", 2), ("TRANSPOSE_CONV", 4)]
    assert not any(op_releases.readable(*one) for one in seen)
    assert all(op_releases.certain(*one) for one in [("CONV_2D", 3), ("FULLY_CONNECTED", 4)])


def test_float_and_compiled_models_are_refused() -> None:
    op = Op.make("RELU", [tensor("x", IMAGE, "float32")], [tensor("y", IMAGE, "float32")])
    found = of_model(alone(op))
    assert "Model not quantized" in found.refused[0]
    with pytest.raises(LimitError, match="not quantized"):
        found.check()
    with pytest.raises(UnsupportedModel, match="compiled for the Edge TPU already"):
        of_model(compiled(options(package(cached()))))


def test_several_subgraphs_are_refused() -> None:
    model = conv()
    model.graphs.append(conv().main)
    assert "2 subgraphs" in of_model(model).refused[0]


def test_command_shows_words_rule_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    saving.save(row("RELU", "FLOOR", "RELU"), path)
    shown = CliRunner().invoke(command, [str(path)])
    assert shown.exit_code == 0, shown.output
    for words in ("1 of 3 ops", rules.UNSUPPORTED, SECOND, "documented", "→"):
        assert words in shown.output
    facts = json.loads(CliRunner().invoke(command, [str(path), "--json"]).output)
    assert (facts["mapped"], facts["cpu"]) == (1, 2)
    assert run(["preflight", str(path), "--require-full-mapping"]) == 5
    assert run(["preflight", str(tmp_path / "none.tflite")]) == 2
    saving.save(conv(), path)
    assert run(["preflight", str(path), "--target", "edgetpu", "--require-full-mapping"]) == 0
    assert edgepipe.preflight(path).full


def test_page_of_operators_is_current() -> None:
    words = "it is made by `python -m edgepipe.targets.edgetpu.ops_page`"
    assert (ROOT / ops_page.PATH).read_text(encoding="utf-8") == ops_page.page(), words


def test_every_rule_says_what_it_is_and_where_from() -> None:
    for rule in rules.RULES:
        assert rule.words.endswith("."), rule.name
        assert "{" not in rule.words
        assert rule.source
        assert rule.fix
        assert set(rule.ops) <= rules.SUPPORTED | {"CUSTOM"}


def test_a_thousand_operators_take_less_than_two_seconds(tmp_path: Path) -> None:
    saving.save(row(*["RELU"] * 1000), tmp_path / "long.tflite")
    start = time.perf_counter()
    assert edgepipe.preflight(tmp_path / "long.tflite").mapped == 1000
    assert time.perf_counter() - start < 2


@needs_pairs
@pytest.mark.parametrize("entry", PAIRS, ids=lambda entry: str(entry["compiled"])[:40])
def test_foretells_what_the_real_compiler_did(entry: dict[str, Any]) -> None:
    found = of_model(loading.load(pair("source", entry)))
    said = [(one.index, one.op, "TPU" if one.mapped else "CPU") for one in found.verdicts]
    assert said == [tuple(op) for op in entry["ops"]]
    assert not found.refused


def test_dense_rows_need_one_dimension() -> None:
    weights = Tensor.constant("w", np.ones((3, 4)), "int8", Quantization((0.1,), (0,)))
    for rows, status in ((1, MAPPED), (7, rules.UNSPECIFIED)):
        op = Op.make("FULLY_CONNECTED", [tensor("x", (rows, 4)), weights, None],
                     [tensor("y", (rows, 3))])  # fmt: skip
        assert fates(alone(op)) == [status]
