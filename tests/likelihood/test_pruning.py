from itertools import pairwise

import numpy as np
import pytest
import torch

from zoo.checkpoints import build
from zoo.likelihood import DiagonalGaussian, SamplePrior, to_levels
from zoo.likelihood.latents import LatentSite
from zoo.likelihood.pruning import (
    MeanKL,
    PrunedPosterior,
    channel_means,
    keep_share,
    kept_dimensions,
    pruned_terms,
)
from zoo.models import EfficientVDVAE
from zoo.models.efficient_vdvae import Architecture, BottomUpStage, Output, TopDownStage

SHARES = [0.0, 0.01, 0.1, 0.3, 0.5, 0.77, 0.99, 1.0]


def efficient_vdvae():
    up = [BottomUpStage(6, [1], ratio=0.5, stride=2), BottomUpStage(8, [1], ratio=0.5)]
    down = [TopDownStage(8, [2], latents=3, ratio=0.5), TopDownStage(6, [2], latents=2, ratio=0.5, stride=2)]
    return EfficientVDVAE([3, 8, 8], 8, Architecture(up, down), Output(2))


def vdvae():
    encoder = [{"resolution": 8, "blocks": 1, "downsample": 2}, {"resolution": 4, "blocks": 1}]
    decoder = [{"resolution": 4, "blocks": 2}, {"resolution": 8, "blocks": 1, "upsample_from": 4}]
    spec = {"image_size": 8, "bits": 8, "encoder": encoder, "decoder": decoder, "width": 8, "latent_channels": 2}
    return build({"class_path": "zoo.models.VDVAE", "init_args": {**spec, "mixtures": 2}})


@pytest.fixture(params=[efficient_vdvae, vdvae])
def model(request):
    return request.param().eval()


@pytest.fixture
def x():
    return torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)


@torch.no_grad()
def means_of(model, batches):
    statistics = MeanKL()
    for batch in batches:
        model.ancestral_pass(statistics, batch)
    return statistics.means()


@torch.no_grad()
def test_keeping_all_is_the_plain_evaluation(model, x):
    keep = keep_share(means_of(model, [x]), 1.0)
    torch.manual_seed(5)
    pruned = pruned_terms(model, x, keep)
    torch.manual_seed(5)
    plain = model.terms(x)
    assert torch.equal(pruned.nelbo, plain.nelbo)
    assert all(torch.equal(pruned.rates[name], rate) for name, rate in plain.rates.items())


@torch.no_grad()
def test_keeping_none_is_the_prior(model, x):
    keep = keep_share(means_of(model, [x]), 0.0)
    torch.manual_seed(5)
    pruned = pruned_terms(model, x, keep)
    torch.manual_seed(5)
    pixels = model.ancestral_pass(SamplePrior(), n=len(x))
    assert pruned.rate.abs().max() == 0
    assert torch.equal(pruned.distortion, -pixels.log_prob(to_levels(x, 8)))


@torch.no_grad()
def test_size_and_rate_grow_with_the_share_and_masks_are_nested(model, x):
    means = means_of(model, [x])
    shapes = {name: mean.shape for name, mean in means.items()}
    masks = [keep_share(means, share) for share in SHARES]
    sizes = [kept_dimensions(mask, shapes) for mask in masks]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert sizes[-1] == sum(mean.numel() for mean in means.values())
    for small, large in pairwise(masks):
        assert all((small[name] <= large[name]).all() for name in means)


def test_kept_share_is_the_share_asked_for():
    means = {"a": torch.rand(8, 16, 16, dtype=torch.float64), "b": torch.rand(4, 8, 8, dtype=torch.float64)}
    total = sum(mean.numel() for mean in means.values())
    for share in (0.025, 0.3, 0.9):
        kept = sum(int(mask.sum()) for mask in keep_share(means, share).values())
        assert abs(kept - share * total) <= 1


@pytest.mark.parametrize("share", [0.25, 0.333, 0.9])
def test_threshold_is_numpys_quantile(share):
    values = torch.rand(7, 5, 1, 1)
    mask = keep_share({"a": values}, share)["a"]
    expected = values.numpy() > np.quantile(values.numpy(), 1 - share)
    assert np.array_equal(mask.numpy(), expected)


def test_statistics_do_not_depend_on_how_images_are_batched(model, x):
    torch.manual_seed(1)
    whole = MeanKL(lambda site: site.posterior.mean)
    parts = MeanKL(lambda site: site.posterior.mean)
    with torch.no_grad():
        model.ancestral_pass(whole, x)
        for batch in x.split([1, 3]):
            model.ancestral_pass(parts, batch)
    for name, mean in whole.means().items():
        torch.testing.assert_close(parts.means()[name], mean, rtol=1e-4, atol=1e-6)


def test_channels_are_averaged_over_positions(model, x):
    means = means_of(model, [x])
    for name, channel in channel_means(means).items():
        assert channel.shape == (len(means[name]), 1, 1)
        torch.testing.assert_close(channel.squeeze(), means[name].flatten(1).mean(1))


def test_bound_still_counts_what_is_kept():
    prior, posterior = (
        DiagonalGaussian(torch.full((1, 2, 1, 1), mean), torch.zeros(1, 2, 1, 1)) for mean in (0.0, 1.0)
    )
    policy = PrunedPosterior({"z": torch.tensor([True, False]).reshape(2, 1, 1)})
    policy(LatentSite("z", 0, prior, posterior))
    assert policy.rates["z"].item() == 0.5


def test_sites_of_codes_cannot_be_pruned():
    site = LatentSite("codes", 0, prior=object(), posterior=object())
    with pytest.raises(ValueError, match="Gaussian"):
        PrunedPosterior({})(site)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_share_must_be_a_share(share):
    with pytest.raises(ValueError, match="from 0 to 1"):
        keep_share({"a": torch.rand(2, 1, 1)}, share)
