"""Optimisers that can leave out an update without asking the host.

Each looks at its attribute `found_inf`, a tensor of one number on the device: 1 means that this step changes neither
weights nor moments nor the count of steps. torch's fused Adam and AdamW have it (for mixed precision); Adamax has not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from zoo.errors import UserError


class Adamax(torch.optim.Optimizer):
    """Adam with the largest instead of the mean square gradient (Kingma & Ba 2014, algorithm 2), as torch computes it.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: decay rates of the mean and of the largest absolute gradient.
        eps: added to absolute gradients.
        weight_decay: times the weight is added to the gradient.
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        # `capturable` tells torch to keep the count of steps on the device when a state is loaded.
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "capturable": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(group, parameters)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a state, also one that torch's own Adamax wrote."""
        groups = [{**group, "capturable": True} for group in state_dict["param_groups"]]
        super().load_state_dict({**state_dict, "param_groups": groups})

    def _update(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        states = [self._state(parameter) for parameter in parameters]
        steps, means, largest = ([s[name] for s in states] for name in ("step", "exp_avg", "exp_inf"))
        skip = parameters[0].new_zeros(()) if self.found_inf is None else self.found_inf
        weights = list[Tensor](parameters)
        gradients = [cast(Tensor, parameter.grad) for parameter in parameters]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        # A skipped gradient may be no number: it is replaced, not multiplied by nought.
        gradients = [gradient.masked_fill(skip > 0, 0.0) for gradient in gradients]
        beta, decay = group["betas"]
        torch._foreach_add_(steps, [1.0 - skip] * len(steps))
        torch._foreach_lerp_(means, gradients, [(1.0 - beta) * (1.0 - skip)] * len(means))
        torch._foreach_mul_(largest, torch.where(skip > 0, 1.0, decay))
        torch._foreach_abs_(gradients)
        torch._foreach_add_(gradients, group["eps"])
        torch._foreach_maximum_(largest, gradients)
        # All counts are equal but for parameters that joined later; division by infinity moves nothing.
        scales = [torch.where(skip > 0, -torch.inf, (beta**step - 1.0) / group["lr"]) for step in steps]
        torch._foreach_addcdiv_(weights, means, torch._foreach_mul(largest, scales))

    def _state(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_inf"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state


OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "adamax": Adamax,
}


def make_optimiser(name: str, parameters: list[nn.Parameter], **settings: Any) -> torch.optim.Optimizer:
    """An optimiser by name, fused where torch has it.

    Raises:
        UserError: torch has no fused kernel for the device.
    """
    if name != "adamax":
        settings["fused"] = True  # one pass over memory, and the only kernels that can skip on the device
    try:
        return OPTIMISERS[name](parameters, **settings)
    except RuntimeError as error:
        device = parameters[0].device.type if parameters else "cpu"
        raise UserError(f"model.optimizer={name}: not to be had on a {device} device ({error}); use adamax") from error


def use_fused(optimizer: torch.optim.Optimizer) -> None:
    """Switch an Adam to its fused kernels, whatever a loaded state says; their count of steps is on the device."""
    for group in optimizer.param_groups:
        if "fused" in group:
            group["fused"], group["foreach"] = True, False
    for parameter, state in optimizer.state.items():
        if "step" in state:
            state["step"] = torch.as_tensor(state["step"], dtype=torch.float32, device=parameter.device)
