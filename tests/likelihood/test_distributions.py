"""Every distribution of the zoo is normalised, agrees with its sampler and its coding tables, and stays finite."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoo.likelihood import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    Known,
    LogisticMixture,
    PixelDistribution,
    Table,
    half_bin,
    level_values,
)
from zoo.likelihood.mixture import bin_log_mass
from zoo.likelihood.official import vdvae_log_mass


def all_levels(bits: int) -> Tensor:
    return torch.arange(2**bits)


def mixture(bits: int, size: int = 3, mixtures: int = 4, scale: float = 1.0, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(bits)
    head = scale * torch.randn(2, 10 * mixtures, size, size, generator=generator, dtype=dtype)
    return LogisticMixture.from_head(head, bits)


@pytest.mark.parametrize("bits", range(1, 9))
def test_one_logistic_sums_to_one_over_all_levels(bits: int) -> None:
    mean = torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None, None]
    log_scale = torch.linspace(-12, 5, 35, dtype=torch.float64)[:, None]
    levels = all_levels(bits)
    log_mass = bin_log_mass(level_values(levels, bits, torch.float64) - mean, log_scale, levels, bits)
    assert log_mass.exp().sum(-1).sub(1).abs().max() < 1e-9


@pytest.mark.parametrize("bits", [1, 2])
def test_mixture_sums_to_one_over_all_colours(bits: int) -> None:
    levels = torch.cartesian_prod(*[all_levels(bits)] * 3)  # (V^3, 3)
    head = torch.randn(1, 30, 1, 1, dtype=torch.float64).expand(len(levels), -1, -1, -1)
    total = LogisticMixture.from_head(head, bits).log_prob(levels[:, :, None, None]).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_mixture_sums_to_one_by_its_conditionals(bits: int) -> None:
    """Each visit of the walk offers a table that sums to one, and their product is the joint."""
    distribution = mixture(bits)
    levels = distribution.sample()
    sums = []

    def choose(index, law):
        sums.append((law.probs().sum(-1) - 1).abs().max().item())
        return known(index, law)

    known = Known(levels)
    walked = distribution.visit(choose)
    assert torch.equal(walked, levels)
    assert max(sums) < 1e-12
    torch.testing.assert_close(-known.nats, distribution.log_prob(levels), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_cumulative_distribution_is_the_sum_of_the_table(bits: int) -> None:
    def choose(index, law):
        table = Table(law.probs())
        edges = torch.arange(1, 2**bits).view(-1, 1, 1, 1).expand(-1, *law.shape)
        torch.testing.assert_close(law.below(edges), table.below(edges), rtol=1e-9, atol=1e-12)
        return torch.zeros(law.shape, dtype=torch.long)

    mixture(bits).visit(choose)


def test_walk_does_not_depend_on_how_memory_splits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    distribution = mixture(8, size=5)
    levels = distribution.sample()
    whole = Known(levels)
    distribution.visit(whole)
    monkeypatch.setattr("zoo.likelihood.mixture._BLOCK_ELEMENTS", 4 * 5 * 2)
    split = Known(levels)
    distribution.visit(split)
    torch.testing.assert_close(split.costs, whole.costs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_samples_have_the_probabilities_that_are_priced(bits: int) -> None:
    torch.manual_seed(0)
    head = torch.randn(1, 10 * 2, 1, 1, dtype=torch.float64)
    count = 40_000
    samples = LogisticMixture.from_head(head.expand(count, -1, -1, -1), bits).sample()[:, 0, 0, 0]
    one = LogisticMixture.from_head(head, bits)
    tables: list[Tensor] = []

    def first(index, law):
        tables.append(law.probs().reshape(-1))
        return torch.zeros(law.shape, dtype=torch.long)

    one.visit(first)
    observed = torch.bincount(samples, minlength=2**bits) / count
    error = (tables[0] * (1 - tables[0]) / count).sqrt() + 1 / count
    assert ((observed - tables[0]).abs() / error).max() < 5


def test_drawing_by_walking_agrees_with_direct_samples() -> None:
    torch.manual_seed(0)
    head = torch.randn(1, 20, 1, 1).expand(20_000, -1, -1, -1)
    from zoo.likelihood import draw

    direct, walked = mixture_of(head).sample().double(), mixture_of(head).visit(draw).double()
    assert (direct.mean(0) - walked.mean(0)).abs().max() < 4.0
    torch.testing.assert_close(
        torch.corrcoef(direct[..., 0, 0].T), torch.corrcoef(walked[..., 0, 0].T), atol=0.05, rtol=0
    )


def mixture_of(head: Tensor) -> LogisticMixture:
    return LogisticMixture.from_head(head, 8)


EXTREME = st.floats(allow_nan=False, allow_infinity=False, width=32, allow_subnormal=False)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(EXTREME, min_size=20, max_size=20),
    st.integers(1, 8),
    st.lists(st.integers(0, 255), min_size=3, max_size=3),
)
def test_any_finite_parameters_give_finite_nats_and_gradients(values: list[float], bits: int, pixel: list[int]) -> None:
    head = torch.tensor(values, dtype=torch.float32).reshape(1, 20, 1, 1).requires_grad_()
    levels = torch.tensor(pixel).reshape(1, 3, 1, 1) >> (8 - bits)
    log_prob = LogisticMixture.from_head(head, bits, min_log_scale=-250.0).log_prob(levels)
    assert torch.isfinite(log_prob).all()
    log_prob.sum().backward()
    assert torch.isfinite(head.grad).all()


@pytest.mark.parametrize("bits", [1, 5, 8])
def test_float32_agrees_with_float64(bits: int) -> None:
    double = mixture(bits, size=8, scale=2.0)
    single = LogisticMixture(
        double.logits.float(), double.means.float(), double.raw_log_scales.float(), double.coefficients.float(), bits
    )
    levels = double.sample()
    torch.testing.assert_close(single.log_prob(levels).double(), double.log_prob(levels), rtol=2e-5, atol=1e-3)


def test_at_eight_bits_the_official_formula_is_the_normalised_one_near_the_mean() -> None:
    levels = all_levels(8)
    values = level_values(levels, 8, torch.float64)
    for log_scale in (-4.0, -2.0, 0.0):
        ours = bin_log_mass(values - 0.1, torch.tensor(log_scale), levels, 8).exp()
        official = vdvae_log_mass(values, torch.tensor(0.1), torch.tensor(log_scale), 8).exp()
        assert (ours - official).abs().max() < 1e-5


def test_official_five_bit_bins_overlap_and_ours_meet() -> None:
    values, levels = level_values(all_levels(5), 5, torch.float64), all_levels(5)
    mean = torch.linspace(-0.9, 0.8, 400, dtype=torch.float64)[:, None]
    official = vdvae_log_mass(values, mean, torch.tensor(-5.0, dtype=torch.float64), 5).exp().sum(-1)
    ours = bin_log_mass(values - mean, torch.tensor(-5.0, dtype=torch.float64), levels, 5).exp().sum(-1)
    assert official.mean().item() == pytest.approx(1.028, abs=0.002)
    assert official.max() > 1.06
    assert (ours - 1).abs().max() < 1e-12


@pytest.mark.parametrize("bits", range(1, 9))
def test_bins_tile_the_axis(bits: int) -> None:
    centres = level_values(all_levels(bits), bits, torch.float64)
    assert torch.diff(centres).sub(2 * half_bin(bits)).abs().max() < 1e-12


@pytest.mark.parametrize(
    "distribution",
    [Bernoulli(torch.randn(2, 1, 3, 3)), Categorical(torch.randn(2, 3, 2, 2, 7))],
    ids=["bernoulli", "categorical"],
)
def test_independent_symbols_cost_what_their_tables_say(distribution: PixelDistribution) -> None:
    assert isinstance(distribution, PixelDistribution)
    levels = distribution.sample()
    known = Known(levels)
    assert torch.equal(distribution.visit(known), levels)
    torch.testing.assert_close(-known.nats.float(), distribution.log_prob(levels))


def test_bernoulli_sums_to_one() -> None:
    logits = torch.linspace(-30, 30, 61).reshape(61, 1, 1, 1)
    total = sum(Bernoulli(logits).log_prob(torch.full((61, 1, 1, 1), level)).exp() for level in (0, 1))
    torch.testing.assert_close(total, torch.ones(61))


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.floats(-2, 2), st.floats(-3, 3), st.floats(-2, 2))
def test_kl_matches_monte_carlo(mean_q: float, log_q: float, mean_p: float, log_p: float) -> None:
    q = DiagonalGaussian(torch.tensor([mean_q]).double(), torch.tensor([log_q]).double())
    p = DiagonalGaussian(torch.tensor([mean_p]).double(), torch.tensor([log_p]).double())
    z = q.sample(torch.randn(200_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    ratio = q.log_prob(z) - p.log_prob(z)
    standard_error = ratio.std() / math.sqrt(len(ratio))
    assert abs(q.kl(p).item() - ratio.mean().item()) < 5 * standard_error + 1e-6


def test_kl_of_equal_gaussians_is_exactly_zero() -> None:
    q = DiagonalGaussian(torch.randn(100), torch.randn(100))
    assert torch.equal(q.kl(q), torch.zeros(100))


def test_temperature_scales_the_spread_and_zero_gives_the_mean() -> None:
    p = DiagonalGaussian(torch.randn(1000), torch.randn(1000))
    torch.testing.assert_close(p.scaled(0.5).std, 0.5 * p.std)
    assert torch.equal(p.scaled(0.0).sample(), p.mean)
    assert p.scaled(1.0) is p


def test_one_coloured_mixture_has_no_coefficients() -> None:
    distribution = LogisticMixture(
        torch.randn(2, 3, 4, 4).double(),
        torch.randn(2, 1, 3, 4, 4).double(),
        torch.randn(2, 1, 3, 4, 4).double(),
        None,
        4,
    )
    levels = distribution.sample()
    known = Known(levels)
    distribution.visit(known)
    assert levels.shape == (2, 1, 4, 4)
    torch.testing.assert_close(-known.nats, distribution.log_prob(levels))


def test_only_the_normalised_convention_can_be_coded() -> None:
    official = LogisticMixture.from_head(torch.randn(1, 10, 2, 2), 5, bins="vdvae")
    with pytest.raises(ValueError, match="normalised"):
        official.visit(Known(torch.zeros(1, 3, 2, 2, dtype=torch.long)))
