"""Efficient-VDVAE against numbers of the official PyTorch code: whatever cases the folder holds.

Tolerances are those of the vectors' own page: KL 1e-5 relative, distortion 1e-4 nats/dim, outputs 1e-4.
"""

import json
import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.vectors.cases import cases, root
from zoo.benchmarks.measures.metrics.images import ssim_zero_padded
from zoo.checkpoints import build, fit_weights
from zoo.checkpoints.efficient_vdvae import TORCH_RULES, import_checkpoint
from zoo.checkpoints.keymap import translate
from zoo.likelihood.latents import Recording, Replay
from zoo.likelihood.levels import level_values, to_levels
from zoo.likelihood.official import efficient_vdvae_log_mass
from zoo.likelihood.pruning import MeanKL, PrunedPosterior, channel_means, keep_share
from zoo.likelihood.terms import LikelihoodTerms
from zoo.models.efficient_vdvae.blocks import log_softplus
from zoo.models.efficient_vdvae.model import linear_temperatures
from zoo.models.efficient_vdvae.output import draw_values

CASES = pytest.mark.parametrize("case", cases("efficient_vdvae", "*.json"))
PRECISIONS = pytest.mark.parametrize(("dtype", "tag"), [(torch.float32, "f32"), (torch.float64, "f64")])


class Arrays(dict):
    """Recorded arrays; a test that needs one the case lacks is skipped, not passed."""

    def __missing__(self, key):
        pytest.skip(f"case has no array {key}")


def model_of(case, **options):
    spec, weights = import_checkpoint([case.with_name(f"checkpoints-{case.stem}")], **options)
    network = build(spec)
    fit_weights(network, weights, str(case))
    return network.eval()


@cache
def golden(case):
    """The imported model, the recorded arrays and the images in our layout."""
    model = model_of(case, bins="efficient_vdvae")
    arrays = Arrays(np.load(case.with_suffix(".npz")))
    pixels = torch.from_numpy(arrays["images_u8"])
    x = pixels * 255 if model.bits == 1 else pixels.permute(0, 3, 1, 2).contiguous()
    return SimpleNamespace(model=model, a=arrays, x=x, facts=json.loads(case.read_text()))


def noise(g, prefix="eps", dtype=torch.float32):
    return [torch.from_numpy(g.a[f"{prefix}_{index:02d}"]).to(dtype) for index in range(len(g.model.blocks))]


def replayed(g, dtype=torch.float32):
    """Terms with the recorded posterior noise, and the raw output."""
    model, policy = g.model.to(dtype), Replay(noise(g, dtype=dtype))
    head = model.head(policy, g.x)
    distortion = -model.pixels(head).log_prob(to_levels(g.x, model.bits))
    return LikelihoodTerms(distortion, policy.rates, model.num_dims), head


def close(ours, theirs, rtol=0.0, atol=0.0):
    np.testing.assert_allclose(ours.detach().double().numpy(), theirs, rtol=rtol, atol=atol)


def reported(nats, model):
    """Nats per image in the unit the official code reports: bits/dim, for binary images nats per image."""
    return nats if model.bits == 1 else nats / (model.num_dims * math.log(2))


@CASES
@torch.no_grad()
def test_network_sees_the_recorded_input(case):
    g = golden(case)
    close(g.model.float().network_input(g.x), g.a["x"])


@CASES
@torch.no_grad()
def test_skips(case):
    g = golden(case)
    found = [key for key in g.a if key.startswith("skip_")]
    if not found:
        pytest.skip("case has no skip arrays")
    skips = g.model.float().skips(g.x)
    for key in found:
        close(skips[int(key[-2:])], g.a[key], atol=1e-4)


@CASES
@torch.no_grad()
def test_distributions_of_every_layer(case):
    g = golden(case)
    recording = Recording(Replay(noise(g)))
    g.model.float().head(recording, g.x)
    for site in recording.sites:
        for letter, distribution in (("q", site.posterior), ("p", site.prior)):
            if f"{letter}_mean_{site.index:02d}" in g.a:
                close(distribution.mean, g.a[f"{letter}_mean_{site.index:02d}"], atol=1e-4)
                close(distribution.std, g.a[f"{letter}_std_{site.index:02d}"], rtol=1e-4, atol=1e-6)


@CASES
@PRECISIONS
@torch.no_grad()
def test_terms(case, dtype, tag):
    g = golden(case)
    terms, head = replayed(g, dtype)
    close(head, g.a["head"], atol=1e-4)
    close(torch.stack(list(terms.rates.values())), g.a[f"kl_nats_per_layer_{tag}"], rtol=1e-5)
    close(terms.distortion / terms.num_dims, g.a[f"distortion_nats_per_dim_{tag}"], atol=1e-4)
    close(terms.rate / terms.num_dims, g.a[f"rate_nats_per_dim_{tag}"], rtol=1e-5)
    close(terms.nelbo / terms.num_dims, g.a[f"elbo_nats_per_dim_{tag}"], atol=1e-4)
    close(terms.bits_per_dim(), g.a[f"elbo_bits_per_dim_{tag}"], atol=1e-4 / math.log(2))
    unit = 1e-2 if g.model.bits == 1 else 1e-4 / math.log(2)
    close(reported(terms.distortion, g.model), g.a[f"reported_reconstruction_{tag}"], atol=unit)
    if g.model.bits == 1:
        close(terms.nelbo, g.a[f"elbo_nats_per_image_{tag}"], atol=1e-2)


@CASES
@torch.no_grad()
def test_normalised_and_official_numbers_agree_where_bins_meet(case):
    g = golden(case)
    honest = model_of(case).pixels(torch.from_numpy(g.a["head"]))
    distortion = -honest.log_prob(to_levels(g.x, g.model.bits)) / g.model.num_dims
    official = torch.from_numpy(g.a["distortion_nats_per_dim_f32"]).float()
    if g.model.bits in (1, 8):
        torch.testing.assert_close(distortion, official, rtol=1e-2, atol=1e-3)
    else:  # overlapping bins make the official number the smaller one
        assert (distortion > official).all()


@CASES
@PRECISIONS
@torch.no_grad()
def test_training_loss_with_its_schedules(case, dtype, tag):
    g = golden(case)
    terms, _ = replayed(g, dtype)
    steps = [key for key in g.a if key.startswith("train_loss_step") and key.endswith(tag)]
    assert steps
    for key in steps:
        step = int(key.removeprefix("train_loss_step").split("_")[0])
        close(g.model.training_loss(terms, step), g.a[key], atol=1e-4)


@CASES
def test_gradient_norms(case):
    g = golden(case)
    terms, _ = replayed(g)
    loss = terms.nelbo.mean() / terms.num_dims
    close(loss, g.a["grad_loss"], atol=1e-4)
    parameters = dict(g.model.named_parameters())
    grads = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
    names = translate({name: name for name in g.facts["param_order"]}, TORCH_RULES, str(case))
    ours = {official: mine for mine, official in names.items()}
    norms = torch.stack([grads[ours[name]].norm() for name in g.facts["param_order"]])
    close(norms, g.a["grad_norm_per_param"], rtol=1e-3, atol=1e-7)
    close(norms.square().sum().sqrt(), g.a["grad_norm_total"], rtol=1e-3)


@CASES
@pytest.mark.parametrize("tag", ["t1.0", "t0.8", "lin0.7_0.9"])
@torch.no_grad()
def test_prior_sampling_at_temperatures(case, tag):
    g = golden(case)
    model = g.model.float()
    if tag.startswith("lin"):
        temperatures = linear_temperatures(*map(float, tag[3:].split("_")), len(model.top_down))
        close(torch.tensor(temperatures, dtype=torch.float64), g.a[f"linear_temps_{tag[3:]}"], atol=1e-9)
    else:
        temperatures = [float(tag[1:])] * len(model.top_down)
    policy = Recording(Replay(noise(g, "prior_eps"), "prior", model.site_temperatures(temperatures)))
    head = model.head(policy, n=len(g.x))
    close(head, g.a[f"uncond_head_{tag}"], atol=1e-4)
    for index, z in enumerate(policy.latents):
        if f"uncond_z_{tag}_{index:02d}" in g.a:
            close(z, g.a[f"uncond_z_{tag}_{index:02d}"], atol=1e-4)


@CASES
@torch.no_grad()
def test_output_draws(case):
    g = golden(case)
    pixels = g.model.float().pixels(torch.from_numpy(g.a["head"]))
    if g.model.described.mixtures == 0:
        close(torch.sigmoid(pixels.logits), g.a["bernoulli_probs"], atol=1e-5)
        return
    uniforms = [torch.from_numpy(g.a[key]) for key in ("out_u_mix", "out_u_logistic")]
    for temperature in (1.0, 0.8):
        close(draw_values(pixels, *uniforms, temperature), g.a[f"out_sample_t{temperature}"], atol=1e-4)


@CASES
def test_similarity_of_image_and_draw(case):
    g = golden(case)
    images, draws = (torch.from_numpy(g.a[key]).double() * 127.5 + 127.5 for key in ("x", "out_sample_t1.0"))
    close(ssim_zero_padded(images, draws), g.a["ssim_per_image"], atol=1e-4)


@CASES
@torch.no_grad()
def test_pruned_posteriors(case):
    g = golden(case)
    model = g.model.float()
    statistics = MeanKL(Replay(noise(g)))
    model.head(statistics, g.x)
    means = channel_means(statistics.means())
    close(torch.stack(list(means.values())).squeeze() / math.log(2), g.a["div_stats"], rtol=1e-4)

    recorded = dict(zip(means, torch.from_numpy(g.a["div_stats"])[..., None, None], strict=True))
    keep = keep_share(recorded, 0.25)
    close(torch.stack(list(keep.values())).squeeze(), g.a["variate_masks_q0.25"])

    above, below = noise(g), noise(g, "prior_eps")
    policy = PrunedPosterior(keep, draws=lambda site: (below[site.index], above[site.index]))
    head = model.head(policy, g.x)
    close(head, g.a["masked_head"], atol=1e-4)
    distortion = -model.pixels(head).log_prob(to_levels(g.x, model.bits)).mean()
    terms = LikelihoodTerms(distortion[None], {k: v.mean()[None] for k, v in policy.rates.items()}, model.num_dims)
    close(reported(distortion, model), g.a["masked_reported_reconstruction"], atol=1e-2 if model.bits == 1 else 2e-4)
    close(
        terms.bits_per_dim() - terms.distortion / (model.num_dims * math.log(2)),
        g.a["masked_kl_bits_per_dim"][None],
        rtol=1e-4,
    )


def mass_cases():
    path = root() / "efficient_vdvae" / "dmol_mass.npz"
    if not path.is_file():
        return [pytest.param(None, id="efficient_vdvae-none", marks=pytest.mark.skip(reason=f"no {path}"))]
    tags = [key.removeprefix("raw_") for key in np.load(path).files if key.startswith("raw_")]
    return [pytest.param(tag, id=f"efficient_vdvae-{tag}") for tag in tags]


@pytest.mark.parametrize("tag", mass_cases())
def test_mass_of_every_level(tag):
    """The tag says depth, kind of scale, smoothing and lower limit of the log scale."""
    arrays = np.load(root() / "efficient_vdvae" / "dmol_mass.npz")
    bits = int(tag[0])
    raw, mean = (torch.from_numpy(arrays[key]).double()[:, None] for key in (f"raw_{tag}", "mean"))
    floor = {"bounded7": -7.0, "floor14": -14.0, "unbounded": -250.0}[tag.rsplit("_", 1)[1]]
    log_scale = log_softplus(raw, 0.6931472) if "_std_ln2_" in tag else raw
    levels = torch.arange(2**bits)[None]
    values = level_values(levels, bits, torch.float64)
    ours = efficient_vdvae_log_mass(values, mean, log_scale.clamp_min(floor), bits)
    close(ours, arrays[f"logp_{tag}"], rtol=1e-5, atol=1e-5)
    close(ours.exp().sum(1), arrays[f"total_mass_{tag}"], rtol=1e-5)
