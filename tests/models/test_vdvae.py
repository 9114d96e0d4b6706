"""VDVAE: architecture, initialisation, the traversal, bit depths, and the published configurations."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from zoo.checkpoints import build
from zoo.checkpoints.vdvae import PUBLISHED, decoder_stages, encoder_stages, widths
from zoo.errors import UserError
from zoo.likelihood import (
    Given,
    PosteriorThenPrior,
    Recording,
    SamplePosterior,
    SamplePrior,
    from_levels,
    to_levels,
)
from zoo.models.vdvae import VDVAE, Aids, Architecture, DecoderStage, EncoderInput, EncoderStage
from zoo.models.vdvae.layers import StochasticLayer
from zoo.training.recomputation import recompute_blocks

CONFIGS = Path(__file__).parents[2] / "configs"
PUBLISHED_CONFIGS = sorted(CONFIGS.glob("vdvae_*.yaml"))
ENCODER = [EncoderStage(8, 2, 2), EncoderStage(4, 1, 4), EncoderStage(1, 1)]
DECODER = [DecoderStage(1, 1), DecoderStage(4, 2, 1), DecoderStage(8, 2, 4)]


def architecture(encoder=ENCODER, decoder=DECODER, **settings):
    small = {"width": 8, "widths": {4: 12, 1: 12}, "latent_channels": 3, "mixtures": 2}
    return Architecture(encoder, decoder, **{**small, **settings})


def tiny(net=None, **arguments):
    """A model of five layers; every weight is disturbed, so that nothing is zero by initialisation."""
    model = VDVAE(net or architecture(), **{"image_shape": (3, 8, 8), **arguments})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def images(n=3, channels=3, size=8):
    return torch.randint(256, (n, channels, size, size), dtype=torch.uint8)


def seeded(function, seed=1):
    torch.manual_seed(seed)
    with torch.no_grad():
        return function()


# ----------------------------------------------------------------------------------------------------------------------
# Architecture and initialisation


def test_groups_are_visited_top_first_and_named_by_position_and_resolution():
    policy = Recording(SamplePosterior())
    tiny().ancestral_pass(policy, images())
    assert [site.name for site in policy.sites] == ["z00_1x1", "z01_4x4", "z02_4x4", "z03_8x8", "z04_8x8"]
    assert [tuple(z.shape) for z in policy.latents] == [(3, 3, r, r) for r in (1, 4, 4, 8, 8)]


def test_a_new_model_has_a_standard_normal_prior_everywhere():
    policy = Recording(SamplePrior())
    VDVAE(architecture(), (3, 8, 8)).ancestral_pass(policy, n=2)
    for site in policy.sites:
        assert not site.prior.mean.any()
        assert not site.prior.log_std.any()


def test_residual_branches_start_smaller_the_deeper_the_network():
    def spread(blocks):
        net = Architecture([EncoderStage(4, blocks, 4), EncoderStage(1, 1)], [DecoderStage(4, blocks)], 64)
        model = VDVAE(net, (3, 4, 4))
        last = [model.encoder.blocks[0].conv4, model.decoder.layers[0].residual.conv4, model.decoder.layers[0].project]
        return [conv.weight.std().item() for conv in last], [conv.bias.abs().max().item() for conv in last]

    shallow, deep = spread(1), spread(15)
    encoder, *decoder = [a / b for a, b in zip(shallow[0], deep[0], strict=True)]
    assert encoder == pytest.approx((16 / 2) ** 0.5, rel=0.1)
    assert decoder == pytest.approx([15**0.5] * 2, rel=0.1)
    assert shallow[1] == deep[1] == [0, 0, 0]


def test_biases_exist_up_to_their_limit_and_other_streams_start_from_zeros():
    model = tiny(architecture(bias_up_to=4))
    assert sorted(model.decoder.biases) == ["1", "4"]
    stages = [DecoderStage(4, 1), DecoderStage(8, 1)]  # nothing is upsampled into the last resolution
    alone = VDVAE(architecture(decoder=stages, bias_up_to=4), (3, 8, 8))
    policy = Recording(SamplePrior())
    alone.ancestral_pass(policy, n=2)
    assert policy.latents[1].shape[-1] == 8


def test_resolutions_that_are_no_powers_of_two():
    encoder = [EncoderStage(28, 1, 2), EncoderStage(14, 1, 2), EncoderStage(7, 1, 7), EncoderStage(1, 1)]
    decoder = [DecoderStage(1, 1), DecoderStage(7, 1, 1), DecoderStage(14, 1, 7), DecoderStage(28, 1, 14)]
    model = VDVAE(Architecture(encoder, decoder, width=8, mixtures=1), (1, 28, 28), bits=1)
    assert model.terms(images(2, 1, 28)).bits_per_dim().isfinite().all()
    assert set(model.sample(2).unique().tolist()) <= {0, 128}


@pytest.mark.parametrize(
    ("encoder", "decoder", "arguments", "message"),
    [
        ([EncoderStage(16, 1)], DECODER, {}, "encoder stage 0"),
        ([EncoderStage(8, 1, 3)], DECODER, {}, "encoder stage 0"),
        (ENCODER, [DecoderStage(2, 1), *DECODER], {}, "decoder stage 0"),
        (ENCODER, [DecoderStage(1, 1), DecoderStage(8, 1, 4)], {}, "upsample_from 4"),
        (ENCODER, DECODER[:-1], {}, "the last stage"),
        (ENCODER, DECODER, {"widths": {4: 4}}, "widths"),
        (ENCODER, DECODER, {"bits": 9}, "bits"),
        (ENCODER, DECODER, {"image_shape": (2, 8, 8)}, "1 or 3 channels"),
        (ENCODER, DECODER, {"image_shape": (3, 8, 16)}, "square"),
    ],
)
def test_impossible_architectures_are_refused_by_name(encoder, decoder, arguments, message):
    net = Architecture(encoder, decoder, width=8, widths=arguments.get("widths"))
    others = {name: value for name, value in arguments.items() if name != "widths"}
    with pytest.raises(UserError, match=message):
        VDVAE(net, **({"image_shape": (3, 8, 8)} | others))


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 8, 8\)"):
        tiny().terms(images(size=16))


# ----------------------------------------------------------------------------------------------------------------------
# The traversal


def test_known_latents_give_the_pixel_distribution_of_the_pass_that_drew_them():
    model, x = tiny(), images()
    policy = Recording(SamplePosterior())
    seen = seeded(lambda: model.ancestral_pass(policy, x))
    again = seeded(lambda: model.ancestral_pass(Given(policy.latents), n=len(x)))
    torch.testing.assert_close(again.log_prob(to_levels(x, 8)), seen.log_prob(to_levels(x, 8)))


@pytest.mark.parametrize("k", range(6))
def test_partial_reconstruction_reads_the_image_through_the_upper_k_groups_only(k):
    model, x = tiny(), images(1)
    policies = [Recording(PosteriorThenPrior(k)) for _ in range(2)]
    for policy, image in zip(policies, (x, 255 - x), strict=True):
        seeded(lambda policy=policy, image=image: model.ancestral_pass(policy, image))
    same = [torch.equal(a, b) for a, b in zip(policies[0].latents, policies[1].latents, strict=True)]
    assert not any(same[:k])
    assert all(same) if k == 0 else True


def test_temperature_zero_leaves_no_choice_to_the_latents():
    model = tiny()
    first, second = (Recording(SamplePrior(0.0)) for _ in range(2))
    seeded(lambda: model.ancestral_pass(first, n=1), seed=1)
    seeded(lambda: model.ancestral_pass(second, n=1), seed=2)
    assert all(torch.equal(a, b) for a, b in zip(first.latents, second.latents, strict=True))


def test_an_image_costs_the_same_alone_and_in_a_batch():
    model, x = tiny().double(), images(4)
    policy = Recording(SamplePosterior())
    together = seeded(lambda: model.ancestral_pass(policy, x)).log_prob(to_levels(x, 8))
    for i in range(4):
        alone = model.ancestral_pass(Given([z[i : i + 1] for z in policy.latents]), x[i : i + 1])
        torch.testing.assert_close(alone.log_prob(to_levels(x[i : i + 1], 8)), together[i : i + 1])


def test_layout_and_recomputation_change_no_number_beyond_rounding():
    x = images()
    results = []
    for option in ("plain", "channels_last", "recompute"):
        torch.manual_seed(3)
        model = tiny().train()
        if option == "recompute":
            recompute_blocks(model)
        if option == "channels_last":
            model.to(memory_format=torch.channels_last)
        torch.manual_seed(4)
        loss = model.objective(x).loss
        loss.backward()
        results.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=2e-4, atol=1e-6)


def test_recomputation_stores_fewer_activations():
    def stored(recompute):
        model = tiny().train()
        if recompute:
            recompute_blocks(model)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            model.objective(images())
        return sum(sizes)

    assert stored(True) < 0.7 * stored(False)


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_the_largest_shift_of_posteriors_limits_what_an_image_can_cost(shift):
    model, x = tiny(aids=Aids(max_posterior_shift=shift)), images()
    with torch.no_grad():
        for layer in model.decoder.layers:  # an encoder gone wild
            layer.posterior.conv4.weight.mul_(1000.0)
    policy = Recording(SamplePosterior())
    terms = seeded(lambda: model.terms(x))
    seeded(lambda: model.ancestral_pass(policy, x))
    for site in policy.sites:
        distance = (site.posterior.mean - site.prior.mean).abs() / site.prior.std
        assert distance.max() <= shift * 1.001
        assert (site.posterior.log_std <= site.prior.log_std + 1.001).all()
    assert terms.bits_per_dim().isfinite().all()


def test_the_warmup_of_the_rates_changes_the_loss_but_not_the_terms():
    model, x = tiny(aids=Aids(kl_warmup_steps=10)), images()
    objectives = [seeded(lambda step=step: model.objective(x, step=step)) for step in (0, 5, 10)]
    for objective, weight in zip(objectives, (0.1, 0.5, 1.0), strict=True):
        terms = objective.terms
        assert torch.equal(terms.nelbo, objectives[0].terms.nelbo)
        torch.testing.assert_close(objective.loss, (terms.distortion + weight * terms.rate).mean() / terms.num_dims)


def test_the_fused_layer_is_the_plain_one_up_to_rounding():
    model, x = tiny().double(), images()
    passes = []
    for plain in (False, True):
        for layer in model.decoder.layers:
            if plain:
                layer.__class__ = StochasticLayer
        passes.append(seeded(lambda: model.terms(x)))
    for name, rate in passes[0].rates.items():
        torch.testing.assert_close(passes[1].rates[name], rate, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(passes[1].distortion, passes[0].distortion, rtol=1e-9, atol=1e-9)


# ----------------------------------------------------------------------------------------------------------------------
# Bit depths


@pytest.mark.parametrize("bits", [1, 3, 5, 8])
def test_terms_are_finite_and_samples_lie_on_the_grid_of_the_bit_depth(bits):
    model = tiny(bits=bits)
    terms = model.terms(images())
    assert terms.num_dims == 3 * 8 * 8
    assert terms.bits_per_dim().isfinite().all()
    assert all((rate >= 0).all() for rate in terms.rates.values())
    drawn = model.sample(2)
    assert torch.equal(from_levels(to_levels(drawn, bits), bits), drawn)


def test_a_5bit_model_sees_nothing_of_the_lower_bits_unless_asked_to():
    x = images()
    other = x ^ 5  # changes only the lower three bits
    model = tiny(bits=5)
    first, second = (seeded(lambda image=image: model.terms(image)).nelbo for image in (x, other))
    assert torch.equal(first, second)
    official = tiny(bits=5, sees=EncoderInput(bits=8))
    first, second = (seeded(lambda image=image: official.terms(image)).rate for image in (x, other))
    assert not torch.equal(first, second)


# ----------------------------------------------------------------------------------------------------------------------
# Published configurations


@pytest.mark.parametrize("path", PUBLISHED_CONFIGS, ids=lambda path: path.stem)
def test_published_configuration_has_the_official_layout_and_parameter_count(path):
    text = path.read_text()
    settings = yaml.safe_load(text)["model"]["network"]["init_args"]
    official = PUBLISHED[re.search(r"hyper-parameter set `(\w+)`", text)[1]]
    with torch.device("meta"):
        model = build({"class_path": "VDVAE", "init_args": settings})
    count = int(re.search(r"# parameters: (\d+)", text)[1])
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    for ours, theirs in (("encoder", encoder_stages), ("decoder", decoder_stages)):
        kind = {"encoder": EncoderStage, "decoder": DecoderStage}[ours]
        assert [kind(**stage) for stage in settings["architecture"][ours]] == [
            kind(**stage) for stage in theirs(official[f"{ours[:3]}_blocks"])
        ]
    assert (settings["architecture"].get("widths") or {}) == widths(official["custom_width_str"])


def test_every_published_configuration_is_there():
    assert len(PUBLISHED_CONFIGS) == len(PUBLISHED)
