import math

import pytest
import torch

from zoo.checkpoints import build
from zoo.errors import UserError
from zoo.likelihood import SamplePosterior, SamplePrior, to_levels
from zoo.likelihood.latents import Recording, Replay
from zoo.likelihood.terms import LikelihoodTerms
from zoo.models import EfficientVDVAE
from zoo.models.efficient_vdvae import Aids, Architecture, BottomUpStage, KLSchedule, Output, TopDownStage
from zoo.models.efficient_vdvae.blocks import log_softplus
from zoo.models.efficient_vdvae.model import linear_temperatures
from zoo.models.efficient_vdvae.output import smoothed_mixture, starting_bias
from zoo.training.recomputation import recompute_blocks


def stages():
    up = [BottomUpStage(6, [1, 2], ratio=0.5, stride=2), BottomUpStage(8, [1], ratio=0.5)]
    down = [TopDownStage(8, [2], latents=3, ratio=0.5), TopDownStage(6, [1, 3], latents=2, ratio=0.5, stride=2)]
    return up, down


def tiny(image_shape=(3, 8, 8), bits=8, mixtures=2, net=(), **options):
    return EfficientVDVAE(image_shape, bits, Architecture(*stages(), **dict(net)), Output(mixtures), **options)


def digits(**options):
    return tiny((1, 4, 4), 1, mixtures=0, net={"pad": 2}, **options)


def photos(n=2, shape=(3, 8, 8)):
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8)


def test_every_parameter_gets_a_gradient():
    model = tiny()
    model.objective(photos(), step=20000).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_terms_are_named_by_block_top_first():
    model, x = tiny(), photos()
    terms = model.terms(x)
    assert list(terms.rates) == [block.name for block in model.blocks]
    assert len(terms.rates) == 6
    assert (terms.rate > 0).all()
    assert terms.num_dims == x[0].numel()


def test_unweighted_objective_is_the_bound():
    model, x = tiny(schedule=KLSchedule(kind="none", balance_steps=-1)), photos()
    torch.manual_seed(1)
    objective = model.objective(x)
    torch.manual_seed(1)
    terms = model.terms(x)
    torch.testing.assert_close(objective.loss, terms.nelbo.mean() / terms.num_dims)


@pytest.mark.parametrize("model", [tiny(bits=5), tiny((1, 8, 8)), digits()], ids=["colour", "grey", "binary"])
def test_samples_have_the_shape_of_the_images_and_their_depth(model):
    images = model.sample(2, temperature=0.7)
    assert images.shape == (2, *model.image_shape)
    assert images.dtype == torch.uint8
    assert (images % 2 ** (8 - model.bits) == 0).all()
    assert torch.isfinite(model.terms(images).nelbo).all()


def test_the_largest_shift_of_posteriors_limits_their_distance_from_the_prior():
    model, x = tiny(aids=Aids(max_posterior_shift=0.5)), photos()
    with torch.no_grad():
        for parameter in model.bottom_up.parameters():  # an encoder gone wild
            parameter.mul_(30.0)
    recording = Recording(SamplePosterior())
    model.ancestral_pass(recording, x)
    for site in recording.sites:
        assert ((site.posterior.mean - site.prior.mean).abs() / site.prior.std).max() <= 0.5001
        assert (site.posterior.log_std <= site.prior.log_std + 1.0001).all()


def test_replaying_the_posterior_noise_repeats_the_pass():
    model, x = tiny(), photos()
    recording = Recording(SamplePosterior())
    first = model.head(recording, x)
    eps = [(z - s.posterior.mean) / s.posterior.std for z, s in zip(recording.latents, recording.sites, strict=True)]
    torch.testing.assert_close(model.head(Replay(eps), x), first)


def test_prior_pass_needs_no_image_and_posteriors_only_come_with_one():
    model = tiny()
    recording = Recording(SamplePrior())
    model.ancestral_pass(recording, n=3)
    assert all(site.posterior is None for site in recording.sites)
    assert {len(z) for z in recording.latents} == {3}


def test_border_is_seen_but_not_priced():
    model = digits()
    x = torch.randint(0, 2, (2, 1, 4, 4), dtype=torch.uint8) * 255
    assert model.network_input(x).shape == (2, 1, 8, 8)
    assert model.network_input(x)[..., :2, :].abs().sum() == 0
    assert model.terms(x).num_dims == 16


def test_network_sees_only_the_levels_it_prices():
    model, x = tiny(bits=5), photos()
    assert torch.equal(model.network_input(x), model.network_input(x // 8 * 8 + 3))


def test_recomputing_activations_changes_no_gradient():
    x, gradients = photos(), []
    for recompute in (False, True):
        torch.manual_seed(3)
        model = tiny()
        if recompute:
            recompute_blocks(model)
        torch.manual_seed(4)
        model.objective(x).loss.backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_residual_posterior_is_relative_to_the_prior():
    model = tiny(net={"residual_posterior": True})
    for block in model.blocks:
        torch.nn.init.zeros_(block.posterior_head.projection.weight)
        torch.nn.init.zeros_(block.posterior_head.projection.bias)
    # a raw value of 0 is mean 0 and standard deviation 1 (with beta = ln 2), so nothing differs from the prior
    assert model.terms(photos()).rate.abs().max() < 1e-3


def test_zero_prior_starts_from_a_prior_that_ignores_the_state():
    model = tiny(net={"zero_prior": True})
    recording = Recording(SamplePrior())
    model.ancestral_pass(recording, n=1)
    assert all(site.prior.mean.abs().max() == 0 for site in recording.sites)


def test_plain_dicts_build_the_same_network_as_stages():
    up, down = ([vars(stage) for stage in half] for half in stages())
    net = {"bottom_up": up, "top_down": down}
    arguments = {"image_shape": [3, 8, 8], "bits": 8, "architecture": net, "output": {"mixtures": 2}}
    plain = build({"class_path": "EfficientVDVAE", "init_args": {**arguments, "schedule": {"steps": 7}}})
    assert plain.state_dict().keys() == tiny().state_dict().keys()
    assert plain.schedule.steps == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixtures": 0}, "needs bits=1"),
        ({"image_shape": (4, 8, 8)}, "1 or 3 channels"),
        ({"image_shape": (3, 9, 8)}, "not divisible"),
        ({"bottom_up": []}, "at least one stage"),
        ({"top_down": [TopDownStage(8, [0], latents=1)]}, "at least one block"),
        ({"bottom_up": [BottomUpStage(2, [1])]}, "below 1"),
        ({"top_down": [TopDownStage(8, [1], latents=1), TopDownStage(6, [1], latents=1, stride=2)]}, "levels"),
        ({"top_down": [TopDownStage(8, [1], latents=1), TopDownStage(8, [1, 1], latents=1)]}, "strides"),
        ({"top_down": [TopDownStage(8, [1], latents=1, stride=2), TopDownStage(8, [1, 1], latents=1)]}, "stride 1"),
        ({"bottom_up": [BottomUpStage(6, [1]), BottomUpStage(6, [1], stride=2), BottomUpStage(8, [1])]}, None),
        (
            {"bottom_up": [BottomUpStage(6, [1]), BottomUpStage(8, [1], stride=2), BottomUpStage(8, [1])]},
            "without pooling",
        ),
    ],
)
def test_stages_that_do_not_fit_are_refused(changes, message):
    up, down = stages()
    changed = {"bottom_up": up, "top_down": down, "image_shape": (3, 8, 8), "mixtures": 2, **changes}

    def made():
        net = Architecture(changed["bottom_up"], changed["top_down"])
        return EfficientVDVAE(changed["image_shape"], 8, net, Output(changed["mixtures"]))

    if message is None:
        made()
        return
    with pytest.raises(UserError, match=message):
        made()


def test_temperatures_are_given_by_level():
    model = tiny()
    assert model.site_temperatures(linear_temperatures(0.4, 1.0, 3)) == pytest.approx([0.4, 0.4, 0.6, 0.8, 0.8, 0.8])
    with pytest.raises(UserError, match="2 temperatures for 3 levels"):
        model.site_temperatures([1.0, 1.0])


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "weight"), [(0, 1e-4), (21, 1e-4), (22, 1.9916e-4), (1000, 0.194981), (2500, 0.493726), (5042, 1.0)]
)
def test_linear_warmup(step, weight):
    assert KLSchedule().weight(step).item() == pytest.approx(weight, rel=1e-4)


def test_logistic_warmup_is_one_half_at_its_midpoint():
    schedule = KLSchedule(kind="logistic", growth=1e-2, midpoint=500)
    assert schedule.weight(500) == 0.5
    assert schedule.weight(torch.tensor(0)) < 0.01
    assert schedule.weight(torch.tensor(1000)) > 0.99


def test_balancing_charges_layers_by_what_they_carry_and_keeps_equal_ones_equal():
    schedule = KLSchedule(kind="none", balance_steps=10)
    rates = {"a": torch.tensor([3.0]), "b": torch.tensor([1.0])}
    balanced = schedule.weighted_rate(rates, sizes=torch.ones(2), num_dims=1, step=10)
    torch.testing.assert_close(balanced, torch.tensor(1.5 * 3.0 + 0.5 * 1.0))
    torch.testing.assert_close(schedule.weighted_rate(rates, torch.ones(2), 1, step=11), torch.tensor(4.0))
    torch.testing.assert_close(
        schedule.weighted_rate(rates, torch.tensor([3.0, 1.0]), 1, step=torch.tensor(0)), torch.tensor(4.0)
    )


def test_balancing_is_constant_for_the_gradient():
    a = torch.tensor([3.0], requires_grad=True)
    KLSchedule(kind="none").weighted_rate({"a": a, "b": torch.tensor([1.0])}, torch.ones(2), 1, 0).backward()
    assert a.grad.item() == 1.5


def test_balancing_survives_layers_that_carry_nothing():
    loss = KLSchedule(kind="none").weighted_rate(
        {"a": torch.zeros(2), "b": torch.zeros(2)}, torch.full((2,), 4.0), 8, 0
    )
    assert loss.item() == 0.0


# -- scales and pixels -------------------------------------------------------------------------------------------------


def test_smoothed_scale_is_one_at_zero_and_bounds_the_gradient():
    raw = torch.tensor([0.0, 5.0, -5.0], dtype=torch.float64, requires_grad=True)
    scale = log_softplus(raw, math.log(2)).exp()
    assert scale[0].item() == pytest.approx(1.0)
    scale.sum().backward()
    assert (raw.grad <= 1.0).all()


@pytest.mark.parametrize("raw", [-1e4, -200.0, -30.0, 0.0, 100.0, 1e4])
def test_scales_and_their_gradients_stay_finite(raw):
    x = torch.tensor(raw, requires_grad=True)
    log_scale = log_softplus(x, 0.6931472)
    log_scale.backward()
    assert torch.isfinite(log_scale)
    assert torch.isfinite(x.grad)


def test_unbounded_mixture_stays_finite_at_extreme_scales():
    head = torch.zeros(1, 20, 2, 2)
    head[:, 2:] = -1e4
    head.requires_grad_()
    settings = {"channels": 3, "bits": 8, "base": "std", "beta": 0.6931472, "bins": "normalised"}
    mixture = smoothed_mixture(head, min_log_scale=-250.0, **settings)
    cost = -mixture.log_prob(torch.full((1, 3, 2, 2), 100))
    cost.sum().backward()
    assert torch.isfinite(cost).all()
    assert torch.isfinite(head.grad).all()


def total_mass(mixture, bits):
    """Sum over all levels of one grey pixel."""
    levels = torch.arange(2**bits).reshape(-1, 1, 1, 1)
    return mixture.log_prob(levels).double().exp().sum().item()


@pytest.mark.parametrize("base", ["std", "logstd"])
@pytest.mark.parametrize("beta", [1.0, 0.4])
@pytest.mark.parametrize("bits", range(1, 9))
def test_smoothed_mixture_sums_to_one_at_every_depth(bits, base, beta):
    head = torch.randn(1, 6, 1, 1).mul(2.0).expand(2**bits, -1, -1, -1)
    settings = {"channels": 1, "bits": bits, "base": base, "beta": beta, "min_log_scale": -7.0}
    assert total_mass(smoothed_mixture(head, bins="normalised", **settings), bits) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("bits", [5, 8])
def test_official_bins_overlap_at_five_bits_only(bits):
    # a sharp logistic on the border between two levels: with bins that overlap, both claim all of it
    border = (12.5 * 2 ** (8 - bits) - 127.5) / 127.5
    head = torch.tensor([0.0, border, -12.0]).reshape(1, 3, 1, 1).expand(2**bits, -1, -1, -1)
    settings = {"channels": 1, "bits": bits, "base": "logstd", "beta": 1.0, "min_log_scale": -14.0}
    mass = total_mass(smoothed_mixture(head, bins="efficient_vdvae", **settings), bits)
    assert mass == pytest.approx(2.0 if bits == 5 else 1.0, abs=2e-2)
    assert total_mass(smoothed_mixture(head, bins="normalised", **settings), bits) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("base", ["std", "logstd"])
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 8, 8)])
def test_a_starting_scale_prices_flat_images_better_from_the_start(shape, base):
    bias = starting_bias(shape[0], 5, base, 0.6931472, 0.1)
    mixtures = [
        smoothed_mixture(
            head[None, :, None, None].expand(1, -1, *shape[1:]),
            channels=shape[0],
            bits=8,
            base=base,
            beta=0.6931472,
            min_log_scale=-7.0,
            bins="normalised",
        )
        for head in (torch.zeros_like(bias), bias)
    ]
    flat = torch.full((1, *shape), 128)
    zeros, spread = (-mixture.log_prob(flat).item() / flat.numel() for mixture in mixtures)
    assert spread < zeros - 0.5
    torch.testing.assert_close(mixtures[1].log_scales.exp(), torch.full_like(mixtures[1].log_scales, 0.1))


def test_posterior_gain_makes_posteriors_depend_more_on_the_image():
    x, rates = photos(), []
    for gain in (1.0, 10.0):
        torch.manual_seed(2)
        rates.append(tiny(aids=Aids(posterior_gain=gain)).terms(x).rate.mean())
    assert rates[1] > 2 * rates[0]


def test_price_is_that_of_the_returned_distribution():
    model, x = tiny(), photos()
    policy = SamplePosterior()
    torch.manual_seed(0)
    pixels = model.ancestral_pass(policy, x)
    by_hand = LikelihoodTerms(-pixels.log_prob(to_levels(x, 8)), policy.rates, x[0].numel())
    torch.manual_seed(0)
    torch.testing.assert_close(model.terms(x).nelbo, by_hand.nelbo)
