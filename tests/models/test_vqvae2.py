"""VQ-VAE-2: codebooks that live, any number of levels, a normalised bound, one codebook on any number of processes."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from zoo.checkpoints import build, fit_weights
from zoo.errors import UserError
from zoo.likelihood import Known, Recording, SamplePosterior, SamplePrior, from_levels, to_levels
from zoo.models.pixelsnail import CodePrior, SnailConfig
from zoo.models.vqvae2 import VQVAE2, HeadConfig, QuantisedAutoencoder, VectorQuantiser

TRUNK = SnailConfig(channels=16, residual_channels=8, blocks=1, layers_per_block=1, heads=2, kernel_size=3)
HEAD = HeadConfig(mixtures=2, channels=8, residual_channels=4, blocks=1, fine_channels=6, fine_blocks=1)


def autoencoder(strides: tuple[int, ...] = (2, 2), side: int = 16, **more: Any) -> QuantisedAutoencoder:
    settings = {"channels": 8, "residual_channels": 4, "residual_blocks": 1, "num_codes": 6, "code_dim": 4} | more
    return QuantisedAutoencoder([3, side, side], list(strides), **settings)


def composite(strides: tuple[int, ...] = (2, 2), bits: int = 8, head: HeadConfig | None = HEAD) -> VQVAE2:
    stage1 = autoencoder(strides, bits=bits)
    stage1.train().objective(images())  # starts the codebooks from data
    grids = [list(grid) for grid in stage1.grids]
    priors = [
        CodePrior(grids[: n + 1], [6] * (n + 1), TRUNK, condition_layers=1, name=name)
        for n, name in enumerate(stage1.names)
    ]
    return VQVAE2(stage1, priors, head).eval()


def images(count: int = 3, side: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


# -- quantiser ---------------------------------------------------------------------------------------------------------


def test_codes_are_the_nearest_vectors_and_the_first_of_equals() -> None:
    quantiser = VectorQuantiser(5, 3).eval()
    quantiser.codebook[4] = quantiser.codebook[1]
    z = torch.randn(2, 3, 4, 4)
    found = quantiser(z)
    distance = torch.cdist(z.movedim(1, -1).flatten(0, 2), quantiser.codebook)
    assert torch.equal(found.codes.flatten(), distance[:, :4].argmin(1))
    torch.testing.assert_close(found.vectors, quantiser.lookup(found.codes))


def test_gradient_passes_straight_through_and_commitment_pulls_to_the_code() -> None:
    quantiser = VectorQuantiser(5, 3).eval()
    z = torch.randn(1, 3, 2, 2, requires_grad=True)
    found = quantiser(z)
    assert torch.equal(torch.autograd.grad(found.vectors.sum(), z, retain_graph=True)[0], torch.ones_like(z))
    pull = torch.autograd.grad(found.commitment, z)[0]
    torch.testing.assert_close(pull, 2 * (z - found.vectors).detach() / z.numel())


def test_averages_move_only_in_training_mode() -> None:
    quantiser = VectorQuantiser(5, 3).eval()
    before = quantiser.codebook.clone()
    quantiser(torch.randn(4, 3, 2, 2))
    assert torch.equal(quantiser.codebook, before)
    quantiser.train()(torch.randn(4, 3, 2, 2))
    assert not torch.equal(quantiser.codebook, before)


@pytest.mark.parametrize("init", ["data", "debiased"])
def test_codes_converge_to_the_means_of_their_clusters(init: str) -> None:
    quantiser = VectorQuantiser(3, 2, init=init, decay=0.9, revive_below=0.05).train()
    centres = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0]])
    for _ in range(60):
        z = centres[torch.randint(3, (64,))] + 0.1 * torch.randn(64, 2)
        found = quantiser(z.T.reshape(1, 2, 8, 8))
    nearest = torch.cdist(centres, quantiser.codebook).min(1).values
    assert nearest.max() < 0.3
    assert found.used == 1
    assert 2.5 < found.perplexity <= 3


def test_dead_codes_are_moved_to_the_data() -> None:
    quantiser = VectorQuantiser(8, 2, init="normal", revive_below=0.5).train()
    quantiser.codebook.fill_(100.0)
    quantiser.counts.fill_(1.0)
    quantiser.sums.fill_(100.0)
    for _ in range(200):
        quantiser(torch.randn(1, 2, 8, 8))
    assert quantiser.codebook.abs().max() < 5


def test_fewer_vectors_than_codes_can_start_a_codebook() -> None:
    quantiser = VectorQuantiser(50, 2).train()
    z = torch.randn(1, 2, 2, 2)
    quantiser(z)
    assert torch.isfinite(quantiser.codebook).all()


INITS = ("data", "normal")


def _quantise(rank: int, world: int, port: int, output: str) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    torch.set_num_threads(1)
    for init in INITS:
        quantiser = make_quantiser(init)
        for step in range(4):
            quantiser(batch(step).chunk(world)[rank])
        torch.save(quantiser.state_dict(), f"{output}/{init}{rank}.pt")
    dist.destroy_process_group()


def make_quantiser(init: str) -> VectorQuantiser:
    torch.manual_seed(1)
    return VectorQuantiser(12, 3, init=init, revive_below=0.9).train()


def batch(step: int) -> torch.Tensor:
    return torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(step))


def test_two_processes_give_the_codebook_of_one_on_the_joined_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_quantise, (2, port, str(tmp_path)), nprocs=2)
    for init in INITS:
        alone = make_quantiser(init)
        for step in range(4):
            alone(batch(step))
        for rank in range(2):
            for key, value in torch.load(tmp_path / f"{init}{rank}.pt", weights_only=True).items():
                torch.testing.assert_close(value, alone.state_dict()[key], rtol=1e-5, atol=1e-6)


# -- autoencoder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strides", [(2,), (4,), (2, 2), (4, 2), (8, 2), (2, 2, 2), (2, 2, 2, 2)])
def test_any_number_of_levels_and_sensible_shapes(strides: tuple[int, ...]) -> None:
    network = autoencoder(strides).train()
    x = images(2)
    encoded = network.encode(network.normalise(x))
    scale = 1
    for stride, grid in zip(strides, reversed(network.grids), strict=True):
        scale *= stride
        assert grid == (16 // scale, 16 // scale)
    assert [tuple(codes.shape[1:]) for codes in encoded.codes] == network.grids
    assert network.decode(network.lookup(encoded.codes)).shape == x.shape
    network.objective(x).loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_every_level_can_change_the_image() -> None:
    network = autoencoder((2, 2, 2)).train()
    network.objective(images())
    network.eval()
    codes = network.encode(network.normalise(images(1))).codes
    whole = network.decode(network.lookup(codes))
    for level in range(len(codes)):
        changed = [(grid + 1) % network.num_codes if n == level else grid for n, grid in enumerate(codes)]
        assert not torch.allclose(network.decode(network.lookup(changed)), whole)


def test_training_lowers_the_error_and_reports_the_codebooks() -> None:
    network = autoencoder(revive_below=0.05).train()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    x = images(4)
    losses = []
    for _ in range(40):
        objective = network.objective(x)
        optimizer.zero_grad()
        objective.loss.backward()
        optimizer.step()
        losses.append(float(objective.parts["mse"]))
    assert losses[-1] < 0.9 * losses[0]
    assert {"perplexity/top", "perplexity/bottom", "dead/top", "dead/bottom"} <= objective.parts.keys()


def test_image_that_the_strides_do_not_divide_is_refused() -> None:
    with pytest.raises(UserError, match="not divisible"):
        autoencoder((4, 2), side=12)


# -- composite ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [5, 8])
@pytest.mark.parametrize("strides", [(2, 2), (2, 2, 2)])
def test_rate_is_the_price_of_the_codes_and_distortion_that_of_the_pixels(strides: tuple[int, ...], bits: int) -> None:
    network = composite(strides, bits)
    x = images()
    policy = Recording(SamplePosterior())
    pixels = network.ancestral_pass(policy, x)
    terms = network.terms(x)
    assert list(terms.rates) == network.autoencoder.names
    for n, site in enumerate(policy.sites):
        known = Known(policy.latents[n])
        site.prior.visit(known)
        torch.testing.assert_close(known.nats.float(), terms.rates[site.name].detach(), rtol=1e-4, atol=1e-3)
    known = Known(to_levels(x, bits))
    pixels.visit(known)
    torch.testing.assert_close(known.nats.float(), terms.distortion.detach(), rtol=1e-4, atol=1e-2)


def test_lower_levels_are_priced_given_the_upper_codes() -> None:
    network = composite()
    codes = torch.randint(6, (1, *network.autoencoder.grids[1]))
    upper = [torch.zeros(1, *network.autoencoder.grids[0], dtype=torch.long) + k for k in (0, 1)]
    first, second = (network.prior(1, 1, [grid]).log_prob(codes) for grid in upper)
    assert not torch.allclose(first, second)


def test_samples_decode_drawn_codes_and_the_autoencoder_stays_frozen() -> None:
    network = composite().train()
    assert not network.autoencoder.training
    assert not any(parameter.requires_grad for parameter in network.autoencoder.parameters())
    before = {key: value.clone() for key, value in network.autoencoder.state_dict().items()}
    network.objective(images()).loss.backward()
    assert all(p.grad is not None for part in (network.priors, network.head) for p in part.parameters())
    for key, value in network.autoencoder.state_dict().items():
        assert torch.equal(value, before[key])
    rows: list[int] = []
    network.progress = lambda done, total: rows.append(done)
    assert network.sample(2).shape == (2, 3, 16, 16)
    assert rows == [*range(1, 5), *range(1, 9)]


def test_without_priors_a_code_costs_log_k() -> None:
    network = VQVAE2(autoencoder(), None, None).eval()
    terms = network.terms(images(2))
    expected = (4 * 4 + 8 * 8) * torch.log(torch.tensor(6.0))
    torch.testing.assert_close(terms.rate, expected.expand(2), rtol=1e-5, atol=0)
    assert network.ancestral_pass(SamplePrior(), n=2).sample().shape == (2, 3, 16, 16)


def test_reconstruction_gains_from_every_level() -> None:
    network = composite()
    x = from_levels(torch.randint(0, 256, (2, 3, 16, 16)), 8)
    shapes = {network.reconstruct(x, levels).shape for levels in (1, 2)}
    assert shapes == {x.shape}
    assert not torch.equal(network.reconstruct(x, 1), network.reconstruct(x, 2))


def test_description_rebuilds_the_network() -> None:
    trunk = {"channels": 16, "residual_channels": 8, "blocks": 1, "layers_per_block": 1, "heads": 2, "kernel_size": 3}
    stage1 = {
        "class_path": "QuantisedAutoencoder",
        "init_args": {"image_shape": [3, 16, 16], "strides": [2, 2], "channels": 8, "num_codes": 6, "code_dim": 4},
    }
    priors = [
        {"class_path": "CodePrior", "init_args": {"grids": grids, "codes": [6] * len(grids), "trunk": trunk}}
        for grids in ([[4, 4]], [[4, 4], [8, 8]])
    ]
    spec = {
        "class_path": "VQVAE2",
        "init_args": {"autoencoder": stage1, "priors": priors, "head": {"mixtures": 2, "fine_channels": 6}},
    }
    first, second = build(spec).eval(), build(spec).eval()
    fit_weights(second, first.state_dict(), "copy")
    x = images(1)
    assert torch.equal(first.terms(x).nelbo, second.terms(x).nelbo)


def test_parts_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(UserError, match="one per level"):
        VQVAE2(autoencoder(), [CodePrior([[4, 4]], [6], TRUNK)])
    with pytest.raises(UserError, match="the autoencoder has"):
        VQVAE2(autoencoder((2,)), [CodePrior([[4, 4]], [6], TRUNK)])


# -- pixels drawn one after the other ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 5])
def test_causal_pixels_behind_a_decoder_cost_what_they_are_visited_for_and_see_the_codes(bits: int) -> None:
    head = HeadConfig(
        mixtures=2, channels=8, residual_channels=4, blocks=1, fine_channels=6, fine_blocks=1, trunk=TRUNK
    )
    network = composite(bits=bits, head=head)
    levels = to_levels(images(2), bits)
    codes = network.draw_codes(SamplePosterior(), from_levels(levels, bits))
    pixels = network.pixels(codes)
    known = Known(levels)
    assert torch.equal(pixels.visit(known), levels)
    torch.testing.assert_close(known.nats, -pixels.log_prob(levels).double(), rtol=1e-4, atol=1e-2)
    other = [code.flip(-1) for code in codes]
    assert not torch.allclose(network.pixels(other).log_prob(levels), pixels.log_prob(levels))
    assert pixels.sample().shape == levels.shape
