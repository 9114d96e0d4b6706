"""Train the feature network `digits` of the quality table on real digits and write it into the package.

    python scripts/train_digits.py FOLDER

FOLDER holds t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz of MNIST. The first 8,000 images are for training,
the last 2,000 for the accuracy that is printed and stored with the weights. One thread, under a minute.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from zoo.benchmarks.measures.metrics.classifier import accuracy
from zoo.benchmarks.measures.metrics.features import DIGITS, Digits

TRAIN = 8000


def read(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 1, 28, 28) uint8 and classes (N,) int64."""
    pixels = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 1, 28, 28).copy()
    return torch.from_numpy(images), torch.from_numpy(np.frombuffer(labels, np.uint8).astype(np.int64))


class Logits(torch.nn.Module):
    """The network as a classifier."""

    def __init__(self, network: Digits) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) uint8 -> (N, 10)."""
        return self.network.logits(images)


def main(folder: Path) -> None:
    """Train, test, write."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, labels = read(folder)
    network = Digits()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    epochs, batch = 12, 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * TRAIN // batch)
    for _ in range(epochs):
        for chosen in torch.randperm(TRAIN).split(batch):
            shift = torch.randint(-2, 3, (2,)).tolist()
            x = images[chosen].roll(shift, dims=(2, 3))
            loss = torch.nn.functional.cross_entropy(network.logits(x), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    score = accuracy(Logits(network), images[TRAIN:], labels[TRAIN:])
    weights = {name: tensor.half().contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, DIGITS, {"top1": f"{score['top1']:.2f}"})
    print(f"{DIGITS}: {score['top1']:.2f}% of {len(images) - TRAIN} digits")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
