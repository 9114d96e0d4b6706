"""A configuration that trains in seconds."""

import copy
from pathlib import Path
from typing import Any

import yaml

NETWORK: dict[str, Any] = {
    "class_path": "VDVAE",
    "init_args": {
        "image_shape": [3, 16, 16],
        "architecture": {
            "encoder": [{"resolution": 16, "blocks": 1, "downsample": 16}, {"resolution": 1, "blocks": 1}],
            "decoder": [{"resolution": 1, "blocks": 1}, {"resolution": 16, "blocks": 1, "upsample_from": 1}],
            "width": 6,
            "latent_channels": 2,
            "mixtures": 2,
        },
    },
}
CONFIG: dict[str, Any] = {
    "model": {"network": NETWORK, "lr": 1e-3, "warmup_steps": 0, "grid_every": 4, "grid_images": 2, "ema_decay": 0.9},
    "data": {"dataset": "photos", "batch_size": 4, "crop": 16, "limit": 8, "eval_batch_size": 16},
    "trainer": {"accelerator": "cpu", "max_steps": 4, "log_every_n_steps": 1, "limit_val_batches": 1},
}


def write(path: Path, **changes: Any) -> Path:
    """Write the configuration with some values changed; keys are dotted paths with `__` for dots."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    path.write_text(yaml.safe_dump(config))
    return path
