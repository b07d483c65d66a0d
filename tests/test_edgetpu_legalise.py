"""Making models legal for the Edge TPU: each rewrite on one operator, proven, and undone."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from legalise_cases import CASES, Case, real
from tflite_models import conv, model_of

import edgepipe
from edgepipe.cli.main import run
from edgepipe.cli.preflight import preflight as command
from edgepipe.errors import ModelNotFound, UnknownFormat, UnsupportedModel
from edgepipe.targets.edgetpu import legalising, op_releases, remedies, rules
from edgepipe.targets.edgetpu.legalise import gelu
from edgepipe.targets.edgetpu.preflight import MAPPED, of_model
from edgepipe.tflite import encode, flatbuffer, loading, record, saving
from edgepipe.tflite.graph import Op, Tensor

ROOT = Path(edgepipe.__file__).parent.parent

LEGALISE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy
from edgepipe.targets.edgetpu import legalising
from edgepipe.targets.edgetpu.legalise.float_ends import real
from edgepipe.tflite import loading, rewrite

def furthest(before, after):
    random = numpy.random.default_rng(7)
    old, new = loading.load(before).main, loading.load(after).main
    stored = [random.integers(-128, 128, one.shape).astype(one.dtype) for one in new.inputs]
    new_feeds = {one.name: values for one, values in zip(new.inputs, stored)}
    old_feeds = {
        one.name: values if one.dtype == "int8" else real(other, values)
        for one, other, values in zip(old.inputs, new.inputs, stored)
    }
    one, other = (rewrite.run_litert(path, [feeds])[0]
                  for path, feeds in ((before, old_feeds), (after, new_feeds)))
    steps = [end.quantization.scales[0] for end in new.outputs]
    return max(
        float(abs(real(a, x).astype("float64") - real(b, y)).max() / step)
        for a, b, x, y, step in zip(old.outputs, new.outputs, one, other, steps)
    )

for name in sys.argv[2:]:
    before = Path(name)
    after = before.with_name("legal_" + before.name)
    try:
        notes = legalising.legalise(before, after)
        print(json.dumps([before.stem, notes, furthest(before, after)]), flush=True)
    except Exception as error:
        print(json.dumps([before.stem, [f"failed: {error}"], 1e9]), flush=True)
"""

Done = dict[str, tuple[Path, list[str], float]]


@pytest.fixture(scope="module")
def done(toolchain: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Done:
    """All cases, in one process with LiteRT."""
    folder = tmp_path_factory.mktemp("legal")
    paths = [folder / f"{case.name}.tflite" for case in CASES]
    for case, path in zip(CASES, paths, strict=True):
        saving.save(case.build(), path)
    return {
        name: (folder / f"legal_{name}.tflite", notes, steps)
        for name, notes, steps in legalised(toolchain("edge"), *paths)
    }


def legalised(python: Path, *paths: Path) -> list[Any]:
    """Name, notes and the largest difference in steps, of each."""
    done = subprocess.run(
        [str(python), "-c", LEGALISE, str(ROOT), *map(str, paths)],
        capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


@pytest.mark.toolchain("edge")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_operator_becomes_legal_and_computes_the_same(case: Case, done: Done) -> None:
    path, notes, steps = done[case.name]
    assert path.exists(), notes
    model = loading.load(path)
    assert [op.name for op in model.main.ops] == case.ops.split()
    assert {note.partition(":")[0] for note in notes} >= set(case.rewrites), notes
    assert not any("undone" in note for note in notes), notes
    assert steps <= case.steps + 1e-3
    assert of_model(model).full, of_model(model).table()
    assert all(op_releases.certain(op.name, op.version) for op in model.main.ops)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_was_not_legal_before(case: Case, tmp_path: Path) -> None:
    saving.save(case.build(), tmp_path / "before.tflite")
    found = of_model(loading.load(tmp_path / "before.tflite"))
    hidden = {"wide_paddings", "mean_of_moved_channels", "free_batch"}
    hidden |= {"dense_that_keeps_dimensions", "summed_stack"}
    assert not found.full or case.name in hidden, "the rewrite has nothing to mend"


def test_every_rewrite_has_a_case() -> None:
    named = {name for case in CASES for name in case.rewrites}
    ours = {name.rpartition(".")[2] for name in legalising.INTEGER}
    assert ours <= named | {"transposes", "float_islands"}
    assert {name.rpartition(".")[2] for name in legalising.FLOAT if "." in name} <= named


@pytest.mark.toolchain("edge")
def test_gelu_where_its_error_counts_is_undone(
    toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    """Around -2.5 the result is small, and x * logistic(1.702 x) is as far off as it is large."""
    x, moved, y = real("x", (1, 8), 0.002, 0), real("m", (1, 8), 0.03, 0), real("y", (1, 8), 2e-4)
    far = Tensor.constant(
        "far", np.array([-125], np.int8), quantization=real("q", (1,), 0.02, 0).quantization
    )
    saving.save(
        model_of([Op.make("ADD", [x, far], [moved]), Op.make("GELU", [moved], [y])], [x], [y]),
        tmp_path / "far.tflite",
    )
    ((_, notes, steps),) = legalised(toolchain("edge"), tmp_path / "far.tflite")
    assert "gelu: undone 1x, the result changed" in notes
    assert steps == 0
    left = loading.load(tmp_path / "legal_far.tflite").main
    assert [op.name for op in left.ops] == ["ADD", "GELU"]


@pytest.mark.toolchain("edge")
def test_versions_are_lowered_to_what_is_needed(
    toolchain: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, path = real("x", (1, 8)), real("y", (1, 8)), tmp_path / "new.tflite"
    with monkeypatch.context() as patched:
        patched.setattr(saving, "lowest_version", lambda op: 3)
        saving.save(model_of([Op.make("RELU", [x], [y])], [x], [y]), path)
    assert loading.load(path).main.ops[0].version == 3
    ((_, notes, _),) = legalised(toolchain("edge"), path)
    assert notes == ["versions: lowered to what is needed (RELU 3 to 2)"]
    assert loading.load(tmp_path / "legal_new.tflite").main.ops[0].version == 2


@pytest.mark.toolchain("edge")
def test_command_fixes_what_it_can(toolchain: Callable[[str], Path], tmp_path: Path) -> None:
    toolchain("edge")
    case = next(one for one in CASES if one.name == "hard_swish")
    given, out = tmp_path / "given.tflite", tmp_path / "new" / "out.tflite"
    saving.save(case.build(), given)
    arguments = ["preflight", str(given), "--require-full-mapping"]
    assert run(arguments) == 5
    assert run([*arguments, "--fix"]) == 2
    assert run([*arguments, "--fix", "-o", str(given)]) == 2
    shown = CliRunner().invoke(command, [str(given), "--fix", "-o", str(out)])
    assert shown.exit_code == 0, shown.output
    for words in ("0 of 1 ops", "hard_swish: HARD_SWISH became ADD", "3 of 3 ops", MAPPED):
        assert words in shown.output
    assert run(["preflight", str(out), "--require-full-mapping"]) == 0
    fixed = edgepipe.legalise(given, out)
    assert (fixed.before.mapped, fixed.after.mapped, fixed.after.full) == (0, 3, True)


def test_preflight_names_the_rewrites_that_there_are(tmp_path: Path) -> None:
    named = {
        *(name for names in remedies.OF_RULES.values() for name in names),
        *(name for names in remedies.OF_OPERATORS.values() for name in names),
    }
    known = {name.rpartition(".")[2] for name in legalising.INTEGER}
    assert named <= known | {"versions", "float_ends"}
    assert set(remedies.OF_RULES) <= {rule.name for rule in rules.RULES}
    case = next(one for one in CASES if one.name == "hard_swish")
    (verdict,) = of_model(case.build()).verdicts
    assert verdict.fix.endswith("--fix may: hard_swish")


@pytest.mark.toolchain("edge")
def test_what_custom_operators_read_is_compared_where_they_cannot_run(
    toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    x, y, z = real("x", (1, 4, 4, 8)), real("y", (1, 4, 4, 8)), Tensor("z", (1, 3))
    ops = [
        Op.make("LEAKY_RELU", [x], [y], alpha=0.2),
        Op("CUSTOM", [y], [z], custom="NobodyKnowsThis"),
    ]
    saving.save(model_of(ops, [x], [z]), tmp_path / "custom.tflite")
    toolchain("edge")
    fixed = edgepipe.legalise(tmp_path / "custom.tflite", tmp_path / "out.tflite")
    assert fixed.notes[0].startswith("leaky_relu: ")
    made = loading.load(fixed.path).main
    assert [op.label for op in made.ops] == ["PRELU", "CUSTOM:NobodyKnowsThis"]


def test_what_cannot_be_made_legal_is_refused_early(tmp_path: Path) -> None:
    x, y = Tensor("x", (1, 8)), Tensor("y", (1, 8))
    path = tmp_path / "float.tflite"
    saving.save(model_of([Op.make("RELU", [x], [y])], [x], [y]), path)
    with pytest.raises(UnsupportedModel, match="float model"):
        edgepipe.legalise(path, tmp_path / "out.tflite")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnknownFormat):
        edgepipe.legalise(path, tmp_path / "out.tflite")
    with pytest.raises(ModelNotFound):
        edgepipe.legalise(tmp_path / "none.tflite", tmp_path / "out.tflite")


@pytest.mark.toolchain("edge")
def test_weights_behind_the_flatbuffer_come_inside(
    toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "model.tflite"
    saving.save(conv(), path)
    assert not legalising.has_buffers_outside(path)
    reader = flatbuffer.Reader(path.read_bytes())
    root = record.decode(reader, reader.follow(0), "Model")
    moved = [np.array(one.data) for one in root.buffers if one.data is not None]
    end = 2
    for _ in range(2):  # The second time with the places that the first one tells.
        places = np.cumsum([end, *(len(one) for one in moved)]).tolist()
        numbers = iter(range(len(moved)))
        root.buffers = [
            one if one.data is None and not one.size
            else record.Record("Buffer", offset=places[n := next(numbers)], size=len(moved[n]))
            for one in root.buffers
        ]  # fmt: skip
        data = b"".join(bytes(piece) for piece in encode.encode(root, b"TFL3"))
        end = len(data)
    path.write_bytes(data + b"".join(one.tobytes() for one in moved))
    assert legalising.has_buffers_outside(path)
    ((_, notes, steps),) = legalised(toolchain("edge"), path)
    assert (notes, steps) == ([], 0)
    assert not legalising.has_buffers_outside(tmp_path / "legal_model.tflite")


def test_the_error_that_is_told_of_gelu_is_its_largest() -> None:
    x = np.linspace(-12, 12, 24_001)
    true = x * np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in x])
    worst = float(np.abs(true - x / (1 + np.exp(-gelu.SLOPE * x))).max())
    assert gelu.LARGEST_ERROR - 1e-4 < worst <= gelu.LARGEST_ERROR


@pytest.mark.toolchain("edge")
def test_operators_that_are_too_new_in_integers_no_longer_refuse_the_model(
    toolchain: Callable[[str], Path], tmp_path: Path
) -> None:
    x, y, z = real("x", (1, 8)), real("y", (1, 8)), real("z", (1, 8), 0.1, -128)
    ops = [Op.make("RELU", [x], [y]), Op.make("EXP", [y], [z])]
    path = tmp_path / "new.tflite"
    saving.save(model_of(ops, [x], [z]), path)
    assert "'EXP' version '2'" in of_model(loading.load(path)).refused[0]
    ((_, notes, steps),) = legalised(toolchain("edge"), path)
    assert notes[0].startswith("float_islands: ") and steps <= 1
    found = of_model(loading.load(tmp_path / "legal_new.tflite"))
    assert [one.op for one in found.verdicts] == ["RELU", "DEQUANTIZE", "EXP", "QUANTIZE"]
    assert (found.refused, found.mapped) == ((), 1)
