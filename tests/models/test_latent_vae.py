"""Latent VAE: what must hold for any weights."""

import pytest
import torch

from zoo.errors import UserError
from zoo.likelihood import Given, Known, Recording, SamplePosterior, SamplePrior, to_levels
from zoo.likelihood.manipulation import GuidedPrior, SharedNoise, Widen, mix_latents
from zoo.models.latent_vae import (
    CausalPixelHead,
    HierarchicalVAE,
    KLAutoencoder,
    LatentVAE,
    PixelHead,
    PixelSpace,
    UpsamplingStack,
    VQAutoencoder,
)
from zoo.models.latent_vae.balance import RateSchedule, balance_weights
from zoo.models.latent_vae.hierarchy import pyramid
from zoo.models.latent_vae.model import LATENT
from zoo.training.recomputation import recompute_blocks

SIDE = 16


def hierarchy(resolution=8, channels=3, seed=0, **options):
    """A small network whose priors and attention have left their zero initialisation."""
    torch.manual_seed(seed)
    levels = len(pyramid(resolution, 3))
    lists = {"width_mult": [1] * levels, "ffn_mult": [2] * levels, "groups": [2] * levels}
    lists |= {"encoder_blocks": [1] * levels, "attention": [0] * levels, "heads": [0] * levels}
    network = HierarchicalVAE(resolution, channels, 8, latent_channels=2, **{**lists, **options})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def latent_vae(head=True, seed=0, hierarchical=None, **options):
    torch.manual_seed(seed)
    stage = KLAutoencoder(width=32, width_mult=[1, 1], blocks=1, z_channels=3, embed_channels=3, middle_attention=False)
    pixel_head = PixelHead(3, width=8, blocks=1, mixtures=2) if head else None
    return LatentVAE(stage, hierarchy(**(hierarchical or {})), SIDE, pixel_head, **options)


def images(n=3, seed=1):
    return torch.randint(0, 256, (n, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


CONDITIONAL = {"num_classes": 4, "hierarchical_prior": True}


def test_terms_are_the_sum_of_groups_latent_and_pixels():
    model = latent_vae()
    terms = model.terms(images())
    assert list(terms.rates) == [layer.name for layer in model.hierarchy.layers] + [LATENT]
    assert terms.priced == "pixels"
    assert terms.num_dims == 3 * SIDE * SIDE
    assert all(torch.isfinite(rate).all() and (rate >= 0).all() for rate in terms.rates.values())


def test_without_a_pixel_head_only_codes_are_priced():
    model = latent_vae(head=False)
    terms = model.terms(images())
    assert model.priced == terms.priced == "codes"
    assert terms.num_dims == model.latent_dims
    assert (terms.distortion == 0).all()
    with pytest.raises(UserError, match="no pixel distribution"):
        model.ancestral_pass(SamplePosterior(), images()).log_prob(to_levels(images(), 8))


@pytest.mark.parametrize("bits", [5, 8])
def test_pixel_distribution_sums_to_one_and_agrees_with_its_tables(bits):
    model = latent_vae(bits=bits)
    x = images(2)
    with torch.no_grad():
        pixels = model.ancestral_pass(SamplePosterior(), x)
    levels = to_levels(x, bits)
    known = Known(levels)

    def checked(index, law):
        probs = law.probs()
        torch.testing.assert_close(probs.sum(-1), torch.ones_like(probs[..., 0]), rtol=0, atol=1e-6)
        return known(index, law)

    assert torch.equal(pixels.visit(checked), levels)


def test_a_model_of_five_bits_sees_five_bits():
    model = latent_vae(bits=5)
    x = images()
    other = (x & 0b11111000) | (7 - (x & 7))
    assert torch.equal(model.latent_posterior(x).mean, model.latent_posterior(other).mean)


def test_untrained_head_centres_every_colour_on_the_reconstruction_whatever_the_coupling():
    head = PixelHead(3, width=8, blocks=1, mixtures=2)
    with torch.no_grad():
        head.out.weight.zero_()
        head.out.bias.uniform_(-1, 1)
        head.out.bias[2:8] = 0  # no shift of the means; the couplings stay random
    reconstruction = torch.rand(2, 3, 4, 4) * 2 - 1
    mixture = head(reconstruction, torch.randn(2, 3, 2, 2), bits=8)
    expected = reconstruction[:, :, None].expand_as(mixture.means)
    torch.testing.assert_close(mixture._conditional_means(reconstruction), expected)


def test_the_encoders_own_precision_can_price_the_latent():
    model = latent_vae(sigma_q=None)
    posterior = model.latent_posterior(images())
    assert posterior.log_std.std() > 0
    assert torch.isfinite(model.terms(images()).nelbo).all()
    with pytest.raises(UserError, match="sigma_q"):
        LatentVAE(PixelSpace(), hierarchy(resolution=16), SIDE, sigma_q=None)


def test_shift_and_scale_are_estimated_once_from_the_first_training_batch():
    model = latent_vae(shift=None, scale=None)
    model.objective(images(8))
    y = model.latent_posterior(images(8)).mean
    torch.testing.assert_close(y.mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std(), torch.tensor(1.0), atol=0.05, rtol=0)
    before = model.scale.clone()
    model.objective(images(8, seed=5))
    assert torch.equal(model.scale, before)


@pytest.mark.parametrize("train", ["hierarchy", "pixels", "both"])
def test_the_objective_trains_what_it_says_and_never_the_first_stage(train):
    model = latent_vae(train=train)
    model.objective(images()).loss.backward()
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    expected = {"hierarchy": {"hierarchy"}, "pixels": {"pixel_head"}, "both": {"hierarchy", "pixel_head"}}
    assert trained == expected[train]
    frozen = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert "first_stage" in frozen


def test_recomputed_activations_give_the_same_gradients():
    gradients = []
    for recompute in (False, True):
        model = LatentVAE(PixelSpace(), hierarchy(**CONDITIONAL), 8)
        if recompute:
            recompute_blocks(model)
        torch.manual_seed(3)
        model.objective(images()[..., :8, :8], torch.tensor([0, 1, -1])).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6)


# -- guidance and labels ----------------------------------------------------------------------------------------------


def test_guidance_with_weights_zero_is_unguided_sampling_exactly():
    model = latent_vae(hierarchical=CONDITIONAL)
    label = torch.tensor([0, 1, 3])
    drawn = []
    for options in ({}, {"guidance_mean": 0.0, "guidance_std": 0.0}, {"guidance_mean": 1.5, "guidance_std": 3.0}):
        torch.manual_seed(7)
        drawn.append(model.sample(3, label=label, **options))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_both_halves_of_a_guided_pass_get_one_sample_and_single_means_are_exempt():
    network = hierarchy(**CONDITIONAL)
    label = torch.tensor([0, 1, -1, -1])
    noise = [torch.randn(2, 2, layer.resolution, layer.resolution) for layer in network.layers]
    by_number = Recording(GuidedPrior(1.5, 3.0, noise=noise))
    by_level = Recording(GuidedPrior([0.0, 1.5, 1.5], [3.0, 3.0, 3.0], noise=noise))
    for policy in (by_number, by_level):
        network.ancestral_pass(policy, n=4, label=label)
    for a, b in zip(by_number.latents, by_level.latents, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a[:2], a[2:])


@pytest.mark.parametrize(
    ("network", "label", "word"),
    [({}, torch.tensor([0]), "does not depend on a label"), (CONDITIONAL, None, "label")],
)
def test_guidance_without_what_it_needs_is_refused(network, label, word):
    with pytest.raises(UserError, match=word):
        latent_vae(hierarchical=network).sample(1, label=label, guidance_mean=1.0)


def test_a_missing_label_is_the_label_minus_one():
    network = hierarchy(**CONDITIONAL)
    noise = {"seed": 0}
    none = network.ancestral_pass(SharedNoise({}, **noise), n=2).mean
    minus_one = network.ancestral_pass(SharedNoise({}, **noise), n=2, label=torch.tensor([-1, -1])).mean
    other = network.ancestral_pass(SharedNoise({}, **noise), n=2, label=torch.tensor([0, 0])).mean
    assert torch.equal(none, minus_one)
    assert not torch.equal(none, other)


# -- manipulation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mix", ["linear", "spherical", "variance_preserving"])
def test_ends_of_an_interpolation_are_the_reconstructions(mix):
    model = latent_vae()
    seen = Recording(SamplePosterior())
    model.latent_pass(seen, images(2))
    first, second = [z[:1] for z in seen.latents], [z[1:] for z in seen.latents]
    reconstructions = [model.render(Given(z)) for z in (first, second)]
    assert torch.equal(model.render(Given(mix_latents(first, second, 1.0, mix))), reconstructions[0])
    assert torch.equal(model.render(Given(mix_latents(first, second, 0.0, mix))), reconstructions[1])


def test_spherical_mixing_keeps_length_and_variance_preserving_keeps_variance():
    a, b = [torch.randn(1, 2, 40, 40)], [torch.randn(1, 2, 40, 40)]
    assert mix_latents(a, b, 0.5, "spherical")[0].std() == pytest.approx(1.0, abs=0.05)
    assert mix_latents(a, b, 0.5, "variance_preserving")[0].std() == pytest.approx(1.0, abs=0.05)
    assert mix_latents(a, b, 0.5)[0].std() == pytest.approx(0.5**0.5, abs=0.05)


@pytest.mark.parametrize("start", [(0.0, 0.0), (0.0, 0.5), (0.0, 0.25)])
def test_outpainting_leaves_the_given_latents(start):
    model = latent_vae()
    seen = Recording(SamplePosterior())
    model.latent_pass(seen, images(2))
    record = Recording(Widen(seen.latents, start))
    shown = model.render(record, 2, canvas=(SIDE, 2 * SIDE))
    assert shown.shape == (2, 3, SIDE, 2 * SIDE)
    for z, known in zip(record.latents, seen.latents, strict=False):
        side = known.shape[-1]
        left = 0 if side == 1 else round(start[1] * 2 * side)
        assert torch.equal(z[..., left : left + side], known)
        assert z.shape[-1] == (side if side == 1 else 2 * side)


def test_a_swept_channel_is_all_that_differs_between_pictures():
    model = latent_vae()
    values = torch.linspace(-2, 2, 3)
    record = Recording(SharedNoise({0: (1, values)}, seed=4))
    model.render(record, 3)
    z = record.latents[0]
    assert torch.equal(z[:, 1, 0, 0], values)
    assert torch.equal(z[0, 0], z[2, 0])
    assert torch.equal(record.latents[1][0], record.latents[1][2])


# -- the parts --------------------------------------------------------------------------------------------------------


def test_balance_is_one_inside_the_band_and_bounded_outside():
    shares = RateSchedule("constant_per", levels=[1.0, 1.0]).shares([1, 1])
    assert shares.sum().item() == pytest.approx(66.7, abs=1e-3)
    kls = torch.tensor([[5.0, 5.0], [0.0, 10.0], [9.9, 0.1]], requires_grad=True)
    weights = balance_weights(kls, shares)
    assert not weights.requires_grad
    assert torch.equal(weights[0], torch.ones(2))
    assert weights.min() >= 0.1
    assert weights.max() <= 2.0
    assert weights[1, 0] < 1 < weights[1, 1]


def test_released_attention_is_a_map_of_each_position_and_the_correct_one_is_not():
    changed = {}
    for mode in ("correct", "as_released"):
        network = hierarchy(attention=[1, 1, 0], heads=[2, 2, 0], attention_mode=mode)
        layer = next(m for m in network.modules() if type(m).__name__ == "Attention")
        x = torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0))
        y = x.clone()
        y[..., 0, 0] += 1.0
        changed[mode] = ((layer(x) - layer(y)).abs().sum(1) > 1e-7).sum().item()
    assert changed == {"correct": 16, "as_released": 1}


def test_quantised_first_stage_passes_the_gradient_straight_through():
    stage = VQAutoencoder(num_codes=7, width=32, width_mult=[1, 1], blocks=1, middle_attention=False)
    out = stage.training_pass(torch.rand(2, 3, 8, 8) * 2 - 1)
    out.reconstruction.sum().backward()
    assert stage.encoder.conv_in.weight.grad.any()
    assert stage.codebook.weight.grad is None or not stage.codebook.weight.grad.any()
    latent = stage.latent(torch.rand(1, 3, 8, 12) * 2 - 1)
    codes = stage.nearest(latent)
    assert torch.equal(stage.nearest(stage.embed(codes)), codes)


def test_stack_prices_pixels_only_with_its_base():
    upsampler = hierarchy(
        16,
        groups=[1, 1],
        condition_channels=3,
        **{name: [1, 1] for name in ("width_mult", "encoder_blocks")},
        ffn_mult=[0, 2],
        attention=[0, 0],
        heads=[0, 0],
    )
    alone = UpsamplingStack(upsampler, SIDE, pixel_head=PixelHead(3, 8, 1, 2))
    assert alone.priced == "codes"
    alone.objective(images()).loss.backward()
    whole = UpsamplingStack(upsampler, SIDE, hierarchy(8), PixelHead(3, 8, 1, 2))
    terms = whole.terms(images())
    assert terms.priced == "pixels"
    assert [name for name in terms.rates if name.startswith("small")][-1] == "small"
    assert whole.sample(2).shape == (2, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"image_size": 32}, "image_size"),
        ({"hierarchy": {"channels": 4}}, "channels"),
        ({"train": "pixels", "pixel_head": None}, "pixel_head"),
        ({"bits": 9}, "bits"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(arguments, word):
    options = {"image_size": 8, "pixel_head": PixelHead(3, 8, 1), **arguments}
    network = hierarchy(**options.pop("hierarchy", {}))
    with pytest.raises(UserError, match=word):
        LatentVAE(PixelSpace(), network, **options)


def test_a_sample_of_the_prior_has_the_models_levels():
    model = latent_vae(bits=5)
    drawn = model.sample(2, temperature=0.8)
    assert drawn.dtype == torch.uint8
    assert (drawn % 8 == 0).all()
    assert model.ancestral_pass(SamplePrior(), n=2).sample().max() < 32


def test_both_prices_can_be_asked_for_by_name():
    model = latent_vae()
    prices = {}
    for name in model.estimators():
        torch.manual_seed(0)
        prices[name] = model.terms_with(name, images())
    assert prices["pixels"].priced == "pixels"
    assert prices["codes"].priced == "codes"
    for name, rate in prices["codes"].rates.items():
        assert torch.equal(rate, prices["pixels"].rates[name])
    with pytest.raises(UserError, match="codes"):
        model.terms_with("code", images())


@pytest.mark.slow
def test_real_files_cost_what_the_terms_say():
    from zoo.codec import Options, measure

    model = latent_vae().eval()
    found = measure(model, b"0" * 12, images(6), Options(3, True))
    assert found.exact
    assert found.report.net == pytest.approx(found.report.bound, rel=0.02)


def test_causal_pixels_cost_what_they_are_visited_for_and_see_the_latent():
    trunk = {"channels": 8, "residual_channels": 8, "blocks": 1, "layers_per_block": 1, "heads": 2, "kernel_size": 3}
    head = CausalPixelHead(3, SIDE, trunk, bits=5, width=8, blocks=1, mixtures=2).eval()
    latent, levels = torch.randn(2, 3, SIDE, SIDE), to_levels(images(2), 5)
    pixels = head(latent, latent, 5)
    known = Known(levels)
    assert torch.equal(pixels.visit(known), levels)
    torch.testing.assert_close(known.nats, -pixels.log_prob(levels).double(), rtol=1e-4, atol=1e-2)
    assert not torch.allclose(head(-latent, -latent, 5).log_prob(levels), pixels.log_prob(levels))
    with pytest.raises(UserError, match="give both the same"):
        head(latent, latent, 8)
