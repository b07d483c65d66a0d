"""Where TensorFlow runs a model, and whether XLA compiles it."""

from __future__ import annotations

from dataclasses import dataclass

from edgepipe import gpu
from edgepipe.runners.keras_loading import tensorflow
from edgepipe.stage import Options, option


@dataclass(frozen=True)
class TensorflowOptions(Options):
    xla: bool = option(False, "Compile the model with XLA (jit_compile).")


def use_device(device: str) -> None:
    """TensorFlow takes the GPU by itself where it sees one; that it does is checked here."""
    if not gpu.is_gpu(device):
        return
    tf = tensorflow()
    found = tf.config.list_physical_devices("GPU")
    if not found:
        why = "it is built without CUDA"
        if tf.test.is_built_with_cuda():
            why = "CUDA's libraries or a device are missing"
        raise gpu.unusable(f"TensorFlow {tf.__version__}", why, "keras")
    for one in found:
        # Else it takes all of the memory, and a second process finds none.
        tf.config.experimental.set_memory_growth(one, True)
