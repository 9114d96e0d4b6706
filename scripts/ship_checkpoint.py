"""Put a trained checkpoint into the package, in half precision.

    python scripts/ship_checkpoint.py runs/latent_vae_photos_8bit latent-vae-photos-8bit

The stored weights are what everybody prices with: they are widened to float32 when loaded. Prints size and, on a few
bundled test images, bits/dim before and after rounding.
"""

import sys
from pathlib import Path

import torch

from zoo.checkpoints import load, save
from zoo.checkpoints.store import SHIPPED
from zoo.data import ImageDataModule

LIMIT = 2_000_000  # bytes


def bits_per_dim(network: torch.nn.Module, x: torch.Tensor) -> float:
    """Mean price of a batch, with fixed noise."""
    torch.manual_seed(0)
    with torch.no_grad():
        return float(network.terms(x).bits_per_dim().mean())


def main(run: str, name: str) -> None:
    """Round, store, compare."""
    trained = load(run)
    meta = {key: value for key, value in trained.meta.items() if key != "assembled_from"}
    path = save(SHIPPED / f"{name}.safetensors", trained.spec, trained.network, meta, torch.float16)
    size = path.stat().st_size
    shipped = load(path)
    data = ImageDataModule("photos", batch_size=16, crop=trained.network.image_shape[-1])
    x, _ = next(iter(data.test_dataloader()))
    before, after = bits_per_dim(trained.network, x), bits_per_dim(shipped.network, x)
    print(f"{path}: {size:,} bytes; {len(x)} images: {before:.4f} bits/dim before rounding, {after:.4f} after")
    if size > LIMIT:
        path.unlink()
        sys.exit(f"{name}: {size:,} bytes are more than {LIMIT:,}; not stored")


if __name__ == "__main__":
    main(*(str(Path(argument)) for argument in sys.argv[1:3]))
