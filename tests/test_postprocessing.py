"""What is done to outputs before metrics see them, against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepipe.artifact import Port, Signature
from edgepipe.errors import OptionError, TrustRequired, UnknownName, UserCodeError
from edgepipe.request import Request
from edgepipe.validation import postprocessing
from edgepipe.validation.postprocessing import Step


def step(text: str, **settings: Any) -> Step:
    return Step.of(text, Request(model=Path("m"), **settings))


def floats(values: Any) -> Any:
    return np.array(values, np.float32)


def test_softmax_and_sigmoid_of_large_numbers_do_not_overflow() -> None:
    outputs = {"a": floats([[1000.0, 1000.0, -1000.0]]), "b": floats([[0.0, -1000.0]])}
    softmax = step("softmax@a")(outputs)
    assert softmax["a"] == pytest.approx(floats([[0.5, 0.5, 0.0]]))
    assert softmax["b"] is outputs["b"]
    assert step("sigmoid@b")(outputs)["b"] == pytest.approx(floats([[0.5, 0.0]]))
    assert step("sigmoid")({"x": floats([[np.log(3)]])})["x"] == pytest.approx(0.75)


def test_argmax_finds_the_axis_of_the_classes() -> None:
    mask = np.array([[0, 2, 1], [1, 1, 0]])
    scores = np.eye(3, dtype=np.float32)[mask][None]
    assert np.array_equal(
        step("argmax")({"m": np.tile(scores, (1, 3, 3, 1))})["m"][0][:2, :3], mask
    )
    first = np.tile(scores, (1, 3, 3, 1)).transpose(0, 3, 1, 2)
    assert np.array_equal(step("argmax")({"m": first})["m"][0][:2, :3], mask)
    assert np.array_equal(step("argmax:axis=1")({"m": floats([[[1, 5], [2, 3]]])})["m"], [[1, 0]])


def v8(*boxes: tuple[float, ...]) -> Any:
    """Centre, size and scores of a few boxes among many that are nothing, as [1, 4 + K, N]."""
    rows = np.zeros((40, len(boxes[0])), np.float32)
    rows[: len(boxes)] = boxes
    return {"out": rows.T[None]}


def test_yolo_gives_corners_scores_and_classes() -> None:
    found = step("yolo:width=100,height=50")(
        v8((50, 25, 20, 10, 0.1, 0.9), (10, 10, 10, 10, 0.6, 0))
    )
    boxes = found["detections"][0]
    assert boxes == pytest.approx(
        floats([[0.4, 0.4, 0.6, 0.6, 0.9, 1], [0.05, 0.1, 0.15, 0.3, 0.6, 0],
                [0.4, 0.4, 0.6, 0.6, 0.1, 0]])
    )  # fmt: skip


def test_yolo_drops_boxes_that_overlap_a_better_one_of_their_class() -> None:
    near = (
        (0.5, 0.5, 0.2, 0.2, 0.9, 0),
        (0.51, 0.5, 0.2, 0.2, 0.8, 0),
        (0.5, 0.5, 0.2, 0.2, 0, 0.7),
    )
    sure = step("yolo:iou=0.5,conf=0.25")(v8(*near))["detections"][0][:, 4]
    assert sure == pytest.approx([0.9, 0.7])
    # Overlap: 0.19 / 0.21 = 0.905.
    sure = step("yolo:iou=0.91,conf=0.25")(v8(*near))["detections"][0][:, 4]
    assert sure == pytest.approx([0.9, 0.8, 0.7])


def test_older_yolo_multiplies_the_score_of_there_being_anything() -> None:
    rows = np.zeros((1, 30, 7), np.float32)
    rows[0, 3] = (0.5, 0.5, 0.2, 0.2, 0.5, 0.8, 0.1)
    found = step("yolo:form=v5,conf=0.2")({"out": rows})["detections"][0]
    assert found == pytest.approx(floats([[0.4, 0.4, 0.6, 0.6, 0.4, 0]]))


def test_size_of_the_picture_comes_from_the_model() -> None:
    for shape in ((1, 3, 32, 64), (1, 32, 64, 3)):
        ends = Signature((Port("x", shape, "float32"),), (Port("y", (1, 6, 40), "float32"),))
        assert step("yolo").placed(ends).settings == {"height": 32, "width": 64}
        assert step("yolo:width=8").placed(ends).settings == {"height": 32, "width": 8}


def test_ssd_with_its_own_suppression() -> None:
    outputs = {
        "boxes": floats([[[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.9, 0.8]]]),
        "classes": floats([[3, 0]]),
        "scores": floats([[0.3, 0.9]]),
        "count": floats([2]),
    }
    found = step("ssd")(outputs)["detections"][0]
    assert found == pytest.approx(
        floats([[0.5, 0.5, 0.8, 0.9, 0.9, 0], [0.2, 0.1, 0.4, 0.3, 0.3, 3]])
    )


def test_ssd_of_scores_leaves_the_background_out() -> None:
    outputs = {
        "boxes": floats([[[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.3, 0.31]]]),
        "scores": floats([[[0.8, 0.2, 0.0], [0.1, 0.9, 0.0]]]),
    }
    found = step("ssd:background=0,order=xyxy,iou=0.5,conf=0.1")(outputs)["detections"][0]
    assert found == pytest.approx(floats([[0.1, 0.1, 0.3, 0.31, 0.9, 0]]))


@pytest.mark.parametrize("name", ["yolo", "ssd"])
def test_outputs_that_are_no_boxes_are_named(name: str) -> None:
    with pytest.raises(OptionError, match=r"'a' \[1, 10\]") as caught:
        step(name)({"a": np.zeros((1, 10), np.float32)})
    assert "module:function" in caught.value.hint


def test_what_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownName) as caught:
        step("softmx")
    assert "did you mean softmax" in caught.value.hint
    with pytest.raises(UnknownName, match="setting of yolo 'confidence'"):
        step("yolo:confidence=0.3")
    with pytest.raises(OptionError, match="conf takes a number"):
        step("yolo:conf=high")
    with pytest.raises(UnknownName, match="output of the model 'b'"):
        step("softmax@b")({"a": floats([[1]])})
    with pytest.raises(TrustRequired, match="post-processing would run it"):
        step("mine:decode")


def test_ports_say_what_comes_of_the_outputs() -> None:
    ends = Signature((), (Port("scores", (1, 8, 8, 3), "float32"),))
    (port,) = postprocessing.ports([step("argmax").to_json()], ends.to_json())
    assert (port["name"], port["shape"], port["dtype"]) == ("scores", (1, 8, 8), "int64")
    ends = Signature((), (Port("out", (1, 6, 40), "float32"),))
    (port,) = postprocessing.ports([step("yolo").to_json()], ends.to_json())
    assert (port["name"], port["shape"]) == ("detections", (1, None, 6))


def test_users_function_gives_outputs_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "own_decoding.py").write_text(
        "def halve(outputs):\n    return {'half': outputs['a'] / 2}\n"
        "def bare(outputs):\n    return outputs['a']\n"
        "def broken(outputs):\n    return outputs['b']\n"
    )

    def made(name: str) -> Step:
        return step(f"own_decoding:{name}", trust=True, python_path=(str(tmp_path),))

    outputs = {"a": floats([[4.0]])}
    assert made("halve")(outputs)["half"] == pytest.approx(2)
    assert made("bare")(outputs)["output"] == pytest.approx(4)
    with pytest.raises(UserCodeError, match="KeyError: 'b'"):
        made("broken")(outputs)
    again = Step.from_json(made("halve").to_json())
    assert again == made("halve") and again.digest
