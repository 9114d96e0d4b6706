"""Our VDVAE against recorded outputs of the official code, for every case of the vectors."""

import copy
import json
import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.vectors.cases import cases
from zoo.checkpoints import build, fit_weights
from zoo.checkpoints.keymap import translate
from zoo.checkpoints.vdvae import import_checkpoint, rules
from zoo.likelihood.latents import Given, Recording, Replay, Split
from zoo.likelihood.levels import to_levels
from zoo.likelihood.mixture import LogisticMixture
from zoo.likelihood.official import vdvae_sample
from zoo.models.vdvae import VDVAE
from zoo.training.recomputation import recompute_blocks


@dataclass(frozen=True)
class Case:
    hparams: dict
    arrays: dict
    model: VDVAE
    x: torch.Tensor

    def series(self, stem):
        """Arrays `<stem>_00`, `<stem>_01`, ... of all layers."""
        return [torch.from_numpy(self.arrays[f"{stem}_{i:02d}"]) for i in range(len(self.model.decoder.layers))]

    def image(self, key):
        """An image-like array, (B, H, W, C) -> (B, C, H, W)."""
        return torch.from_numpy(self.arrays[key]).permute(0, 3, 1, 2)


def folder_files(path):
    return sorted(path.parent.glob(f"{path.stem}-*.th"))


def official(path):
    """Spec and weights under the official conventions."""
    return import_checkpoint(folder_files(path), path, bins="vdvae")


@cache
def load(path: Path) -> Case:
    spec, weights = official(path)
    model = build(spec)
    fit_weights(model, weights, path.name)
    with np.load(path.with_suffix(".npz")) as file:
        arrays = dict(file)
    x = torch.from_numpy(arrays["images_u8"]).permute(0, 3, 1, 2).contiguous()
    return Case(json.loads(path.read_text()), arrays, model.eval(), x)


def traverse(case, policy, image=True):
    """Features behind the last layer, (B, W, H, W)."""
    with torch.no_grad():
        return case.model.decoder(policy, case.model.encode(case.x) if image else None, len(case.x))


def close(ours, official, **tolerance):
    torch.testing.assert_close(ours, torch.as_tensor(official), check_dtype=False, check_stride=False, **tolerance)


every_case = pytest.mark.parametrize("path", cases("vdvae", "*.json"))


@every_case
def test_replay_gives_the_official_latents_distributions_features_and_head(path):
    case = load(path)
    policy = Recording(Replay(case.series("eps")))
    features = traverse(case, policy)
    close(features, case.arrays["px_z"], atol=1e-4, rtol=0)
    close(case.model.head(features).detach(), case.image("head"), atol=1e-4, rtol=0)
    for i, (site, z) in enumerate(zip(policy.sites, policy.latents, strict=True)):
        close(z, case.arrays[f"z_{i:02d}"], atol=1e-4, rtol=0)
        for name, ours in (("q", site.posterior), ("p", site.prior)):
            if f"{name}_mean_{i:02d}" in case.arrays:
                close(ours.mean, case.arrays[f"{name}_mean_{i:02d}"], atol=1e-4, rtol=0)
                close(ours.log_std, case.arrays[f"{name}_logsigma_{i:02d}"], atol=1e-4, rtol=0)


@every_case
def test_encoder_activations(path):
    case = load(path)
    with torch.no_grad():
        seen = case.model.encode(case.x)
    recorded = {int(key.removeprefix("enc_act_")): a for key, a in case.arrays.items() if key.startswith("enc_act_")}
    assert recorded
    for resolution, activation in recorded.items():
        close(seen[resolution], activation, atol=1e-4, rtol=0)


@every_case
@pytest.mark.parametrize("precision", ["f32", "f64"])
def test_terms(path, precision):
    case = load(path)
    model, policy = case.model, Replay(case.series("eps"))
    if precision == "f64":
        model = build(official(path)[0]).double()
        model.load_state_dict(case.model.state_dict())
        policy = Replay([eps.double() for eps in policy.noise])
    with torch.no_grad():
        pixels = model.ancestral_pass(policy, case.x)
        distortion = -pixels.log_prob(to_levels(case.x, model.bits)) / case.x[0].numel()
    rates = torch.stack(list(policy.rates.values()))  # (L, B)
    close(rates, case.arrays[f"kl_nats_per_layer_{precision}"], rtol=1e-5, atol=1e-6)
    rate = rates.sum(0) / case.x[0].numel()
    close(rate, case.arrays[f"rate_nats_per_dim_{precision}"], atol=1e-5, rtol=0)
    close(distortion, case.arrays[f"distortion_nats_per_dim_{precision}"], atol=1e-4, rtol=0)
    close(rate + distortion, case.arrays[f"elbo_nats_per_dim_{precision}"], atol=1e-4, rtol=0)
    close((rate + distortion) / math.log(2), case.arrays[f"elbo_bits_per_dim_{precision}"], atol=2e-4, rtol=0)
    close((rate + distortion).mean(), case.arrays[f"batch_elbo_{precision}"], atol=1e-4, rtol=0)


@every_case
@pytest.mark.parametrize("recompute", [False, True], ids=["stored", "recomputed"])
def test_gradient_norms(path, recompute):
    case = load(path)
    if recompute:
        case = replace(case, model=copy.deepcopy(case.model))
        recompute_blocks(case.model)
    order = translate({name: name for name in case.hparams["param_order"]}, rules(case.hparams), path.name)
    ours = {official: name for name, official in order.items()}
    model, policy = case.model.train(), Replay(case.series("eps"))
    parameters = dict(model.named_parameters())
    pixels = model.ancestral_pass(policy, case.x)
    nats = sum(policy.rates.values()) - pixels.log_prob(to_levels(case.x, model.bits))
    gradients = torch.autograd.grad((nats / case.x[0].numel()).mean(), list(parameters.values()))
    model.eval()
    norms = {name: gradient.double().norm() for name, gradient in zip(parameters, gradients, strict=True)}
    inOrder = torch.stack([norms[ours[name]] for name in case.hparams["param_order"]])
    close(inOrder, case.arrays["grad_norm_per_param"], rtol=1e-3, atol=1e-8)
    close(inOrder.norm(), case.arrays["grad_norm_total"], rtol=1e-3, atol=0)


@every_case
@pytest.mark.parametrize("temperature", ["none", "t1.0", "t0.8", "tlist"])
def test_samples_at_a_temperature(path, temperature):
    case = load(path)
    values = {"none": 1.0, "t1.0": 1.0, "t0.8": 0.8, "tlist": case.arrays["tlist"].tolist()}
    policy = Replay(case.series("prior_eps"), source="prior", temperature=values[temperature])
    features = traverse(case, policy, image=False)
    close(features, case.arrays[f"uncond_px_z_{temperature}"], atol=1e-4, rtol=0)
    if f"uncond_head_{temperature}" in case.arrays:
        close(case.model.head(features).detach(), case.image(f"uncond_head_{temperature}"), atol=1e-4, rtol=0)


@every_case
def test_partial_and_full_reconstructions(path):
    case = load(path)
    given = Given(case.series("z"))
    below = Replay(case.series("prior_eps"), source="prior", temperature=0.1)
    k = int(case.arrays["partial_latents_k"])
    close(traverse(case, Split(k, given, below), image=False), case.arrays["partial_latents_px_z"], atol=1e-4, rtol=0)
    close(traverse(case, given, image=False), case.arrays["all_latents_px_z"], atol=1e-4, rtol=0)


@every_case
def test_pixels_drawn_from_the_head(path):
    case = load(path)
    mixture = LogisticMixture.from_head(case.image("head"), case.model.bits, "vdvae")
    values, pixels = vdvae_sample(
        mixture.logits,
        mixture.means,
        mixture.raw_log_scales,
        mixture.coefficients,
        case.image("out_u_mix"),
        case.image("out_u_logistic"),
    )
    near = (values - case.image("out_sample_float")).abs() < 1e-3
    assert near.double().mean() > 0.999  # a tie between two components may fall the other way
    off = (pixels.int() - case.image("out_sample_u8").int()).abs()
    assert (off <= 1).double().mean() > 0.999


@every_case
def test_raw_and_averaged_weights_are_told_apart(path):
    files = folder_files(path)
    if len(files) < 2:
        pytest.skip("the case has one file only")
    averaged = import_checkpoint(files, path)[1]
    raw = import_checkpoint(files, path, weights="raw")[1]
    assert averaged.keys() == raw.keys()
    assert any(not torch.equal(averaged[key], raw[key]) for key in raw)


@pytest.mark.parametrize("path", cases("vdvae", "dmol_mass.npz"))
@pytest.mark.parametrize("bits", [8, 5])
def test_log_masses_of_one_logistic(path, bits):
    arrays = np.load(path)
    levels = torch.from_numpy(arrays[f"codes_{bits}bit"].astype(np.int64)) >> (8 - bits)
    official = torch.from_numpy(arrays[f"vdvae_logp_{bits}bit"])
    for row, mean, log_scale in zip(official, arrays["mean"], arrays["raw_log_scale"], strict=True):
        ones = torch.ones(len(levels), 1, 1, 1, 1, dtype=torch.float64)  # (B, C, M, H, W), a level per image
        mixture = LogisticMixture(ones[:, 0] * 0, ones * mean, ones * log_scale, None, bits, "vdvae")
        close(mixture.log_prob(levels[:, None, None, None]), row, atol=1e-9, rtol=1e-9)
