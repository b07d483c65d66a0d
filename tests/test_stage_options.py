"""Options of a stage: text and TOML values read as the field's type, or refused by name."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from edgepipe.artifact import Port, Signature
from edgepipe.errors import OptionError, UnknownName
from edgepipe.stage import Options, Product, option


@dataclass(frozen=True)
class Sample(Options):
    """One field of every type."""

    flag: bool = option(False, "a flag")
    count: int = option(3, "a count")
    ratio: float = option(0.5, "a ratio")
    name: str = option("x", "a name")
    mode: Literal["fast", "small"] = option("fast", "a mode")
    opset: Literal[13, 17] = option(17, "a number of several")
    limit: int | None = option(None, "a limit")
    axes: tuple[int, ...] = option((), "axes")
    words: tuple[str, ...] = option(("a",), "words")


def read(field: str, value: Any) -> Any:
    return getattr(Sample.from_settings({field: value}, "sample"), field)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        *(("flag", value, True) for value in (True, "true", "1", "YES", "on", 1)),
        *(("flag", value, False) for value in (False, "false", "0", "No", "off", 0)),
        ("count", "7", 7),
        ("count", -7, -7),
        ("count", 7.0, 7),
        ("ratio", "0.25", 0.25),
        ("ratio", 2, 2.0),
        ("name", "some words", "some words"),
        ("name", 5, "5"),
        ("mode", "small", "small"),
        ("opset", "13", 13),
        ("opset", 13, 13),
        ("limit", "5", 5),
        *(("limit", value, None) for value in (None, "", "none")),
        ("axes", "1,2,3", (1, 2, 3)),
        ("axes", [1, "2"], (1, 2)),
        ("axes", 4, (4,)),
        ("axes", "", ()),
        ("words", "a,b", ("a", "b")),
    ],
)
def test_value_is_read_as_the_type_of_its_field(field: str, value: Any, expected: Any) -> None:
    found = read(field, value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("flag", "maybe", "sample.flag takes bool, received 'maybe'"),
        ("flag", 2, "sample.flag takes bool, received 2"),
        ("count", "many", "sample.count takes int, received 'many'"),
        ("count", 1.5, "sample.count takes int, received 1.5"),
        ("count", "1.5", "sample.count takes int, received '1.5'"),
        ("count", True, "sample.count takes int, received True"),
        ("count", [1], "sample.count takes int"),
        ("count", None, "sample.count takes int, received None"),
        ("count", float("inf"), "sample.count takes int, received inf"),
        ("ratio", "much", "sample.ratio takes float"),
        ("ratio", "nan", "sample.ratio takes float, received 'nan'"),
        ("ratio", float("inf"), "sample.ratio takes float, received inf"),
        ("limit", "few", "sample.limit takes int, received 'few'"),
        ("axes", "1,two", "sample.axes takes int, received 'two'"),
    ],
)
def test_value_of_another_type_is_refused_by_name(field: str, value: Any, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        read(field, value)
    assert words in caught.value.message


@pytest.mark.parametrize(("field", "value"), [("mode", "smal"), ("opset", 12)])
def test_value_that_is_not_on_the_list_is_told_the_list(field: str, value: Any) -> None:
    with pytest.raises(UnknownName, match=f"unknown value for sample.{field} '{value}'") as caught:
        read(field, value)
    assert caught.value.details["known"] in (["fast", "small"], ["13", "17"])


def test_unknown_field_is_told_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="unknown option of sample 'ratios'") as caught:
        Sample.from_settings({"ratios": 1}, "sample")
    assert caught.value.hint.startswith("did you mean ratio?")


def test_defaults_stand_where_nothing_is_set() -> None:
    assert Sample.from_settings({}, "sample") == Sample()


def test_options_go_to_a_worker_and_come_back() -> None:
    made = Sample.from_settings({"axes": "1,2", "limit": 4, "flag": "on"}, "sample")
    sent = json.loads(json.dumps(made.key(), allow_nan=False))
    assert Sample.from_settings(sent, "sample") == made
    assert Sample.from_settings(json.loads(json.dumps(Sample().key())), "sample") == Sample()


def test_every_field_says_what_it_is() -> None:
    assert set(Sample.names()) == {field.name for field in dataclasses.fields(Sample)}
    assert Sample.names()["axes"] == "axes"


def test_product_survives_json() -> None:
    signature = Signature((Port("x", (1, 3), "float32"),), (Port("y", (1,), "float32", "y:0"),))
    product = Product(Path("m.onnx"), signature, {"y": [None, (0, 2, 1)]}, ("a note",))
    assert Product.from_json(json.loads(json.dumps(product.to_json()))) == product
