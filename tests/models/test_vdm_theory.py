"""VDM on data whose density is known: a Gaussian pushed through 8-bit levels, with the best possible denoiser."""

import math

import pytest
import torch
from torch import nn

from zoo.codec import Options, measure
from zoo.errors import UserError
from zoo.likelihood import SamplePosterior, nats_to_bits_per_dim, to_levels
from zoo.models.vdm import VDM, BoundConfig, Draws, FixedSchedule, MonotoneSchedule, ScheduleConfig, ScoreConfig
from zoo.models.vdm.ode import integrate
from zoo.models.vdm.pixels import encode_levels

SHAPE = (1, 4, 4)


def level_probs(mean=0.1, std=0.4):
    """Mass of every 8-bit level under N(mean, std^2) on [-1, 1]; the tails belong to the outermost levels."""
    edges = torch.linspace(-1, 1, 257, dtype=torch.float64)
    edges[0], edges[-1] = -math.inf, math.inf
    return torch.special.ndtr((edges - mean) / std).diff()


class OptimalDenoiser(nn.Module):
    """The noise expected given z, exact for independent pixels with known probabilities of the levels."""

    def __init__(self, probs):
        super().__init__()
        self.log_probs, self.centres = probs.log(), encode_levels(torch.arange(len(probs)), 8)

    def forward(self, z, gamma, changed, label=None):
        alpha, sigma = (v.sqrt().reshape(-1, 1, 1, 1) for v in (torch.sigmoid(-gamma), torch.sigmoid(gamma)))
        distance = (z.unsqueeze(-1) - alpha.unsqueeze(-1) * self.centres) / sigma.unsqueeze(-1)
        weights = torch.softmax(self.log_probs - 0.5 * distance.square(), dim=-1)
        return (z - alpha * (weights * self.centres).sum(-1)) / sigma


def known(kind="fixed", steps=1000, **bound):
    score = ScoreConfig(width=8, blocks=1, groups=2)
    model = VDM(SHAPE, score=score, schedule=ScheduleConfig(kind, 16), bound=BoundConfig(**bound), steps=steps)
    model.network = OptimalDenoiser(level_probs())
    return model.eval()


def gaussian_images(n):
    levels = torch.multinomial(level_probs(), n * 16, replacement=True).reshape(n, *SHAPE)
    return levels.to(torch.uint8)


def true_bits(x):
    return nats_to_bits_per_dim(-level_probs().log()[to_levels(x, 8)].flatten(1).sum(1), 16)


@torch.no_grad()
def excess(model, x, estimator):
    """Mean of estimate minus truth in bits/dim, and its standard error."""
    difference = model.terms_with(estimator, x).bits_per_dim().detach() - true_bits(x)
    return difference.mean().item(), difference.std().item() / math.sqrt(len(x))


def test_three_estimators_agree_with_the_true_value():
    x = gaussian_images(128)
    for estimator, allowance in (("continuous", 0.001), ("steps-4000", 0.03)):  # T steps cost about 80 / T here
        mean, error = excess(known(eval_draws=64), x, estimator)
        assert abs(mean) < 4 * error + allowance
        assert error < 0.1
    for estimator in ("ode", "ode-gaussian"):
        mean, error = excess(known(ode_tolerance=2e-3), x[:24], estimator)
        assert abs(mean) < 4 * error + 0.005
        assert error < 0.01


def test_bound_falls_with_the_number_of_steps_towards_the_continuous_one():
    x = gaussian_images(64)
    means, errors = zip(*(excess(known(eval_draws=T), x, f"steps-{T}") for T in (5, 20, 80, 240)), strict=True)
    for upper, lower, error in zip(means, means[1:], errors[1:], strict=False):
        assert lower + 4 * error < upper
    assert means[-1] > -4 * errors[-1]
    # first order in 1/T: three times as many steps, about a third of the excess
    assert means[2] / means[3] == pytest.approx(3.0, rel=0.5)


def test_traversal_agrees_with_the_summed_steps():
    x = gaussian_images(64)
    model = known(eval_draws=30, steps=30)
    with torch.no_grad():
        policy = SamplePosterior()
        distortion = -model.ancestral_pass(policy, x).log_prob(to_levels(x, 8))
    passed = nats_to_bits_per_dim(distortion + sum(policy.rates.values()), 16) - true_bits(x)
    direct, error = excess(model, x, "steps-30")
    assert passed.mean().item() == pytest.approx(direct, abs=4 * (error + passed.std().item() / 8))


def test_continuous_bound_does_not_depend_on_the_interior_of_the_schedule():
    x = gaussian_images(128)
    model, results = known(eval_draws=64), []
    bent = MonotoneSchedule(-13.3, 5.0, width=16)
    nn.init.normal_(bent.raw_weight, std=3.0)
    for schedule in (FixedSchedule(-13.3, 5.0), bent):
        model.schedule = schedule
        results.append(excess(model, x, "continuous"))
    times = torch.linspace(0, 1, 21)
    assert (bent(times).gamma - FixedSchedule(-13.3, 5.0)(times).gamma).abs().max() > 1.0
    (straight, error_a), (curved, error_b) = results
    assert abs(straight - curved) < 4 * math.hypot(error_a, error_b)


FORMS = {  # alpha of a specification by gamma; sigma follows from the signal-to-noise ratio
    "variance preserving": lambda gamma: torch.sigmoid(-gamma).sqrt(),
    "variance exploding": torch.ones_like,
    "straight from data to noise": lambda gamma: 1.0 / (1.0 + torch.exp(0.5 * gamma)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("steps", [0, 7])
def test_every_form_of_the_diffusion_with_the_same_ratio_of_signal_to_noise_has_the_same_loss(form, steps):
    """Kingma et al. 2021, section 5.1: z' = alpha' f + sigma' eps, predictor x'(z', t) = x(alpha / alpha' z', t)."""
    model, x = known("monotone"), gaussian_images(16)
    draws = Draws(torch.zeros(x.shape), torch.rand(16, dtype=torch.float64), torch.randn(x.shape))
    with torch.no_grad():
        expected = model.price(x, draws, steps)[0].rates["diffusion"]
    t = (torch.ceil(draws.times * steps) / steps if steps else draws.times).requires_grad_()
    gamma = model.schedule(t).gamma
    ratio = torch.exp(-gamma)  # of signal to noise
    if steps:
        fall = steps * (torch.exp(-model.schedule(t - 1.0 / steps).gamma) - ratio)
    else:
        (slope,) = torch.autograd.grad(ratio.sum(), t)
        fall = -slope
    own, other = (FORMS[name](gamma).detach().reshape(-1, 1, 1, 1) for name in ("variance preserving", form))
    noise = torch.exp(0.5 * gamma).detach().reshape(-1, 1, 1, 1)  # sigma / alpha, the same in every form
    f = model.encode(x)
    z = own / other * (other * f + other * noise * draws.eps.double())
    with torch.no_grad():
        denoised = z / own - noise * model.predict(z, gamma.detach())
    loss = 0.5 * fall * (f - denoised).square().flatten(1).sum(1)
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_diffusion_walks_alike(form):
    """A step of any form, seen on the scale of z / alpha', is the model's own."""
    model = known("monotone")
    gamma = model.schedule(torch.tensor([0.6, 0.5])).gamma.detach()
    (a_t, a_s), (b_t, b_s) = FORMS["variance preserving"](gamma), FORMS[form](gamma)
    s_t, s_s = (b * torch.exp(0.5 * g) for b, g in zip((b_t, b_s), gamma, strict=True))
    f, eps = torch.rand(2, *SHAPE).double() * 2 - 1, torch.randn(2, *SHAPE).double()
    own = model.transition(a_t * f + a_t * torch.exp(0.5 * gamma[0]) * eps, gamma[0], gamma[1], eps)
    left = s_t**2 - (b_t / b_s) ** 2 * s_s**2  # variance of z_t given z_s
    mean = (b_t / b_s) * s_s**2 / s_t**2 * (b_t * f + s_t * eps) + b_s * left / s_t**2 * f
    torch.testing.assert_close(own.mean / a_s, mean / b_s)
    torch.testing.assert_close(own.std / a_s, (left.sqrt() * s_s / s_t / b_s).expand_as(own.std))


def test_better_schedule_has_less_variance():
    """The gradient of `objective` bends the schedule of an exact model until its estimate varies less."""
    x = gaussian_images(192)
    model = known("monotone")
    optimizer = torch.optim.Adam([p for n, p in model.schedule.named_parameters() if n.startswith("raw")], lr=0.1)

    def spread():
        draws = Draws(torch.randn(x.shape), torch.rand(len(x)), torch.randn(x.shape))
        terms, _ = model.price(x, draws)
        return terms.bits_per_dim().var().item()

    before = spread()
    for _ in range(30):
        optimizer.zero_grad()
        model.objective(x).loss.backward()
        optimizer.step()
    assert spread() < 0.7 * before


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_solver_meets_its_tolerance(tolerance):
    start = torch.tensor([[1.0, 0.0], [2.0, 0.0]], dtype=torch.float64)

    def field(time, state):  # y' = -y cos t, integral' = y: y = y0 exp(-sin t)
        return torch.stack([-state[:, 0] * math.cos(time), state[:, 0]], dim=1)

    solution = integrate(field, start, 0.0, 3.0, tolerance)
    expected = start[:, 0] * math.exp(-math.sin(3.0))
    assert (solution.state[:, 0] - expected).abs().max() < 20 * tolerance
    assert solution.evaluations < 1000


def test_solver_says_when_the_tolerance_cannot_be_met():
    with pytest.raises(UserError, match="raise ode_tolerance"):
        integrate(lambda t, y: torch.randn_like(y), torch.zeros(1, 2).double(), 0.0, 1.0, 1e-9, limit=100)


def test_files_have_the_size_of_the_bound():
    """Bits-back through the T + 1 latents: exact, and as long as the T-step bound says."""
    x = gaussian_images(32)
    coded = measure(known(steps=20), bytes(12), x, Options(16, chained=True))
    assert coded.exact
    bound, error = excess(known(eval_draws=20), x, "steps-20")
    assert coded.report.net == pytest.approx(bound + true_bits(x).mean().item(), abs=4 * error + 0.3)
