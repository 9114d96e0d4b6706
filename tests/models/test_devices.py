"""Every family on a device that is not the CPU: nothing stays behind, and no training step waits for the device.

`meta` stands for the device: its tensors have no values, so whatever asks for one raises, as it would make the host
wait for a GPU; and operations between it and the CPU are refused here.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoo.checkpoints import build, read
from zoo.likelihood import LikelihoodModel

FAMILIES = ["vdvae", "efficient-vdvae", "latent-vae", "pixelsnail", "vdm", "vqvae2"]


class OneDevice(TorchDispatchMode):
    """Refuses operations between the device and tensors of the CPU; single numbers may come from there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor) and leaf.ndim > 0]
        if len({tensor.device for tensor in tensors}) > 1 and func.name() not in ("aten::copy_", "aten::_to_copy"):
            raise AssertionError(f"{func.name()}: {[(t.device.type, tuple(t.shape)) for t in tensors]}")
        return func(*args, **(kwargs or {}))


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> LikelihoodModel:
    network = build(read(f"{request.param}-photos-8bit").spec)
    assert isinstance(network, LikelihoodModel)
    for part in network.modules():  # what a run asks the device once, at its beginning
        for flag in ("_calibrated", "_started"):
            if flag in vars(part):
                setattr(part, flag, True)
    return network.to("meta")


def batch(model: LikelihoodModel) -> Tensor:
    return torch.empty((2, *model.image_shape), dtype=torch.uint8, device="meta")


def test_a_training_step_stays_on_the_device_and_never_waits(model: LikelihoodModel) -> None:
    model.train()
    with OneDevice():
        loss = model.objective(batch(model), None, 7).loss
        loss.backward()
    assert loss.device.type == "meta"
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_pricing_stays_on_the_device_and_never_waits(model: LikelihoodModel) -> None:
    model.eval()
    with OneDevice(), torch.inference_mode():
        terms = model.terms(batch(model))
    assert terms.nelbo.device.type == "meta"
