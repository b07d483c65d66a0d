"""Imported for its effect, before TensorFlow: the settings that it and Keras read at import."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

SETTINGS = {
    # `import tensorflow` imports Keras, which obeys keras.json in the home folder, or writes it.
    "KERAS_BACKEND": "tensorflow",
    "KERAS_HOME": str(Path(tempfile.gettempdir()) / "keras"),
    # Conversion gains nothing from a GPU, and TF32 on one spoils the comparison.
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
os.environ.update(SETTINGS)
