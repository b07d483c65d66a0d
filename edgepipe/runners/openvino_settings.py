"""What can be said of a run in OpenVINO: hint, streams, precision, cache; as OpenVINO takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from edgepipe.errors import OptionError
from edgepipe.runners.openvino_devices import CPU, NPU, families
from edgepipe.stage import Options, option


@dataclass(frozen=True)
class OpenvinoSettings(Options):
    """The number of threads and the device are said beside them, as for every runner."""

    hint: Literal["latency", "throughput"] = option(
        "latency", "latency: one request at once; throughput: many of them."
    )
    streams: int = option(0, "Requests that are worked on at once; 0 leaves it to the hint.")
    precision: Literal["exact", "native", "f32", "f16", "bf16"] = option(
        "exact",
        "exact: float32, where the device has it; native: what OpenVINO takes by itself;"
        " or f32, f16, bf16.",
    )
    cache: bool = option(False, "Keep what the device makes of a model, for the next start.")
    counters: bool = option(False, "Measure every layer, which costs some time itself.")

    def __post_init__(self) -> None:
        if self.streams < 0:
            raise OptionError(f"streams takes a number from 0 on, received {self.streams}")

    def properties(self, device: str, threads: int) -> dict[str, Any]:
        """For `compile_model`; what a kind of device has no word for is left out."""
        kinds = families(device)
        found: dict[str, Any] = {"PERFORMANCE_HINT": self.hint.upper()}
        precision: str = self.precision
        if precision == "exact":
            # Where the processor has bfloat16, the CPU device computes float32 models in it by
            # default: docs.openvino.ai, "CPU Device", inference precision. An NPU has no float32.
            precision = "native" if NPU in kinds else "f32"
        if precision != "native":
            found["INFERENCE_PRECISION_HINT"] = precision
        if threads and (CPU in kinds or not kinds):
            found["INFERENCE_NUM_THREADS"] = threads
        if self.streams:
            found["NUM_STREAMS"] = self.streams
        if self.cache:
            from edgepipe.runners import openvino_cache

            found["CACHE_DIR"] = str(openvino_cache.folder())
        if self.counters:
            found["PERF_COUNT"] = True
        return found
