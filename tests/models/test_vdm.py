"""VDM: properties of schedules, pixels, terms and the T-step traversal on tiny networks."""

import math

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.likelihood import Recording, Replay, SamplePosterior, SamplePrior, to_levels
from zoo.likelihood.noise import evenly
from zoo.models.vdm import (
    VDM,
    AlphaCosineSchedule,
    BetaLinearSchedule,
    BoundConfig,
    FixedSchedule,
    MonotoneSchedule,
    NetworkSchedule,
    ScalarSchedule,
    ScheduleConfig,
    ScoreConfig,
    stratified,
)
from zoo.models.vdm.pixels import encode_levels, pixel_distribution, pixel_log_prob, reach
from zoo.training.recomputation import recompute_blocks

SCHEDULES = [
    FixedSchedule,
    ScalarSchedule,
    NetworkSchedule,
    MonotoneSchedule,
    BetaLinearSchedule,
    AlphaCosineSchedule,
]


def tiny(kind="monotone", score=None, bound=None, gamma_min=None, **changes):
    model = VDM(
        **{"image_shape": [3, 8, 8], "steps": 5, **changes},
        score=ScoreConfig(**{"width": 16, "blocks": 1, "groups": 4, "dropout": 0.0, **(score or {})}),
        schedule=ScheduleConfig(kind, 32, gamma_min),
        bound=BoundConfig(**(bound or {})),
    )
    for parameter in model.network.parameters():  # zero-initialised layers would hide mistakes
        if parameter.requires_grad and not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return model


def images(n=4, shape=(3, 8, 8)):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedule_rises_and_its_slope_is_its_derivative(kind):
    schedule = kind(-13.3, 5.0)
    with torch.no_grad():
        for parameter in schedule.parameters():  # any signs; the ends of the scalar and monotone kinds stay in order
            parameter *= 1.0 + 0.3 * torch.randn_like(parameter).clamp(-2, 2)
    t = torch.linspace(0, 1, 101, dtype=torch.float64, requires_grad=True)
    level = schedule(t)
    (derivative,) = torch.autograd.grad(level.gamma.sum(), t) if level.gamma.requires_grad else (level.slope,)
    torch.testing.assert_close(level.slope, derivative)
    assert (level.gamma.diff() > 0).all()


@pytest.mark.parametrize("kind", SCHEDULES)
def test_schedule_starts_between_the_given_ends(kind):
    low, high = kind(-12.0, 4.0).ends()
    assert low.item() == pytest.approx(-12.0, abs=1e-2)
    assert high.item() == pytest.approx(4.0, abs=1e-2)


def test_interior_of_a_monotone_schedule_leaves_the_ends_alone():
    schedule = MonotoneSchedule(-12.0, 4.0, width=64)
    for name in ("raw_steepness", "raw_weight", "centre"):
        nn.init.normal_(getattr(schedule, name))
    low, high = schedule.ends()
    assert (low.item(), high.item()) == pytest.approx((-12.0, 4.0))


@pytest.mark.parametrize("draws", [1, 4])
def test_times_are_stratified(draws):
    times = stratified(evenly(torch.rand(()), 8), draws)
    assert times.shape == (draws, 8)
    assert (times.flatten().sort().values * 8 * draws).floor().tolist() == list(range(8 * draws))
    torch.testing.assert_close(times.diff(dim=0), torch.full((draws - 1, 8), 1 / draws, dtype=torch.float64))


@pytest.mark.parametrize("bits", [8, 5, 1])
@pytest.mark.parametrize("gamma_0", [-13.3, -8.0, 1.0])
def test_window_gives_the_log_prob_of_the_full_table(bits, gamma_0):
    levels = torch.randint(0, 2**bits, (2, 3, 4, 4))
    gamma = torch.tensor(gamma_0, dtype=torch.float64)
    rescaled = encode_levels(levels, bits) + math.exp(gamma_0 / 2) * 2 * torch.randn(levels.shape).double()
    full = pixel_distribution(rescaled, gamma, bits).log_prob(levels)
    torch.testing.assert_close(
        pixel_log_prob(rescaled, levels, gamma, bits, reach(gamma_0, bits)), full, rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("bits", [8, 5])
def test_terms_are_named_finite_and_per_image(bits):
    terms = tiny(bits=bits).eval().terms(images())
    assert list(terms.rates) == ["latent", "diffusion"]
    assert terms.bits_per_dim().shape == (4,)
    assert torch.isfinite(terms.nelbo).all()


def test_pricing_takes_images_of_another_size():
    terms = tiny().eval().terms(images(2, (3, 6, 10)))
    assert terms.num_dims == 180


def test_untrained_network_returns_its_input():
    model = VDM(image_shape=[3, 8, 8], score=ScoreConfig(width=32, blocks=1, groups=8, dropout=0.0))
    z = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model.predict(z, torch.tensor(0.0)), z)


def test_network_sees_the_time_only_with_more_than_one_channel_per_group():
    z = torch.randn(2, 3, 8, 8)
    for groups, sees in ((4, True), (16, False)):
        model = tiny(score={"groups": groups}).eval()
        early, late = model.predict(z, torch.tensor(-10.0)), model.predict(z, torch.tensor(3.0))
        assert torch.allclose(early, late, atol=1e-5) is not sees


def test_class_labels_change_the_price_and_unknown_classes_do_not_need_one():
    model = tiny(labels="class", num_classes=3).eval()
    x = images(2)
    z, gamma = torch.randn(2, 3, 8, 8), torch.tensor(0.0)
    one, two = (model.predict(z, gamma, torch.tensor([k, k])) for k in (1, 2))
    assert not torch.allclose(one, two)
    torch.testing.assert_close(model.predict(z, gamma), model.predict(z, gamma, torch.tensor([-1, -1])))
    assert model.sample(2, label=torch.tensor([0, -1])).shape == x.shape


def test_augmentation_flag_matters_in_training_only():
    model = tiny(labels="augmented").eval()
    x, z = images(2), torch.randn(2, 3, 8, 8)
    on, off = (model.predict(z, torch.tensor(0.0), torch.tensor([k, k])) for k in (1, 0))
    assert not torch.allclose(on, off)
    prices = []
    for label in (None, torch.tensor([7, 1])):
        torch.manual_seed(1)
        prices.append(model.terms(x, label).nelbo)
    torch.testing.assert_close(*prices)


def test_traversal_costs_what_the_sampled_steps_cost():
    """Sum of the T exact KLs of one pass = the T-step diffusion loss, both with the same marginals of z_t."""
    model, x = tiny(steps=4).eval(), images(64)
    passes, direct = [], []
    with torch.no_grad():
        for _ in range(8):
            policy = SamplePosterior()
            model.ancestral_pass(policy, x)
            assert list(policy.rates) == ["z4", "z3", "z2", "z1", "z0"]
            torch.testing.assert_close(policy.rates["z4"], model.sampled_terms(x).rates["latent"])
            passes.append(sum(policy.rates[f"z{i}"] for i in range(4)))
            direct.append(model.sampled_terms(x, steps=4).rates["diffusion"])
    passes, direct = torch.stack(passes), torch.stack(direct)
    error = (passes.mean(0).std() + direct.mean(0).std()) / math.sqrt(64)
    assert abs(passes.mean() - direct.mean()) < 4 * error


def test_prior_and_posterior_of_a_step_share_their_std():
    recording = Recording(SamplePosterior())
    tiny(steps=3).eval().ancestral_pass(recording, images(2))
    assert [site.index for site in recording.sites] == [0, 1, 2, 3]
    for site in recording.sites[1:]:
        assert torch.equal(site.prior.log_std, site.posterior.log_std)
        assert site.prior.mean.dtype == torch.float64


def test_last_latent_decodes_to_the_image():
    """gamma_0 is so low that z_0 drawn from the posterior carries every level."""
    model, x = tiny(steps=10, gamma_min=-16.0).eval(), images(2)
    with torch.no_grad():
        pixels = model.ancestral_pass(SamplePosterior(), x)
    assert torch.equal(pixels.logits.argmax(-1), to_levels(x, 8))


def test_replayed_noise_gives_the_same_image():
    model = tiny().eval()
    recording = Recording(SamplePrior())
    with torch.no_grad():
        first = model.ancestral_pass(recording, n=2)
        noise = [
            (z - site.prior.mean) / site.prior.std for site, z in zip(recording.sites, recording.latents, strict=True)
        ]
        second = model.ancestral_pass(Replay(noise, source="prior"), n=2)
    torch.testing.assert_close(first.logits, second.logits, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 7])
def test_samples_with_any_number_of_steps(steps):
    model = tiny(bits=5)
    model.steps = steps
    with torch.no_grad():
        x = model.sample(2)
    assert x.shape == (2, 3, 8, 8)
    assert x.dtype == torch.uint8
    assert not (x % 8).any()


def test_interior_gets_the_gradient_of_the_squared_loss_and_the_rest_that_of_the_bound():
    """One backward pass against two explicit ones, in float32."""
    x = images(6)

    def run(objective):
        torch.manual_seed(3)
        model = tiny()
        torch.manual_seed(4)
        objective(model).backward()
        return {name: p.grad for name, p in model.named_parameters()}

    def squared(model):
        terms, _ = model.price(x, model.draw(x, 1)[0])
        return (terms.rates["diffusion"] / terms.num_dims).square().mean()

    def bound(model):
        terms, _ = model.price(x, model.draw(x, 1)[0])
        return terms.nelbo.mean() / terms.num_dims

    ours, expected, variance = run(lambda m: m.objective(x).loss), run(bound), run(squared)
    interior = {f"schedule.{name}" for name in ("raw_steepness", "raw_weight", "centre")}
    assert interior < ours.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, (variance if name in interior else expected)[name], rtol=1e-3, atol=1e-4)


def test_recomputed_activations_give_the_same_gradient():
    x, gradients = images(2), []
    for recompute in (False, True):
        torch.manual_seed(3)
        model = tiny(score={"dropout": 0.5})
        if recompute:
            recompute_blocks(model)
        torch.manual_seed(4)
        model.objective(x).loss.backward()
        gradients.append(model.network.conv_in.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    "wrong",
    [
        {"score": {"width": 20, "groups": 8}},
        {"kind": "monoton"},
        {"gamma_min": 6.0},
        {"labels": "class"},
        {"bound": {"eval_draws": 0}},
        {"steps": 0},
        {"bits": 9},
    ],
)
def test_impossible_arguments_are_refused_in_one_line(wrong):
    with pytest.raises(UserError) as error:
        tiny(**wrong)
    assert "\n" not in str(error.value)


def test_probability_flow_prices_alike_inside_inference_mode():
    """`zoo test` prices under inference mode, where no gradient can be taken; the divergence needs one."""
    score = ScoreConfig(width=16, blocks=1, groups=4, dropout=0.0)
    model = VDM([3, 4, 4], score=score, bound=BoundConfig(ode_tolerance=0.5)).eval()
    x = images(1, (3, 4, 4))
    torch.manual_seed(0)
    expected = model.terms_with("ode", x).bits_per_dim()
    torch.manual_seed(0)
    with torch.inference_mode():
        found = model.terms_with("ode", x.clone()).bits_per_dim()
    assert torch.equal(found, expected)
