"""`--device`: where a command runs its network."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from zoo.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import nn

Network = TypeVar("Network", bound="nn.Module")


def find_device(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto` for a GPU if there is one.

    Raises:
        UserError: there is no such device here.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        known = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        known += ["mps"] if torch.backends.mps.is_available() else []
        raise UserError(f"--device {name}: not here; choose from: auto, {', '.join(known)}") from error
    return device


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    import torch

    return next((parameter.device for parameter in network.parameters()), torch.device("cpu"))


def placed(network: Network, name: str) -> Network:
    """The network on a device.

    Raises:
        UserError: there is no such device, or it lacks a number type that the network needs.
    """
    device = find_device(name)
    try:
        return network.to(device)
    except TypeError as error:  # MPS has no float64
        raise UserError(f"--device {name}: {type(network).__name__} needs a number type it lacks; use cpu") from error
