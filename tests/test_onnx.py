"""ONNX models: what `onnx_clean` makes of them, and how the runner feeds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepipe import onnx_file
from edgepipe.artifact import Artifact
from edgepipe.errors import EdgepipeError, InputError, UnknownName

pytestmark = pytest.mark.toolchain("edge")

Build = Callable[[str, str], Path]
MakeArtifact = Callable[..., Artifact]
RunStage = Callable[..., Artifact]
Infer = Callable[[Artifact, dict[str, Any]], dict[str, Any]]

MODELS = """
import numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
rng = np.random.default_rng(0)
def value(name, shape, kind=T.FLOAT): return h.make_tensor_value_info(name, kind, shape)
def array(name, values): return nh.from_array(np.asarray(values), name)
def floats(*shape): return rng.normal(size=shape).astype(np.float32)
def save(path, nodes, ins, outs, weights=(), opset=17, ir=8, **saving):
    graph = h.make_graph(nodes, "g", ins, outs, list(weights))
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset)], ir_version=ir)
    onnx.save_model(model, path, **saving)
n = h.make_node

# 1: weights beside the file
save("external.onnx", [n("MatMul", ["x", "w"], ["y"])], [value("x", [1, 64])],
     [value("y", [1, 64])], [array("w", floats(64, 64))],
     save_as_external_data=True, location="external.data", size_threshold=0)

# 2: initializers among the inputs, opset 7
save("old.onnx", [n("Conv", ["x", "w"], ["a"]), n("Upsample", ["a"], ["y"], scales=[1., 1., 2., 2.],
     mode="nearest")], [value("x", [1, 3, 4, 4]), value("w", [2, 3, 1, 1])],
     [value("y", [1, 2, 8, 8])], [array("w", floats(2, 3, 1, 1))], opset=7, ir=3)

# 3: open dimensions, a shape computed from them
save("open.onnx", [n("Shape", ["x"], ["s"]), n("Gather", ["s", "zero"], ["b"], axis=0),
     n("Concat", ["b", "minus"], ["to"], axis=0), n("Reshape", ["x", "to"], ["r"]),
     n("Identity", ["r"], ["y"])], [value("x", ["batch", 2, 6])], [value("y", ["batch", "k"])],
     [array("zero", np.array([0])), array("minus", np.array([-1]))])

# 6: an If whose condition follows from the shape
then = h.make_graph([n("Relu", ["x"], ["t"])], "then", [], [value("t", None)])
other = h.make_graph([n("Neg", ["x"], ["e"])], "else", [], [value("e", None)])
save("branch.onnx", [n("Shape", ["x"], ["s"]), n("Equal", ["s", "five"], ["same"]),
     n("Squeeze", ["same"], ["c"]), n("If", ["c"], ["y"], then_branch=then, else_branch=other)],
     [value("x", ["length"])], [value("y", ["length"])], [array("five", np.array([5]))])

# 6: an If on an input that is always the same
save("rate.onnx", [n("Equal", ["rate", "k"], ["c"]),
     n("If", ["c"], ["y"], then_branch=then, else_branch=other)],
     [value("x", [5]), value("rate", [], T.INT64)], [value("y", [5])],
     [array("k", np.array(16000))])

# 7: what only passes on, and what leads nowhere
save("idle.onnx", [n("Concat", ["x"], ["a"], axis=1), n("Dropout", ["a"], ["b"]),
     n("Identity", ["b"], ["c"]), n("Exp", ["x"], ["unused"]), n("Relu", ["c"], ["y"])],
     [value("x", [1, 4])], [value("y", [1, 4])])

# 5: activations in pieces, a factor that a simplifier would fold into the weights
def gelu(source, out, p):
    return [n("Div", [source, "root"], [p + "d"]), n("Erf", [p + "d"], [p + "e"]),
            n("Add", [p + "e", "one"], [p + "a"]), n("Mul", [source, p + "a"], [p + "m"]),
            n("Mul", [p + "m", "half"], [out])]
f = np.float32
save("gelu.onnx", [*gelu("x", "g", "p"), n("MatMul", ["g", "w"], ["y"])], [value("x", [2, 8])],
     [value("y", [2, 8])], [array("root", f(2 ** 0.5)), array("one", f(1)), array("half", f(.5)),
     array("w", floats(8, 8))])
save("swish.onnx", [n("Add", ["x", "three"], ["a"]), n("Clip", ["a", "zero", "six"], ["c"]),
     n("Mul", ["x", "c"], ["m"]), n("Div", ["m", "six"], ["y"])], [value("x", [2, 8])],
     [value("y", [2, 8])], [array("three", f(3)), array("zero", f(0)), array("six", f(6))],
     opset=13)
save("doubles.onnx", [n("Cast", ["x"], ["d"], to=T.DOUBLE), n("Mul", ["d", "k"], ["y"])],
     [value("x", [2, 8])], [value("y", [2, 8], T.DOUBLE)], [array("k", np.float64(1.5))])

# 9: layer normalization over channels as Keras writes it, with a shift and without, and one that
# only looks like it: what is added is scaled by another factor
def normalization(factor="g", shift=True):
    return [n("ReduceMean", ["x"], ["mean"], axes=[1]), n("Neg", ["mean"], ["negated"]),
            n("Sub", ["x", "mean"], ["d"]), n("Mul", ["d", "d"], ["square"]),
            n("ReduceMean", ["square"], ["v"], axes=[1]), n("Add", ["v", "eps"], ["ve"]),
            n("Sqrt", ["ve"], ["sd"]), n("Reciprocal", ["sd"], ["s"]),
            n("Mul", ["s", "gamma"], ["g"]), n("Mul", ["x", "g"], ["scaled"]),
            n("Mul", ["negated", factor], ["moved"]),
            *([n("Add", ["moved", "beta"], ["rest"])] if shift else []),
            n("Add", ["rest" if shift else "moved", "scaled"], ["y"])]
for name, nodes in (("norm", normalization()), ("norm_bare", normalization(shift=False)),
                    ("norm_other", normalization(factor="gamma"))):
    save(name + ".onnx", nodes, [value("x", [1, 6, 4, 5])], [value("y", [1, 6, 4, 5])],
         [array("eps", f(1e-3)), array("gamma", floats(1, 6, 1, 1)),
          array("beta", floats(1, 6, 1, 1))])

# 8: several ends in an order that sorting would change
save("ends.onnx", [n("Add", ["b", "a"], ["z"]), n("Sub", ["b", "a"], ["y"]), n("Mul", ["z", "y"],
     ["x"])], [value("b", [1, 4]), value("a", [1, 4])],
     [value("z", [1, 4]), value("x", [1, 4]), value("y", [1, 4])])

save("table.onnx", [n("Gather", ["table", "ids"], ["y"])], [value("ids", [3], T.INT64)],
     [value("y", [3, 2])], [array("table", floats(7, 2))])
save("half.onnx", [n("Relu", ["x"], ["y"])], [value("x", [4], T.FLOAT16)],
     [value("y", [4], T.FLOAT16)])
save("unknown.onnx", [n("NoSuchOperator", ["x"], ["y"])], [value("x", [4])], [value("y", [4])])
"""


@pytest.fixture
def models(build: Build) -> Path:
    return build("edge", MODELS)


def agree(infer: Infer, before: Artifact, after: Artifact) -> None:
    """Same names, order and numbers on the same seeded feeds."""
    chance = np.random.default_rng(1)
    feeds: dict[str, Any] = {
        port.name: chance.normal(size=[size or 1 for size in port.shape or ()]).astype(port.dtype)
        for port in before.ends().inputs
    }
    wanted, received = infer(before, feeds), infer(after, feeds)
    assert list(wanted) == list(received)
    for name, array in wanted.items():
        np.testing.assert_allclose(received[name], array, rtol=1e-5, atol=1e-6)


def ops(made: Artifact) -> dict[str, int]:
    return onnx_file.read(made.path).ops


@pytest.mark.parametrize(
    "name",
    [
        "external",
        "old",
        "idle",
        "gelu",
        "swish",
        "doubles",
        "ends",
        "half",
        "norm",
        "norm_bare",
        "norm_other",
    ],
)
def test_the_clean_model_computes_the_same(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, infer: Infer, name: str
) -> None:
    given = artifact(models / f"{name}.onnx")
    agree(infer, given, run_stage("onnx_clean", given))


def test_weights_come_into_the_file(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    made = run_stage("onnx_clean", artifact(models / "external.onnx"))
    assert onnx_file.read(made.path).external == ()
    assert onnx_file.read(made.path).parameters == 64 * 64


def test_old_models_lose_initializer_inputs_and_come_to_a_newer_opset(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    made = run_stage("onnx_clean", artifact(models / "old.onnx"))
    found = onnx_file.read(made.path)
    assert [port.name for port in made.ends().inputs] == ["x"]
    assert found.opsets[""] >= 13
    assert "Upsample" not in found.ops


def test_open_dimensions_are_fixed_and_what_follows_is_folded(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, infer: Infer
) -> None:
    given = artifact(models / "open.onnx", inputs="x=3x2x6")
    made = run_stage("onnx_clean", given)
    assert made.ends().outputs[0].shape == (3, 12)
    assert set(ops(made)) == {"Reshape"}
    agree(infer, given, made)


@pytest.mark.parametrize(("length", "expected"), [(5, "Relu"), (6, "Neg")])
def test_an_if_that_follows_from_shapes_is_decided(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, length: int, expected: str
) -> None:
    given = artifact(models / "branch.onnx", inputs=f"x={length}")
    assert ops(run_stage("onnx_clean", given)) == {expected: 1}


def test_an_if_on_a_constant_input_is_decided_and_the_input_stays(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    given = artifact(models / "rate.onnx")
    assert "If" in ops(run_stage("onnx_clean", given))
    made = run_stage("onnx_clean", given, constants=("rate=16000",))
    assert ops(made) == {"Relu": 1}
    assert [port.name for port in made.ends().inputs] == ["x", "rate"]


def test_a_constant_for_an_unknown_input_lists_the_known(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    with pytest.raises(UnknownName, match="unknown input 'speed'") as caught:
        run_stage("onnx_clean", artifact(models / "rate.onnx"), constants=("speed=1",))
    assert "rate" in caught.value.hint


def test_what_only_passes_on_is_gone(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    assert ops(run_stage("onnx_clean", artifact(models / "idle.onnx"))) == {"Relu": 1}


@pytest.mark.parametrize(("name", "whole"), [("gelu", "Gelu"), ("swish", "HardSwish")])
def test_activations_in_pieces_become_one_operator(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, name: str, whole: str
) -> None:
    given = artifact(models / f"{name}.onnx")
    assert ops(run_stage("onnx_clean", given))[whole] == 1
    assert whole not in ops(run_stage("onnx_clean", given, fuse=False))


@pytest.mark.parametrize(("name", "products"), [("norm", 3), ("norm_bare", 3)])
def test_layer_normalization_subtracts_the_mean_first(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, name: str, products: int
) -> None:
    found = ops(run_stage("onnx_clean", artifact(models / f"{name}.onnx")))
    assert "Neg" not in found
    assert found["Mul"] == products  # the square, the deviation, gamma


def test_what_only_looks_like_layer_normalization_stays(
    models: Path, artifact: MakeArtifact, run_stage: RunStage
) -> None:
    assert ops(run_stage("onnx_clean", artifact(models / "norm_other.onnx")))["Neg"] == 1


def test_doubles_become_floats(models: Path, artifact: MakeArtifact, run_stage: RunStage) -> None:
    given = artifact(models / "doubles.onnx")
    assert run_stage("onnx_clean", given).ends().outputs[0].dtype == "float32"
    wide = run_stage("onnx_clean", given, narrow_doubles=False)
    assert wide.ends().outputs[0].dtype == "float64"


@pytest.mark.parametrize("simplifier", ["onnxsim", "onnxslim", "none"])
def test_every_simplifier_keeps_names_order_and_numbers(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, infer: Infer, simplifier: str
) -> None:
    given = artifact(models / "ends.onnx")
    made = run_stage("onnx_clean", given, simplifier=simplifier)
    assert [port.name for port in made.ends().inputs] == ["b", "a"]
    assert [port.name for port in made.ends().outputs] == ["z", "x", "y"]
    agree(infer, given, made)


def test_operators_can_be_expanded_into_their_definition(
    models: Path, artifact: MakeArtifact, run_stage: RunStage, infer: Infer
) -> None:
    given = artifact(models / "gelu.onnx")
    made = run_stage("onnx_clean", given, expand=("Gelu",))
    assert "Gelu" not in ops(made)
    agree(infer, given, made)


def test_the_runner_bounds_inputs_that_index_a_table(models: Path, artifact: MakeArtifact) -> None:
    assert artifact(models / "table.onnx").ends().inputs[0].high == 7


def test_the_runner_takes_wider_floats_and_refuses_other_kinds(
    models: Path, artifact: MakeArtifact, infer: Infer
) -> None:
    given = artifact(models / "half.onnx")
    assert infer(given, {"x": np.array([-1.0, 2, 3, 4])})["y"].tolist() == [0, 2, 3, 4]
    with pytest.raises(InputError, match="input 'x' takes float16, received int64"):
        infer(given, {"x": np.arange(4)})


def test_a_missing_feed_is_named(models: Path, artifact: MakeArtifact, infer: Infer) -> None:
    with pytest.raises(InputError, match="no data for the input 'b'"):
        infer(artifact(models / "ends.onnx"), {"a": np.zeros((1, 4), np.float32)})


def test_an_unknown_operator_is_an_error_that_names_it(
    models: Path, artifact: MakeArtifact, infer: Infer
) -> None:
    given = artifact(models / "unknown.onnx")
    with pytest.raises(EdgepipeError, match="NoSuchOperator"):
        infer(given, {"x": np.zeros(4, np.float32)})
