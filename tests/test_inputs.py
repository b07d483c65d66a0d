"""`--input`: how it is read, what it closes, and what is said where it can't be."""

from __future__ import annotations

import pytest

from edgepipe import inputs
from edgepipe.artifact import Port, Signature
from edgepipe.errors import InputError
from edgepipe.inputs import InputSpec

IMAGE = Port("image", (None, 3, None, None), "float32")
TOKENS = Port("tokens", (None, 16), "int64")
UNKNOWN = Port("x", None, "float32")


def pinned(*ports: Port, given: str = "") -> list[Port]:
    specs = [inputs.parse(text) for text in given.split()]
    return list(inputs.pin(Signature(ports, ()), specs).inputs)


@pytest.mark.parametrize(
    ("text", "name", "shape", "dtype"),
    [
        ("image=1x3x224x224:float32", "image", (1, 3, 224, 224), "float32"),
        ("image=1x3", "image", (1, 3), None),
        ("1x3:int8", "", (1, 3), "int8"),
        ("7", "", (7,), None),
        ("t=:int64", "t", (), "int64"),
        ("t=", "t", (), None),
        ("serving_default_x:0=1x8", "serving_default_x:0", (1, 8), None),
        ("a=b=2:bool", "a=b", (2,), "bool"),
    ],
)
def test_reads_every_form(text: str, name: str, shape: tuple[int, ...], dtype: str | None) -> None:
    assert inputs.parse(text) == InputSpec(name, shape, dtype)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x=1x3:float33", "'float33' is no type"),
        ("x=1x?x3", r"'1x\?x3' is no shape"),
        ("x=1x-3", "'1x-3' is no shape"),
        ("x=1,3,224", "'1,3,224' is no shape"),
        ("x=1xx3", "'1xx3' is no shape"),
        ("image", "'image' is no shape"),
        ("x=1x0x3", "a dimension of 0"),
        ("x=1x3:", "'' is no type"),
    ],
)
def test_refuses_what_is_no_input(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        inputs.parse(text)
    assert repr(text) in caught.value.message


def test_open_batch_becomes_one() -> None:
    assert pinned(TOKENS) == [Port("tokens", (1, 16), "int64")]


def test_closed_shape_needs_nothing() -> None:
    port = Port("x", (2, 3), "float32", tensor="x:0", high=7)
    assert pinned(port) == [port]
    assert pinned(Port("s", (), "float32")) == [Port("s", (), "float32")]


def test_given_shape_closes_every_dimension() -> None:
    (port,) = pinned(IMAGE, given="image=2x3x96x64")
    assert port == Port("image", (2, 3, 96, 64), "float32")


def test_unknown_shape_and_type_are_taken_as_given() -> None:
    assert pinned(UNKNOWN, given="x=1x4:int32") == [Port("x", (1, 4), "int32")]
    assert pinned(UNKNOWN, given="x=:float32") == [Port("x", (), "float32")]


def test_nameless_specs_are_taken_in_order() -> None:
    image, tokens = pinned(IMAGE, TOKENS, given="1x3x8x8 4x16")
    assert (image.shape, tokens.shape) == ((1, 3, 8, 8), (4, 16))


def test_what_is_left_open_is_asked_for_with_an_example_that_works() -> None:
    with pytest.raises(InputError, match=r"image \?x3x\?x\? float32") as caught:
        pinned(IMAGE, TOKENS, UNKNOWN)
    hint = caught.value.hint
    assert "tokens" not in hint
    example = hint.partition(": ")[2].replace("--input ", "")
    shapes = [port.shape for port in pinned(IMAGE, TOKENS, UNKNOWN, given=example)]
    assert shapes == [(1, 3, 224, 224), (1, 16), (1, 3, 224, 224)]
    assert caught.value.details["inputs"][0]["shape"] == (None, 3, None, None)


def test_batch_of_one_input_is_shared_with_those_not_named() -> None:
    mask = Port("mask", (None, 16), "bool")
    fixed = Port("scale", (1, 2), "float32")
    shapes = [
        port.shape for port in pinned(IMAGE, TOKENS, mask, fixed, given="image=4x3x8x8 tokens=4x16")
    ]
    assert shapes == [(4, 3, 8, 8), (4, 16), (4, 16), (1, 2)]


def test_batches_that_differ_are_refused_where_one_is_left_to_infer() -> None:
    mask = Port("mask", (None, 16), "bool")
    with pytest.raises(InputError, match="received several: image 1; tokens 4") as caught:
        pinned(IMAGE, TOKENS, mask, given="image=1x3x8x8 tokens=4x16")
    assert "name 'mask', too" in caught.value.hint
    named = pinned(IMAGE, TOKENS, mask, given="image=1x3x8x8 tokens=4x16 mask=4x16")
    assert [port.shape for port in named] == [(1, 3, 8, 8), (4, 16), (4, 16)]


def test_example_gives_the_state_of_a_recurrent_net_its_batch() -> None:
    state = Port("state", (2, None, 128), "float32")
    sound = Port("sound", (None, None, 40), "float32")
    with pytest.raises(InputError) as caught:
        pinned(state, sound)
    assert caught.value.hint.endswith("state=2x1x128:float32 --input sound=1x16x40:float32")
    with pytest.raises(InputError) as caught:
        pinned(TOKENS, state, given="tokens=3x16")
    assert caught.value.hint.endswith("state=2x3x128:float32")


def test_text_is_refused_before_its_shape_is_asked_for() -> None:
    text = Port("text", (None, None), "string")
    with pytest.raises(InputError, match=r"takes text: text \?x\? string") as caught:
        pinned(TOKENS, text)
    assert "vectoriser" in caught.value.hint and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("picture=1x3x8x8", "the model has no input 'picture'"),
        ("image=1x4x8x8", r"image' is \?x3x\?x\? in the model, received 1x4x8x8"),
        ("image=3x8x8", "received 3x8x8"),
        ("image=", "received scalar"),
        ("image=1x3x8x8:int8", "of type float32 in the model, received int8"),
        ("image=1x3x8x8 image=1x3x8x8", "given twice"),
        ("tokens=1x16 1x16", "given twice"),
        ("1x3x8x8 1x16 1", "3 --input were given and the model has 2"),
    ],
)
def test_input_that_does_not_fit_is_refused(given: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        pinned(IMAGE, TOKENS, given=given)


def test_wrong_name_lists_the_right_ones() -> None:
    with pytest.raises(InputError) as caught:
        pinned(IMAGE, TOKENS, given="picture=1x3x8x8")
    assert caught.value.hint == "its inputs are: image ?x3x?x? float32; tokens ?x16 int64."
    assert caught.value.details["known"] == ["image", "tokens"]


def test_model_without_inputs_is_refused() -> None:
    with pytest.raises(InputError, match="no inputs"):
        pinned()


@pytest.mark.parametrize(
    ("shape", "words"), [(None, "of unknown shape"), ((), "scalar"), ((None, 2), "?x2")]
)
def test_shapes_in_words(shape: tuple[int | None, ...] | None, words: str) -> None:
    assert inputs.shape_words(shape) == words
