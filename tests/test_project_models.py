"""[models.*] of an edgepipe.toml: inheritance, paths, and every mistake named with file and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgepipe import settings
from edgepipe.cli.main import run
from edgepipe.errors import EdgepipeError, OptionError, UnknownName
from edgepipe.project import keys, models, schema
from edgepipe.project.models import Case, Project
from edgepipe.validation import limits

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits_keras"


def project(folder: Path, text: str) -> Project:
    (folder / "edgepipe.toml").write_text(text)
    return models.read(folder / "edgepipe.toml")


def test_models_inherit_tables_key_by_key_and_lists_whole(tmp_path: Path) -> None:
    read = project(
        tmp_path,
        """
        [gates]
        min-top1 = 0.9
        max-drop = "1 points"

        [defaults]
        precision = "int8"
        calibration = "train.npz"
        columns = ["a", "b"]
        limit = 50
        preprocessing = { scale = 0.5, crop = "none" }
        [defaults.gates]
        max-drop = "2 points"

        [models.one]
        model = "nets/one.h5"
        validate = "random"
        columns = ["c"]
        limit = "none"
        preprocessing = { scale = 0.25 }
        [models.one.gates]
        max-size = "64 KiB"
        min-top1 = "none"

        [models.two]
        model = "package.module:Class.build"
        validate = "test.npz"
        metrics = ["top1"]
        calibration = "random"
        out = "elsewhere"
        """,
    )
    one, two = read.cases
    assert one.model == str(tmp_path / "nets" / "one.h5")
    assert one.arguments == {
        "target": "tflite",
        "precision": "int8",
        "calibration": str(tmp_path / "train.npz"),
        "columns": ("c",),
        "preprocessing": {"scale": 0.25, "crop": "none"},
        "out": str(tmp_path / "out" / "one"),
    }
    assert one.validation == {"validate": "random"}
    assert two.validation == {"validate": str(tmp_path / "test.npz"), "metrics": ("top1",)}
    assert one.gates == {"max-drop": "2 points", "max-size": "64 KiB"}
    assert two.model == "package.module:Class.build"
    assert two.arguments["calibration"] == "random"
    assert (two.arguments["limit"], two.arguments["columns"]) == (50, ("a", "b"))
    assert two.arguments["out"] == str(tmp_path / "elsewhere" / "two")
    assert two.gates == {"min-top1": 0.9, "max-drop": "2 points"}
    assert Case.from_json(json.loads(json.dumps(one.to_json()))).gates == one.gates


def test_several_targets_are_cases_of_their_own(tmp_path: Path) -> None:
    text = """
        [models.net]
        model = "net.h5"
        target = ["tflite", "ethos-u55-256"]
        precision = "int8"
        calibration = "random"
        max_sram = "16K"
        [models.other]
        model = "other.h5"
        """
    read = project(tmp_path, text)
    assert [case.name for case in read.cases] == ["net/tflite", "net/ethos-u55-256", "other"]
    plain, chip, _ = read.cases
    assert "max_sram" not in plain.arguments and chip.arguments["max_sram"] == "16K"
    assert plain.notes == ("--max-sram is not for tflite and not used there",)
    assert chip.arguments["out"] == str(tmp_path / "out" / "net" / "ethos-u55-256")
    assert [case.name for case in read.take(["net"])] == ["net/tflite", "net/ethos-u55-256"]
    assert [case.name for case in read.take(["net/tflite", "other"])] == ["net/tflite", "other"]
    with pytest.raises(UnknownName, match=r"model of .*'nett'") as caught:
        read.take(["nett"])
    assert "did you mean net" in caught.value.hint


def test_settings_of_the_same_file_lie_below(tmp_path: Path) -> None:
    read = project(
        tmp_path,
        '[convert]\nseed = 7\nlimit = 3\n[models.a]\nmodel = "a.h5"\nlimit = 4\n',
    )
    request = models.request_of(read.cases[0], tmp_path)
    assert (request.seed, request.limit) == (7, 4)


def test_labels_may_be_a_file_or_a_name(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("name,label\n")
    text = '[models.a]\nmodel = "a.h5"\nlabels = "{}"\n'
    assert project(tmp_path, text.format("truth.csv")).cases[0].arguments["labels"] == str(
        tmp_path / "truth.csv"
    )
    assert project(tmp_path, text.format("column")).cases[0].arguments["labels"] == "column"


A = '[models.a]\nmodel = "a.h5"\n'


@pytest.mark.parametrize(
    ("text", "kind", "words", "hint"),
    [
        ("", OptionError, "has no models", "docs/check.md|model = PATH"),
        ("[models.a]\n", OptionError, r"\[models.a\] names no model", "PATH"),
        ("models.a = 3\n", OptionError, r"expected a table \[models.a\], received 3", "model ="),
        (f"{A}precison = 'int8'\n", UnknownName, r"key models.a.precison in .*toml", "precision"),
        (f"[defaults]\nprecison = 'int8'\n{A}", UnknownName, "key defaults.precison", "precision"),
        (f"{A}limit = 'ten'\n", OptionError, "models.a.limit takes a whole number.*'ten'", ""),
        (f"{A}limit = true\n", OptionError, "models.a.limit takes a whole number.*True", ""),
        (f"{A}columns = 'a,b'\n", OptionError, "columns takes a list of text, received", ""),
        (f"{A}explore = 'yes'\n", OptionError, "explore takes true or false", ""),
        (f"{A}trust = true\n", OptionError, "models.a.trust can't be set in a file", "--trust"),
        (f"{A}compiler = 'x'\n", OptionError, "models.a.compiler can't be set", "program"),
        (f"{A}target = 'tflit'\n", UnknownName, r"\[models.a\]: unknown target 'tflit'", "tflite"),
        (f"{A}target = ['tflite', 'tflite']\n", OptionError, "each target is named once", ""),
        (f"{A}precision = 'int8'\n", OptionError, r"\[models.a\]: .*needs samples", ""),
        (f"{A}options.tflite_quantise.x = 1\n", UnknownName, "stage models.a.options", "quantize"),
        (f"{A}options.edgetpu_compile.compiler = 'x'\n", OptionError, "set in a file", ""),
        (f"{A}[models.a.gates]\nmax-dorp = 1\n", UnknownName, "a.gates: .*'max-dorp'", "max-drop"),
        (f"{A}[models.a.gates]\nmax-drop = true\n", OptionError, "max-drop takes a number", ""),
        (f"{A}gates.max-size = 9\n", OptionError, r"has gates \(max-size\), and no data", "random"),
        (f"[gates]\nmax-dorp = 1\n{A}", UnknownName, "toml: gates: .*'max-dorp'", "max-drop"),
        (f"{A}gates = 3\n", OptionError, "models.a.gates takes a table", ""),
        ("['models'.'a/b']\nmodel = 'a.h5'\n", OptionError, "can't be called 'a/b'", ""),
        ("[model.a]\n", UnknownName, "table in .*'model'", "models"),
    ],
)
def test_mistake_is_named_with_file_and_key(
    tmp_path: Path, text: str, kind: type[EdgepipeError], words: str, hint: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        project(tmp_path, text)
    assert str(tmp_path / "edgepipe.toml") in caught.value.message
    if hint:
        import re

        assert re.search(hint, caught.value.hint)


def test_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=r"no edgepipe\.toml here"):
        models.find()


# The schema


def test_schema_in_the_repository_is_current() -> None:
    kept = json.loads((ROOT / "docs" / schema.NAME).read_text())
    assert kept == schema.document(), "make it again: edgepipe schema -o docs/edgepipe.schema.json"


def test_schema_knows_every_key_and_gate(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == schema.document()
    model = printed["definitions"]["model"]["properties"]
    assert set(model) == {*keys.model_keys(), *keys.validation_keys(), "gates"}
    assert set(printed["definitions"]["gates"]["properties"]) == set(limits.names())
    options = printed["definitions"]["options"]["properties"]
    assert "compiler" not in options["edgetpu_compile"]["properties"]
    unexplained = [
        name for name, key in model.items() if not key.get("description") and "$ref" not in key
    ]
    assert unexplained == []


def test_schema_is_written_whole(tmp_path: Path) -> None:
    assert run(["schema", "-o", str(tmp_path / "deep" / "s.json")]) == 0
    assert json.loads((tmp_path / "deep" / "s.json").read_text()) == schema.document()


VALID: dict[str, Any] = {
    "defaults": {"target": ["tflite", "openvino"], "limit": "none", "gates": {"min-top1": "0.9"}},
    "models": {
        "a": {
            "model": "a.h5",
            "target": "edgetpu",
            "preprocessing": {"scale": 0.5, "image": {"mean": [1, 2, 3]}},
            "options": {"edgetpu_compile": {}},
        }
    },
}


def test_schema_accepts_what_is_read_and_refuses_what_is_not() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft7Validator(schema.document())
    jsonschema.Draft7Validator.check_schema(schema.document())
    assert list(check.iter_errors(VALID)) == []
    example = settings.read_toml(ROOT / "examples" / "digits_check" / "edgepipe.toml")
    assert list(check.iter_errors(example)) == []
    mistakes: tuple[dict[str, Any], ...] = (
        {"models": {"a": {"modl": "a.h5"}}},
        {"models": {"a": {"limit": "ten"}}},
        {"models": {"a": {"target": []}}},
        {"gates": {"max-drop": True}},
        {"gates": {"drop": 1}},
        {"model": {}},
        {"options": {"tflite_quantize": {"frobnicate": 1}}},
    )
    for wrong in mistakes:
        assert list(check.iter_errors(wrong)), wrong
