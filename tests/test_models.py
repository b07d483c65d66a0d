"""Real models out of wheels, as `make models` converts them; skipped where none were fetched."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "models.py"
FOLDER = Path(os.environ.get("EDGEPIPE_MODELS", "out/models")).expanduser()


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("models_benchmark", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


models = _load()
QUICK = ("emotion_model.hdf5", "nmp.onnx", "nmp.tflite", "silero_vad.jit", "cnn_without_ne_ab.h5")
CHOSEN = [model for model in models.MODELS if Path(model.file).name in QUICK]


@pytest.mark.toolchain("keras", "torch", "onnx2tf", "edge")
@pytest.mark.parametrize("model", CHOSEN, ids=lambda model: model.name)
def test_a_model_of_others_becomes_what_is_expected(
    model: models.Model,  # type: ignore[name-defined]
    tmp_path: Path,
    session_cache: Path,
) -> None:
    if not (FOLDER / model.package / model.file).exists():
        pytest.skip(f"{model.download}, unzip it into {FOLDER / model.package}")
    row = models.convert(model, FOLDER.absolute(), tmp_path / "out")
    assert row.expected, row.said
    assert row.sqnr_db is None or row.sqnr_db > 80


def test_the_list_names_what_it_needs() -> None:
    assert {model.package for model in CHOSEN} == {"fer", "basic-pitch", "silero-vad", "deepcut"}
    assert all(model.version and model.download.endswith(model.version) for model in models.MODELS)


def test_a_refusal_in_other_words_is_not_what_was_expected(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "weights.h5").write_bytes(b"")
    found = models.Model("package", "1", "weights.h5", refusal="is empty")
    assert models.convert(found, tmp_path, tmp_path / "out").expected
    other = models.Model("package", "1", "weights.h5", refusal="keeps state")
    assert not models.convert(other, tmp_path, tmp_path / "out").expected
    asked = models.Model("package", "1", "weights.h5")
    assert not models.convert(asked, tmp_path, tmp_path / "out").expected
