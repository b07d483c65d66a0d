"""Which integers a model takes, asked of it; and that a proof on them finds what is narrowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepipe
from edgepipe import index_range
from edgepipe.artifact import Artifact, Format, Port, Signature
from edgepipe.runner import Description, Runner
from edgepipe.samples import ASKED

MODULES = """
import torch

class Hash(torch.nn.Module):
    def forward(self, ids):
        return (ids * 1000003 % 97).float()

class Table(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(777, 8)

    def forward(self, ids):
        return self.table(ids).sum(1)

class Mask(torch.nn.Module):
    def forward(self, x, length):
        return x * (torch.arange(12) < length).float()

class Clamped(Table):
    def forward(self, ids):
        return self.table(ids.clamp(max=776)).sum(1)

class Summed(Table):
    def forward(self, a, b):
        return self.table(a + b).sum(1)

class Deadly(torch.nn.Module):
    def forward(self, ids, count):
        if not torch.compiler.is_compiling() and int(count.max()) > 50000:
            import os
            os.abort()
        return (ids * 1000003 % 97).float() + count.float()
"""
pytestmark = pytest.mark.toolchain("torch", "onnx2tf", "edge", "litert-torch")


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    (folder / "ranges.py").write_text(MODULES)
    return folder


def convert(code: Path, out: Path, name: str, *inputs: str, **more: Any) -> edgepipe.Result:
    return edgepipe.convert(
        f"ranges:{name}", python_path=(str(code),), inputs=inputs, out=out, **more
    )


def test_a_product_that_a_converter_narrows_is_caught(code: Path, tmp_path: Path) -> None:
    """onnx2tf's own back-end computes it in 32 bits: right for flags, wrong from 2148 on."""
    result = convert(code, tmp_path, "Hash", "ids=1x6:int64", explore=True)
    trials = {item["route"]: item for item in result.report["routes"]}
    assert trials["dynamo+onnx2tf"]["status"] == "failed"
    assert "changed what the model computes" in trials["dynamo+onnx2tf"]["reason"]
    assert result.sqnr_db == 200


def test_a_table_is_read_to_its_last_row(code: Path, tmp_path: Path) -> None:
    result = convert(code, tmp_path, "Table", "ids=1x5:int64")
    (port,) = result.report["source"]["signature"]["inputs"]
    assert port["high"] == 777
    assert not [text for text in result.report["warnings"] if "nothing says" in text]
    assert result.sqnr_db is not None and result.sqnr_db > 100


def test_a_length_is_fed_flags_and_large_numbers(code: Path, tmp_path: Path) -> None:
    result = convert(code, tmp_path, "Mask", "x=1x12", "length=1:int64")
    assert any("'length'" in text and "--samples" in text for text in result.report["warnings"])
    assert result.sqnr_db is not None and result.sqnr_db > 100


def test_a_table_behind_a_clamp_is_not_read_below_zero(code: Path, tmp_path: Path) -> None:
    result = convert(code, tmp_path, "Clamped", "ids=1x5:int64")
    assert result.sqnr_db is not None and result.sqnr_db > 100
    assert any("up to a million;" in text for text in result.report["warnings"])


def test_indices_that_are_added_stay_in_the_table_together(code: Path, tmp_path: Path) -> None:
    result = convert(code, tmp_path, "Summed", "a=1x5:int64", "b=1x5:int64")
    highs = [port["high"] for port in result.report["source"]["signature"]["inputs"]]
    assert highs == [389, 389]
    assert result.sqnr_db is not None and result.sqnr_db > 100


def test_a_number_that_kills_the_model_leaves_other_inputs_wide(code: Path, tmp_path: Path) -> None:
    result = convert(code, tmp_path, "Deadly", "ids=1x6:int64", "count=1x6:int64", explore=True)
    trials = {item["route"]: item for item in result.report["routes"]}
    assert trials["dynamo+onnx2tf"]["status"] == "failed"
    assert any("'count'" in text and "died" in text for text in result.report["warnings"])


class Picky(Runner):
    """Takes numbers below a limit."""

    formats = (Format.ONNX,)
    toolchain = "edge"
    limit = 0

    @classmethod
    def describe(cls, artifact: Artifact) -> Description:
        raise NotImplementedError

    def load(self) -> None:
        pass

    def infer(self, feeds: Any) -> Any:
        if int(feeds["n"].max()) >= self.limit:
            raise IndexError("out of range")
        return {"y": feeds["n"]}


@pytest.mark.parametrize("limit", [1, 2, 10, 11, 4096, 99_999, 1_000_000])
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_the_first_number_that_is_refused_is_found(limit: int, dtype: str) -> None:
    port = Port("n", (1, 2), dtype)
    artifact = Artifact(Path(), Format.ONNX, "", Signature((port,), ()))
    runner = Picky(artifact)
    runner.limit = limit
    sample = {"n": np.zeros((1, 2), dtype)}
    found = index_range._range(runner, sample, port, ASKED)
    assert found == {"high": limit, "refuses": True}


def test_a_model_that_takes_all_numbers_of_its_type_is_not_bounded() -> None:
    port = Port("n", (1, 2), "int16")
    runner = Picky(Artifact(Path(), Format.ONNX, "", Signature((port,), ())))
    runner.limit = 1 << 40
    sample = {"n": np.zeros((1, 2), "int16")}
    assert index_range._range(runner, sample, port, ASKED)["high"] is None
