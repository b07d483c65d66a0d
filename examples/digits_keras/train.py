"""Trains a small Keras CNN on scikit-learn's digits and saves it as `digits.h5`.

The seed, the split (see `examples/digits.py`) and the number of epochs are fixed; the scaling
of the pixels is the model's first layer, so it takes the pixels as they are. Needs tensorflow
and scikit-learn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import digits  # noqa: E402

EPOCHS = 60


def make_model() -> keras.Model:
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Rescaling(1 / 16, name="scale")(image)
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="digit")(x))


def main() -> None:
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    data = digits.load()
    model = make_model()
    rate = keras.optimizers.schedules.CosineDecay(2e-3, EPOCHS * len(data.train_images) // 32)
    model.compile(keras.optimizers.Adam(rate), loss="sparse_categorical_crossentropy")
    images = data.train_images[..., None].astype("float32")
    model.fit(images, data.train_labels, batch_size=32, epochs=EPOCHS, verbose=2)
    held_out = data.held_out_images[..., None].astype("float32")
    right = int((model.predict(held_out, verbose=0).argmax(1) == data.held_out_labels).sum())
    print(f"held out: {right} of {len(held_out)} right, {right / len(held_out):.2%}")
    model.save(HERE / "digits.h5", include_optimizer=False)


if __name__ == "__main__":
    main()
