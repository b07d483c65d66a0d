"""A small PyTorch CNN for 8x8 digits; `make_model` is the factory that `--model` names."""

from __future__ import annotations

import torch
from torch import nn


class Digits(nn.Module):
    """Takes Nx1x8x8 pixels from 0 to 16 as they are; gives Nx10 logits."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
        )
        self.digit = nn.Linear(32, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.digit(self.features(image / 16))
        return logits


def make_model() -> Digits:
    return Digits()
