"""Noise that belongs to the image: the same whatever shares the batch, independent wherever it is used."""

import math

import pytest
import torch

from tests.benchmarks.toy import ToyVAE
from zoo.likelihood import ImageNoise, ImportanceSample, LatentSite, SamplePosterior, SamplePrior
from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.noise import GLOBAL_NOISE

N = 40_000
"""Numbers per test of independence; a correlation of independent numbers is within 5 / sqrt(N) of 0."""


def numbers(seed=0, number=0, index=0, site="z0", count=N):
    return ImageNoise(seed, number, [index]).normal(site, torch.zeros(1, count, dtype=torch.float64))[0]


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_numbers_of_an_image_do_not_depend_on_its_batch(kind):
    like = torch.zeros(5, 3, 4)
    whole = getattr(ImageNoise(1, 2, [8, 3, 5, 0, 11]), kind)("z", like)
    order = torch.tensor([4, 1, 2])
    part = getattr(ImageNoise(1, 2, torch.tensor([11, 3, 5])), kind)("z", like[:3])
    assert torch.equal(part, whole[order])


@pytest.mark.parametrize(
    "other", [{"seed": 1}, {"number": 1}, {"index": 1}, {"site": "z1"}, {"seed": -1}, {"index": 1 << 40}, {"site": ""}]
)
def test_streams_are_independent(other):
    a, b = numbers(), numbers(**other)
    assert abs((a * b).mean()) < 5 / math.sqrt(N)
    assert abs((a.square() * b.square()).mean() - 1) < 5 * math.sqrt(8 / N)
    shifted = a[1:] * b[:-1]
    assert abs(shifted.mean()) < 5 / math.sqrt(N)


def test_normals_are_standard_and_finite():
    eps = numbers(count=400_000)
    for power, expected, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # the last: variance of the power
        assert abs(eps.pow(power).mean() - expected) < 5 * math.sqrt(spread / len(eps))
    assert eps.isfinite().all()
    uniform = ImageNoise(0, 0, [0]).uniform("u", torch.zeros(1, N))
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 5 / math.sqrt(12 * N)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision_only_rounds(dtype):
    exact = ImageNoise(0, 0, [3]).normal("z", torch.zeros(1, 1000, dtype=torch.float64))
    rounded = ImageNoise(0, 0, [3]).normal("z", torch.zeros(1, 1000, dtype=dtype))
    assert torch.equal(rounded, exact.to(dtype))
    assert ImageNoise(0, 0, [3]).uniform("z", torch.zeros(1, 100_000, dtype=dtype)).max() < 1


@pytest.mark.parametrize("n", [1, 10, 100, 1000])
def test_spread_numbers_cover_the_interval_whatever_the_batches(n):
    whole = ImageNoise(0, 0, range(n)).spread("time", torch.zeros(n, 1))
    parts = [ImageNoise(0, 0, part).spread("time", torch.zeros(len(part), 1)) for part in torch.arange(n).split(7)]
    assert torch.equal(torch.cat(parts), whole)
    gaps = whole.sort().values.diff(prepend=whole.sort().values[-1:] - 1)
    assert gaps.max() < 2.7 / n  # no gap is longer than about phi^2 times the mean
    assert not torch.equal(whole, ImageNoise(0, 1, range(n)).spread("time", torch.zeros(n, 1)))
    even = GLOBAL_NOISE.spread("time", torch.zeros(n, 1))
    torch.testing.assert_close(even.sort().values.diff(), torch.full((n - 1,), 1 / n, dtype=torch.float64))


@pytest.mark.parametrize("policy", [SamplePosterior, ImportanceSample])
def test_default_noise_is_the_global_generator_draw_by_draw(policy):
    mean = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    site = LatentSite("z", 0, DiagonalGaussian.standard_like(mean), DiagonalGaussian(mean, torch.zeros_like(mean)))
    torch.manual_seed(5)
    eps = torch.randn(mean.shape)
    torch.manual_seed(5)
    assert torch.equal(policy()(site), mean + eps)
    torch.manual_seed(5)
    assert torch.equal(SamplePrior()(site), eps)


def test_price_of_an_image_depends_on_its_index_pass_and_seed_only():
    torch.manual_seed(0)
    model = ToyVAE().eval()
    x = torch.randint(0, 256, (6, *model.image_shape), dtype=torch.uint8)

    def prices(rows, seed=0, number=0):
        with torch.no_grad():
            return model.terms(x[rows], noise=ImageNoise(seed, number, rows)).nelbo

    whole = prices([0, 1, 2, 3, 4, 5])
    torch.testing.assert_close(torch.cat([prices([0, 1]), prices([2, 3, 4, 5])]), whole)
    torch.testing.assert_close(prices([5, 3, 1]), whole[[5, 3, 1]])
    assert not torch.allclose(prices([0, 1, 2, 3, 4, 5], number=1), whole)
    assert not torch.allclose(prices([0, 1, 2, 3, 4, 5], seed=1), whole)
    with pytest.raises(ValueError, match="noise for 1 images"):
        model.terms(x, noise=ImageNoise(0, 0, [0]))
