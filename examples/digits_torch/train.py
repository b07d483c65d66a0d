"""Trains the CNN of `model.py` on scikit-learn's digits and saves it as `digits.safetensors`.

The seed, the split (see `examples/digits.py`) and the number of epochs are fixed. Needs torch,
safetensors and scikit-learn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from model import Digits, make_model
from safetensors.torch import save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import digits  # noqa: E402

EPOCHS, BATCH = 60, 32


def fit(model: Digits, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    model.train()
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        schedule.step()
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {total / len(images):.4f}")


def main() -> None:
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    data = digits.load()
    model = make_model()
    fit(
        model,
        torch.from_numpy(data.train_images)[:, None].float(),
        torch.from_numpy(data.train_labels).long(),
    )
    model.eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(data.held_out_images)[:, None].float())
    right = int((logits.argmax(1).numpy() == data.held_out_labels).sum())
    print(f"held out: {right} of {len(logits)} right, {right / len(logits):.2%}")
    save_file(model.state_dict(), HERE / "digits.safetensors")


if __name__ == "__main__":
    main()
