"""Training steps of the diffusion model, PixelSNAIL and VQ-VAE-2: no waiting for the device, alike when compiled."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from tests.waits import Waits
from zoo.models.pixelsnail import CodePrior, PixelSNAIL, SnailConfig
from zoo.models.vdm import VDM, ScheduleConfig, ScoreConfig
from zoo.models.vqvae2 import VQVAE2, HeadConfig, QuantisedAutoencoder

TRUNK = SnailConfig(channels=8, residual_channels=8, blocks=1, layers_per_block=1, heads=2, kernel_size=3, dropout=0.0)
STAGE = {"channels": 8, "residual_channels": 4, "residual_blocks": 1, "num_codes": 6, "code_dim": 4}


def vdm():
    score = ScoreConfig(width=8, blocks=1, groups=2, dropout=0.0)
    return VDM([3, 8, 8], score=score, schedule=ScheduleConfig(width=8))


def first_stage():
    return QuantisedAutoencoder([3, 8, 8], [2, 2], **STAGE, revive_below=0.5)


def whole():
    grids = [[2, 2], [4, 4]]
    priors = [CodePrior(grids[: n + 1], [6] * (n + 1), TRUNK, condition_layers=1) for n in range(2)]
    stage = first_stage()
    stage.train().objective(torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8))  # starts the codebooks from data
    return VQVAE2(stage, priors, HeadConfig(2, 8, 4, 1, 6, 1))


FAMILIES = {
    "vdm": vdm,
    "pixelsnail": lambda: PixelSNAIL([3, 8, 8], 8, TRUNK, mixtures=2),
    "first stage": first_stage,
    "debiased first stage": lambda: QuantisedAutoencoder([3, 8, 8], [2, 2], **STAGE, codebook_init="debiased"),
    "vqvae2": whole,
}


def built(family):
    torch.manual_seed(0)
    model = FAMILIES[family]().train()
    for parameter in model.parameters():  # zero-initialised layers would hide mistakes
        if parameter.requires_grad and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def batch():
    return torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_does_not_wait_for_the_device(family):
    model = built(family)
    for step in range(2):  # the first steps may: codebooks start from their data, the decoder's window is set
        model.objective(batch(), step=step)
    with Waits() as waits:
        model.objective(batch(), step=2).loss.backward()
    assert waits.found == []


@pytest.mark.parametrize("family", FAMILIES)
def test_prices_are_made_in_full_precision_whatever_the_autocast(family):
    model = built(family)
    model.objective(batch())
    model.eval()
    prices = []
    for enabled in (False, True):
        torch.manual_seed(2)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            terms = model.terms(batch())
        prices.append(terms.bits_per_dim())
        for nats in (terms.distortion, *terms.rates.values()):
            assert nats.dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(*prices, rtol=0, atol=0.1)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.night)])
@pytest.mark.parametrize("family", FAMILIES)
def test_steps_are_alike_when_compiled_and_nothing_is_compiled_twice(family, backend):
    torch._dynamo.reset()
    graphs = CompileCounterWithBackend(backend)
    results = []
    for compiled in (False, True):
        model = built(family)
        objective = model.objective
        if compiled and not model.compiled:
            objective = torch.compile(model.objective, backend=graphs)
        for name in model.compiled if compiled else ():
            model.get_submodule(name).compile(backend=graphs)
        optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
        losses, count = [], []
        for step in range(5):
            torch.manual_seed(step)
            optimiser.zero_grad()
            loss = objective(batch(), step=step).loss
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            count.append(graphs.frame_count)
        results.append((losses, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
    assert count[-1] == count[2] > 0  # the first two steps may differ from all others: codebooks start in them
