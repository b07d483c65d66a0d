"""Imported for its effect, before TensorFlow: the settings that it and Keras read at import."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

GPU = "EDGEPIPE_GPU"
"""Set where a worker is to see the GPU, see `edgepipe.worker_environment`."""
SETTINGS = {
    # `import tensorflow` imports Keras, which obeys keras.json in the home folder, or writes it.
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": str(Path(tempfile.gettempdir()) / "keras"),
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
os.environ.update(SETTINGS)
if GPU not in os.environ:
    # Conversion gains nothing from a GPU, and TF32 on one spoils the comparison.
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
