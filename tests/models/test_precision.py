"""What half precision, compilation and devices may change: nothing but the trunk of a network."""

import copy

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from tests.models.tiny import SPECS, tiny
from zoo.likelihood import (
    Bernoulli,
    DiagonalGaussian,
    ImageNoise,
    LogisticMixture,
    Recording,
    SamplePosterior,
    site_kl,
    to_levels,
)

PIXELS = ["VQVAE2", "PixelSNAIL", "PixelSNAIL in colour"]
HIERARCHIES = ["VDVAE", "VDVAE in colour", "EfficientVDVAE", "EfficientVDVAE of digits", "LatentVAE"]
HEADS = {"VDVAE": "head", "EfficientVDVAE": "output"}


def images(model, n=3):
    return model.example(n, torch.Generator().manual_seed(0))


def half():
    return torch.autocast("cpu", torch.bfloat16)


@torch.no_grad()
@pytest.mark.parametrize("name", [*HIERARCHIES, *PIXELS])
def test_distributions_are_made_in_float32_under_autocast(name):
    model = tiny(name)
    x, seen = images(model), Recording(policy := SamplePosterior(ImageNoise(0, 0, range(3))))
    with half():
        pixels = model.ancestral_pass(seen, x)
        distortion = -pixels.log_prob(to_levels(x, model.bits))
    for site in seen.sites:
        if not isinstance(site.prior, DiagonalGaussian):
            continue
        for gaussian in (site.prior, site.posterior):
            assert gaussian.mean.dtype == gaussian.log_std.dtype == torch.float32
        for gaussian in (site.prior, site.posterior):
            gaussian.mean, gaussian.log_std = gaussian.mean.double(), gaussian.log_std.double()
        torch.testing.assert_close(policy.rates[site.name].double(), site_kl(site), rtol=1e-4, atol=1e-5)
    if isinstance(pixels, LogisticMixture):
        parts = (pixels.logits, pixels.means, pixels.raw_log_scales)
    else:
        parts = (pixels.logits,) if isinstance(pixels, Bernoulli) else ()
    assert {part.dtype for part in (distortion, *parts)} == {torch.float32}


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_computed_in_float32_from_what_the_trunk_gives(name):
    model = tiny(name)
    head, kept = getattr(model, HEADS[name]), {}
    head.register_forward_hook(lambda _, inputs, output: kept.update(seen=inputs[0], out=output))
    with half():
        model.terms(images(model), noise=ImageNoise(0, 0, range(3)))
    assert kept["out"].dtype == torch.float32
    torch.testing.assert_close(kept["out"], head(kept["seen"].float()), rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_a_sharp_mixture_costs_the_same_under_autocast(name):
    """A mean that half precision rounds would leave its level: only a head in full precision keeps the price."""
    model = tiny(name)
    head, bits = getattr(model, HEADS[name]), model.bits
    head.weight.zero_()
    mixtures = len(head.bias) // 3
    value = (2 ** (8 - bits) - 127.5) / 127.5 + 0.003  # beside the centre of level 1
    scale = -7.0 if name == "VDVAE" else -10.0
    head.bias[mixtures : 2 * mixtures], head.bias[2 * mixtures :] = value, scale
    x = torch.full((2, *model.image_shape), 2 ** (8 - bits), dtype=torch.uint8)
    noise = ImageNoise(0, 0, range(2))
    exact = model.terms(x, noise=noise).distortion
    with half():
        mixed = model.terms(x, noise=noise).distortion
    assert torch.equal(mixed, exact)


@torch.no_grad()
@pytest.mark.parametrize("name", HIERARCHIES)
def test_half_precision_changes_the_price_by_noise_only(name):
    model = tiny(name)
    x = images(model, 32)
    exact = model.terms(x, noise=ImageNoise(0, 0, range(32)))
    with half():
        mixed = model.terms(x, noise=ImageNoise(0, 0, range(32)))
    difference = mixed.bits_per_dim() - exact.bits_per_dim()
    assert difference.abs().max() < 0.2
    assert difference.mean().abs() < 0.05


class Waits(TorchDispatchMode):
    """Counts what would make the host wait for a device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", [*HIERARCHIES, "LatentVAE of codes", "PixelSNAIL", "CodePrior"])
def test_a_training_step_waits_for_no_device(name):
    model = tiny(name).train()
    x = images(model)
    model.objective(x, step=torch.tensor(0))  # the first step may look at its data
    with Waits() as waits:
        model.objective(x, step=torch.tensor(1)).loss.backward()
    assert waits.found == []


@pytest.mark.parametrize("name", [name for name in HIERARCHIES if "colour" not in name])
def test_the_objective_is_one_graph_whatever_the_step(name):
    counter = CompileCounter()
    model = tiny(name).train()
    x = images(model)
    model.objective(x)  # the first step may look at its data
    plain = copy.deepcopy(model)
    torch._dynamo.reset()
    frames = []
    compiled = torch.compile(model.objective, backend=counter)
    for step in (0, 1, 400, 20_000):
        torch.manual_seed(1)
        loss = compiled(x, None, torch.tensor(step)).loss
        torch.manual_seed(1)
        expected = plain.objective(x, None, torch.tensor(step)).loss
        torch.testing.assert_close(loss, expected)
        frames.append(counter.frame_count)
    assert frames == [1, 1, 1, 1]  # one graph, and nothing is compiled anew
    loss.backward()
    expected.backward()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


def test_every_hierarchy_is_in_these_tests():
    assert set(HIERARCHIES) <= set(SPECS)
