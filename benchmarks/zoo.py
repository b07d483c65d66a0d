"""Converts whole networks to float TFLite and prints a table: route, time, error, ops, transposes.

    python benchmarks/zoo.py [NAME ...] [--json FILE] [--keep FOLDER]

Needs all toolchains. The networks have seeded random weights, and batch-norms with random
statistics: with those of a fresh network residual blocks fold away, and some networks give the
same output for every input. timm's are exported to .pt2 in an environment that this script
makes beside the toolchains.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import edgepipe
from edgepipe import package_index, toolchain
from edgepipe.package_installer import find_uv
from edgepipe.proof import PERFECT_DB
from edgepipe.settings import cache_root

KERAS = (
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "ResNet50",
    "DenseNet121",
    "NASNetMobile",
    "ConvNeXtTiny",
    "Xception",
)
TIMM = (
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "efficientnet_lite0",
    "resnet18",
    "vit_tiny_patch16_224",
    "convnext_atto",
)
TIMM_PACKAGES = ("torch==2.13.0", "timm==1.0.31")

MAKE_KERAS = """
import sys, keras, numpy
keras.utils.set_random_seed(0)
size = {"Xception": 299}.get(sys.argv[1], 224)
model = getattr(keras.applications, sys.argv[1])(
    weights=None, input_shape=(size, size, 3), classifier_activation=None
)
random = numpy.random.default_rng(0)
for layer in model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        count = layer.moving_mean.shape[0]
        layer.moving_mean.assign(random.normal(0, 0.1, count))
        layer.moving_variance.assign(random.uniform(0.5, 1.5, count))
        layer.gamma.assign(random.uniform(0.5, 1.5, count)) if layer.scale else None
        layer.beta.assign(random.normal(0, 0.1, count)) if layer.center else None
model.save(sys.argv[2])
"""

MAKE_TIMM = """
import sys, torch
declared = torch.library.Library("torchvision", "DEF")  # its CPU build lacks these two operators
for name in ("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
             "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"):
    try:
        declared.define(name)
    except RuntimeError:
        pass
import timm
torch.manual_seed(0)
model = timm.create_model(sys.argv[1], pretrained=False).eval()
for module in model.modules():
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        module.running_mean.normal_(0, 0.1)
        module.running_var.uniform_(0.5, 1.5)
        torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        torch.nn.init.normal_(module.bias, 0, 0.1)
torch.backends.mha.set_fastpath_enabled(False)
torch.export.save(torch.export.export(model, (torch.zeros(1, 3, 224, 224),)), sys.argv[2])
"""


@dataclass(frozen=True)
class Row:
    """One network and what became of it."""

    network: str
    status: str
    route: str = ""
    seconds: float = 0.0
    sqnr_db: float = 0.0
    relative_error: float = 0.0
    ops: int = 0
    transposes: int = 0
    megabytes: float = 0.0
    reason: str = ""

    def cells(self) -> tuple[str, ...]:
        if self.status != "proven":
            return (
                self.network,
                self.status,
                "",
                f"{self.seconds:.0f}",
                "",
                "",
                "",
                "",
                self.reason,
            )
        return (
            self.network,
            self.status,
            self.route,
            f"{self.seconds:.0f}",
            f"{self.sqnr_db:.0f}",
            f"{self.relative_error:.1g}",
            str(self.ops),
            str(self.transposes),
            self.reason,
        )


HEADER = ("network", "status", "route", "s", "dB", "largest error", "ops", "transposes", "notes")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks; default: all")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    parser.add_argument("--keep", type=Path, help="keep models and results in this folder")
    flags = parser.parse_args()
    unknown = set(flags.names) - {*KERAS, *TIMM}
    if unknown:
        parser.error(f"unknown networks: {', '.join(sorted(unknown))}; known: {KERAS + TIMM}")
    wanted = [name for name in (*TIMM, *KERAS) if not flags.names or name in flags.names]
    with tempfile.TemporaryDirectory(prefix="edgepipe-zoo-") as scratch:
        folder = (flags.keep or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["EDGEPIPE_STORE"] = str(folder / "store")
        rows = run(wanted, folder)
    if flags.json:
        flags.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    proven = sum(row.status == "proven" for row in rows)
    print(f"\n{proven} of {len(rows)} proven")
    return 0 if proven == len(rows) else 1


def run(wanted: list[str], folder: Path) -> list[Row]:
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER), flush=True)
    rows = []
    for name in wanted:
        rows.append(convert(name, folder))
        print("| " + " | ".join(rows[-1].cells()) + " |", flush=True)
    return rows


def convert(name: str, folder: Path) -> Row:
    model = folder / f"{name}{'.keras' if name in KERAS else '.pt2'}"
    if not model.exists():
        make(name, model)
    inputs = ("1x224x224x3",) if name == "MobileNetV3Small" else ()  # it leaves the size open
    start = time.perf_counter()
    try:
        result = edgepipe.convert(model, out=folder / f"{name}_tflite", inputs=inputs)
    except edgepipe.EdgepipeError as error:
        reason = error.message.replace("\n", " ").replace("|", "/")
        return Row(name, "FAILED", seconds=time.perf_counter() - start, reason=reason[:300])
    return _row(name, result, time.perf_counter() - start)


def _row(name: str, result: edgepipe.Result, seconds: float) -> Row:
    chosen = next(item for item in result.report["routes"] if item["status"] == "chosen")
    proof = chosen["end_to_end"] or chosen["steps"][-1]["proof"]
    summary = chosen["steps"][-1]["summary"]
    others = [
        f"{item['route']}: {item['status']}"
        for item in result.report["routes"]
        if item["status"] in ("proven", "failed")
    ]
    exact = "not one bit of difference" if proof["sqnr_db"] >= PERFECT_DB else ""
    return Row(
        name,
        "proven",
        result.route,
        seconds,
        proof["sqnr_db"],
        max(output["relative_error"] for output in proof["outputs"]),
        summary["ops"],
        summary["transposes"],
        summary["size"] / 1e6,
        "; ".join(filter(None, [exact, *others, *proof["notes"]])),
    )


def make(name: str, path: Path) -> None:
    keras = name in KERAS
    python = toolchain.find("keras").python if keras else timm_python()
    subprocess.run(
        [str(python), "-c", MAKE_KERAS if keras else MAKE_TIMM, name, str(path)],
        check=True,
        capture_output=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"},
    )


def timm_python() -> Path:
    """A Python with PyTorch and timm, made when there is none yet."""
    folder = cache_root() / "zoo" / "-".join(TIMM_PACKAGES).replace("==", "-")
    python = folder / "bin" / "python"
    if (folder / "made").exists():
        return python
    uv = find_uv()
    if uv is None:
        sys.exit("the zoo needs uv: pip install uv")
    base = toolchain.find("torch").python
    environment = {**os.environ, **package_index.uv_environment(os.environ)}
    for command in (
        ["venv", "--clear", "--python", str(base), str(folder)],
        ["pip", "install", "--python", str(python), *TIMM_PACKAGES],
    ):
        subprocess.run([*uv, *command], check=True, env=environment, capture_output=True)
    (folder / "made").touch()
    return python


if __name__ == "__main__":
    sys.exit(main())
