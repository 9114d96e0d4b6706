"""Classification accuracy score (Ravuri & Vinyals 2019): train on samples, test on real images.

The paper trains a ResNet-50 on ImageNet-256; depth and width are arguments here. Letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Block(nn.Module):
    """Residual block of He et al. (2016): two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the width outside."""

    def __init__(self, width_in: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = 4 * width if bottleneck else width
        if bottleneck:
            plan = [(width_in, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
        else:
            plan = [(width_in, width, 3, stride), (width, width, 3, 1)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, k, s, k // 2, bias=False) for a, b, k, s in plan)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _, _ in plan)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or width_in != out:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """(N, width_in, H, W) -> (N, out, H / stride, W / stride)."""
        h = x
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            h = norm(conv(h))
            if i < len(self.convs) - 1:
                h = F.relu(h)
        return F.relu(h + self.shortcut(x))


class Classifier(nn.Module):
    """ResNet. `Classifier(K, (3, 4, 6, 3), 64, bottleneck=True, stem_stride=4)` is the ResNet-50 of the paper.

    Args:
        num_classes: K.
        blocks: blocks per stage; each stage after the first halves the resolution.
        width: channels of the first stage, doubled by each further one.
        bottleneck: three-layer blocks.
        stem_stride: 1 for images of up to 64 pixels, 4 for large ones (7x7 convolution and a pool).
        image_channels: 1 or 3.
    """

    def __init__(
        self,
        num_classes: int,
        blocks: Sequence[int] = (1, 1, 1),
        width: int = 16,
        bottleneck: bool = False,
        stem_stride: int = 1,
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        large = stem_stride > 1
        self.stem = nn.Conv2d(
            image_channels, width, 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False
        )
        self.norm = nn.BatchNorm2d(width)
        self.pool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        stages, width_in = [], width
        for i, count in enumerate(blocks):
            for j in range(count):
                stages.append(Block(width_in, width * 2**i, 2 if i > 0 and j == 0 else 1, bottleneck))
                width_in = width * 2**i * (4 if bottleneck else 1)
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width_in, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8 -> (N, K) logits."""
        x = images.float() / 127.5 - 1.0
        x = self.stages(self.pool(F.relu(self.norm(self.stem(x)))))
        result: Tensor = self.head(x.mean(dim=(2, 3)))
        return result


def classification_accuracy(
    classifier: nn.Module,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    epochs: int = 5,
    batch_size: int = 64,
    lr: float = 2e-3,
    seed: int = 0,
) -> dict[str, float]:
    """Train a classifier on samples and test it on real images.

    Args:
        classifier: network from uint8 images to logits; it is trained in place.
        train: samples (N, C, H, W) uint8 and the classes (N,) they were drawn for, as many as training images.
        test: real images and their classes.
        epochs: passes over the samples.
        batch_size: samples per step.
        lr: peak rate of AdamW under one cycle.
        seed: of the order.

    Returns:
        `top1` and `top5`, percent.
    """
    images, labels = train
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=lr, weight_decay=0.05)
    steps = epochs * -(-len(images) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=max(steps, 2))
    classifier.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
            loss = F.cross_entropy(classifier(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return accuracy(classifier, *test)


@torch.no_grad()
def accuracy(classifier: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256) -> dict[str, float]:
    """Share of real images whose class is the first, or among the first five; percent."""
    classifier.eval()
    logits = torch.cat([classifier(part) for part in images.split(batch_size)])
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
    return {"top1": 100.0 * float(ranked[:, 0].float().mean()), "top5": 100.0 * float(ranked.any(1).float().mean())}
