"""The tree of errors: as drawn, with its exit codes, through JSON and pickle and back."""

from __future__ import annotations

import json
import pickle
import re

import pytest

from edgepipe import errors
from edgepipe.errors import EdgepipeError, InternalError, StageFailed, UnknownName


def every_class() -> list[type[EdgepipeError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, EdgepipeError)
    ]


def drawn() -> list[tuple[str, str, int | None]]:
    """(name, name of its parent, exit code if one is drawn), off the docstring."""
    found: list[tuple[str, str, int | None]] = []
    above: list[str] = ["EdgepipeError"]
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([│ ]*)[├└]── (\w+) *(\d)?", line)
        if match:
            depth = len(match[1]) // 4 + 1
            found.append((match[2], above[depth - 1], int(match[3]) if match[3] else None))
            above[depth:] = [match[2]]
    return found


def test_tree_in_the_docstring_is_the_tree() -> None:
    real = {(kind.__name__, kind.__mro__[1].__name__) for kind in every_class()}
    assert {(name, parent) for name, parent, _ in drawn()} == real - {
        ("EdgepipeError", "Exception")
    }
    assert len(drawn()) == len(real) - 1


def test_exit_codes_are_those_drawn_and_inherited() -> None:
    by_name = {kind.__name__: kind for kind in every_class()}
    codes = {"EdgepipeError": 1}
    for name, parent, code in drawn():
        codes[name] = code if code is not None else codes[parent]
        assert by_name[name].exit_code == codes[name], name
    assert set(codes.values()) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: str(kind.__name__))
def test_error_survives_json_and_pickle(kind: type[EdgepipeError]) -> None:
    error = kind("what came", hint="what to do", log="x.log", known=["a", "b"])
    for again in (
        EdgepipeError.from_json(json.loads(json.dumps(error.to_json()))),
        pickle.loads(pickle.dumps(error)),
    ):
        assert type(again) is kind
        assert (again.message, again.hint, str(again)) == ("what came", "what to do", "what came")
        assert again.details == {"log": "x.log", "known": ["a", "b"]}


def test_error_of_an_unknown_name_is_our_bug() -> None:
    error = EdgepipeError.from_json({"error": "FromTheFuture", "message": "hm"})
    assert type(error) is InternalError
    assert (error.message, error.hint, error.details) == ("hm", "", {})


def test_class_that_is_not_in_the_tree_yet_is_found_by_name() -> None:
    class LocalError(StageFailed):
        pass

    assert type(pickle.loads(pickle.dumps(LocalError("x")))) is LocalError
    assert LocalError("x").exit_code == StageFailed.exit_code


def test_unknown_name_lists_the_known_and_guesses() -> None:
    error = UnknownName.of("target", "tflit", {"tflite": 1, "onnx": 2})
    assert error.message == "unknown target 'tflit'"
    assert error.hint == "did you mean tflite? Known: onnx, tflite."
    assert error.details == {"known": ["onnx", "tflite"], "name": "tflit"}


def test_unknown_name_without_any_known() -> None:
    assert UnknownName.of("route", "x", []).hint == "Known: none."
