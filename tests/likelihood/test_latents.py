"""Policies decide where latents come from; terms add up; levels are reduced in one place."""

import math

import pytest
import torch
from torch import Tensor

from tests.codec.toy import ExactModel, ToyVAE
from zoo.errors import UserError
from zoo.likelihood import (
    DiagonalGaussian,
    Given,
    ImportanceSample,
    LatentSite,
    LikelihoodTerms,
    PosteriorThenPrior,
    Recording,
    Replay,
    SamplePosterior,
    SamplePrior,
    Split,
    check_bits,
    from_levels,
    importance_weighted,
    to_levels,
)


@pytest.fixture
def model() -> ToyVAE:
    return ToyVAE()


@pytest.fixture
def x() -> Tensor:
    return torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_given_latents_repeat_a_pass(model: ToyVAE, x: Tensor) -> None:
    recording = Recording(SamplePosterior())
    first = model.ancestral_pass(recording, x)
    again = model.ancestral_pass(Given(recording.latents), x)
    assert torch.equal(first.means, again.means)


@pytest.mark.parametrize("source", ["posterior", "prior"])
def test_replayed_noise_repeats_a_pass(model: ToyVAE, x: Tensor, source: str) -> None:
    noise = [torch.randn(6, 4, 4, 4), torch.randn(6, 4, 8, 8)]
    named = {f"z{index}": eps for index, eps in enumerate(noise)}
    by_position = model.ancestral_pass(Replay(noise, source), x)
    by_name = model.ancestral_pass(Replay(named, source), x)
    assert torch.equal(by_position.means, by_name.means)


def test_posterior_then_prior_uses_the_image_above_only(model: ToyVAE, x: Tensor) -> None:
    recording = Recording(PosteriorThenPrior(1, temperature=0.0))
    model.ancestral_pass(recording, x)
    lower = recording.sites[1].prior
    assert isinstance(lower, DiagonalGaussian)
    assert torch.equal(recording.latents[1], lower.mean)


def test_split_asks_by_position(model: ToyVAE) -> None:
    asked: list[str] = []

    def policy(name: str):
        def ask(site: LatentSite) -> Tensor:
            asked.append(name)
            return SamplePrior()(site)

        return ask

    model.ancestral_pass(Split(1, policy("upper"), policy("lower")), n=2)
    assert asked == ["upper", "lower"]


def test_temperatures_may_differ_by_site(model: ToyVAE) -> None:
    for temperature in ([0.0, 1.0], lambda site: float(site.index)):
        recording = Recording(SamplePrior(temperature))
        model.ancestral_pass(recording, n=2)
        assert torch.equal(recording.latents[0], torch.zeros(2, 4, 4, 4))
        assert recording.latents[1].std() > 0.1


def test_posterior_without_an_image_is_an_error(model: ToyVAE) -> None:
    with pytest.raises(ValueError, match="give the traversal an image"):
        model.ancestral_pass(SamplePosterior(), n=1)


def test_importance_weights_tighten_the_bound(model: ToyVAE, x: Tensor) -> None:
    torch.manual_seed(0)
    from zoo.likelihood import LikelihoodTerms as Terms

    def nelbo() -> Tensor:
        policy = ImportanceSample()
        pixels = model.ancestral_pass(policy, x)
        return Terms(-pixels.log_prob(to_levels(x, 8)), policy.rates, 192).nelbo

    singles = torch.stack([nelbo() for _ in range(64)])
    bounds = [torch.stack([importance_weighted(group) for group in singles.split(k)]).mean() for k in (1, 8, 64)]
    assert bounds[0] > bounds[1] > bounds[2]
    torch.testing.assert_close(importance_weighted(singles[:1]), singles[0])
    plain = torch.stack([model.terms(x).nelbo for _ in range(64)]).mean()
    assert bounds[0].item() == pytest.approx(plain.item(), rel=0.01)


def test_codes_cost_their_log_probability() -> None:
    x = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    terms = ExactModel().terms(x)
    torch.testing.assert_close(terms.rates["code"], torch.full((3,), 3 * math.log(4.0)))


def test_terms_add_up() -> None:
    terms = LikelihoodTerms(
        torch.tensor([3.0, 5.0]), {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([0.5, 0.5])}, 12
    )
    torch.testing.assert_close(terms.rate, torch.tensor([1.5, 2.5]))
    torch.testing.assert_close(terms.nelbo, torch.tensor([4.5, 7.5]))
    torch.testing.assert_close(terms.bits_per_dim(), torch.tensor([4.5, 7.5]) / (12 * math.log(2)))
    assert torch.equal(LikelihoodTerms(torch.ones(2)).rate, torch.zeros(2))


@pytest.mark.parametrize("bits", range(1, 9))
def test_levels_survive_the_way_to_pixels_and_back(bits: int) -> None:
    levels = torch.arange(2**bits)
    assert torch.equal(to_levels(from_levels(levels, bits), bits), levels)
    pixels = torch.arange(256, dtype=torch.uint8)
    assert to_levels(pixels, bits).bincount().tolist() == [2 ** (8 - bits)] * 2**bits


@pytest.mark.parametrize("bits", [0, 9, 8.0, True, "8"])
def test_impossible_depths_are_refused(bits: object) -> None:
    with pytest.raises(UserError, match="from 1 to 8"):
        check_bits(bits)


def test_pixels_must_be_bytes() -> None:
    with pytest.raises(ValueError, match="uint8"):
        to_levels(torch.zeros(3), 8)
