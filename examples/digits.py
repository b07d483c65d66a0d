"""scikit-learn's digits, split the one way that both examples train and measure on.

1,797 images of 8x8 pixels with values from 0 to 16. One fifth of each class is held out (360
images, `random_state=0`) and never trained on. Run this file to write the held-out fifth to
`digits.npz`, as `images` (360x8x8, uint8) and `labels` (360, uint8), and its first 16 images to
`samples.npz` in each example, as `image` in the layout of that example's model. For int8 the
Keras example also gets 400 of the training images in `calibration.npz`, and all held-out ones
with their labels in `held_out.npz`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
SAMPLES = 16
CALIBRATION = 400


class Digits(NamedTuple):
    train_images: Any
    train_labels: Any
    held_out_images: Any
    held_out_labels: Any


def load() -> Digits:
    """Images as Nx8x8 uint8, labels as uint8."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits().images.astype("uint8"), load_digits().target.astype("uint8")
    train, held_out, train_labels, held_out_labels = train_test_split(
        images, labels, test_size=0.2, random_state=0, stratify=labels
    )
    return Digits(train, train_labels, held_out, held_out_labels)


def main() -> None:
    import numpy as np

    digits = load()
    images, labels = digits.held_out_images, digits.held_out_labels
    np.savez_compressed(HERE / "digits.npz", images=images, labels=labels)
    few = images[:SAMPLES].astype("float32")
    np.savez_compressed(HERE / "digits_keras" / "samples.npz", image=few[:, :, :, None])
    np.savez_compressed(HERE / "digits_torch" / "samples.npz", image=few[:, None])
    keras = HERE / "digits_keras"
    all_held_out = images[:, :, :, None].astype("float32")
    np.savez_compressed(keras / "held_out.npz", image=all_held_out, labels=labels)
    trained_on = digits.train_images[:CALIBRATION, :, :, None].astype("float32")
    np.savez_compressed(keras / "calibration.npz", image=trained_on)
    print(f"{len(labels)} images held out")


if __name__ == "__main__":
    main()
