"""What a worker finds around it: edgepipe's packages and its environment variables."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from edgepipe.errors import InternalError

GPU = "EDGEPIPE_GPU"
"""Tells a worker that it may see the GPU."""
PACKAGES = ("edgepipe", "edgepipe.converters", "edgepipe.quantization", "edgepipe.device_tests")


def mounts() -> dict[str, str]:
    """The folders of edgepipe's packages, wherever this installation keeps them."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise InternalError(
                f"the package {package} is not installed",
                hint="in a checkout, run `pip install -e .` once.",
            )
        found[package] = next(iter(spec.submodule_search_locations))
    return found


def environment(temporary: Path, made: bool, gpu: bool = False) -> dict[str, str]:
    """The user's environment without what would change the frameworks' results or reach outside."""
    found = dict(os.environ)
    if made:  # As Python's -I would, which would also ignore the fixed seed of hashes below.
        foreign = [name for name in found if name.startswith("PYTHON")]
        for name in (*foreign, "VIRTUAL_ENV"):
            found.pop(name, None)
    found.pop(GPU, None)
    found.update({GPU: "1"} if gpu else {"CUDA_VISIBLE_DEVICES": ""})
    found.update(
        TMPDIR=str(temporary),
        PYTHONHASHSEED="0",
        KERAS_BACKEND="tensorflow",
        HF_HUB_OFFLINE="1",
        TF_CPP_MIN_LOG_LEVEL=os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1"),
        MPLBACKEND="agg",
    )
    return found
