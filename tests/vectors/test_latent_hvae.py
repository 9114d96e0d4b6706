"""The imported hierarchical VAE against the official code's arrays, in both attention modes."""

import json

import numpy as np
import pytest
import torch

from tests.vectors.cases import cases
from zoo.checkpoints import build, fit_weights
from zoo.checkpoints.latent_vae import import_checkpoint
from zoo.checkpoints.ldm_autoencoder import import_checkpoint as import_autoencoder
from zoo.checkpoints.ldm_autoencoder import read_weights
from zoo.likelihood import DiagonalGaussian, Given, Recording, Replay, per_image
from zoo.likelihood.manipulation import GuidedPrior, Widen, mix_latents
from zoo.models.latent_vae.balance import (
    RateSchedule,
    SpectralPenalty,
    balance_weights,
    exact_spectral_penalty,
    regularised_kernels,
)

MEANS = {"atol": 5e-4, "rtol": 1e-4}
KLS = {"atol": 1e-3, "rtol": 1e-4}
MODES = {"released": "as_released", "fixed": "correct"}
both_modes = pytest.mark.parametrize("mode", MODES)


class Case:
    """Network from the public importer, configuration and arrays."""

    def __init__(self, path, mode):
        self.config = json.loads(path.read_text())
        checkpoint = path.with_suffix(".pt")
        spec, weights = import_checkpoint([checkpoint], path, attention=MODES[mode])
        self.network = build(spec).eval()
        fit_weights(self.network, weights, str(checkpoint))
        self.arrays = {key: torch.from_numpy(value) for key, value in np.load(path.with_suffix(".npz")).items()}
        self.label = self.arrays.get("label")
        self.y = self.arrays["x"]

    def series(self, name):
        return [self.arrays[f"{name}/{i}"] for i in range(len(self.network.layers))]

    def training_pass(self):
        """Sites and Gaussian of the recorded training pass."""
        dropped = None
        if self.label is not None:
            dropped = torch.where(self.arrays["drop_uniform"] > 0.9, -1, self.label)
        policy = Recording(Replay(self.series("eps")))
        with torch.no_grad():
            out = self.network.ancestral_pass(policy, self.y, label=self.label, prior_label=dropped)
        return policy, out

    def schedule(self):
        kind, numbers = self.config["rate_schedule"]
        schedule = RateSchedule(kind, levels=numbers) if kind == "constant_per" else RateSchedule(kind, **numbers)
        return schedule.shares(self.config["model"]["nlayers"][::-1])


hvae_cases = pytest.mark.parametrize("path", cases("latent_hvae", "*.json"))


@both_modes
@hvae_cases
def test_training_pass_matches_recorded_distributions(path, mode):
    case = Case(path, mode)
    policy, out = case.training_pass()
    torch.testing.assert_close(out.mean, case.arrays[f"{mode}/out_mean"], **MEANS)
    torch.testing.assert_close(2 * out.log_std, case.arrays[f"{mode}/out_logvar"], **MEANS)
    for i, site in enumerate(policy.sites):
        torch.testing.assert_close(site.posterior.mean, case.arrays[f"{mode}/q_mean/{i}"], **MEANS)
        torch.testing.assert_close(site.posterior.std**2, case.arrays[f"{mode}/q_var/{i}"], **MEANS)
        if f"{mode}/p_mean/{i}" in case.arrays:
            torch.testing.assert_close(site.prior.mean, case.arrays[f"{mode}/p_mean/{i}"], **MEANS)
            torch.testing.assert_close(site.prior.std**2, case.arrays[f"{mode}/p_var/{i}"], **MEANS)
    kls = torch.stack(list(policy.policy.rates.values()), dim=1)
    torch.testing.assert_close(kls, case.arrays[f"{mode}/kl_nats"], **KLS)


@both_modes
@hvae_cases
def test_objective_matches_recorded_loss_and_balance(path, mode):
    case = Case(path, mode)
    policy, out = case.training_pass()
    noise = torch.full_like(case.y, case.config["sigma_q"]).log()
    reconstruction = per_image(DiagonalGaussian(case.y, noise).kl(out))
    torch.testing.assert_close(reconstruction, case.arrays[f"{mode}/recon_nats"], rtol=1e-4, atol=1e-2)
    kls = torch.stack(list(policy.policy.rates.values()), dim=1)
    shares = case.schedule()
    torch.testing.assert_close(shares, case.arrays["rate_schedule_percent"], rtol=1e-5, atol=1e-6)
    weights = balance_weights(kls, shares)
    torch.testing.assert_close(weights, case.arrays[f"{mode}/kl_weight"], rtol=1e-3, atol=1e-3)
    weighted = (weights * kls).sum(0)
    torch.testing.assert_close(
        weighted, case.arrays[f"{mode}/kl_weighted_sum_over_batch_per_layer"], rtol=1e-3, atol=1e-2
    )
    loss = (reconstruction + (weights * kls).sum(1)).mean()
    torch.testing.assert_close(loss, case.arrays[f"{mode}/loss_without_sr"], rtol=1e-4, atol=1e-2)


@hvae_cases
def test_spectral_penalty_matches_recorded_singular_values(path):
    case = Case(path, "released")
    recorded = case.arrays["spectral_res_prior_post"]
    for row, layer in zip(recorded, case.network.layers, strict=True):
        assert layer.resolution == int(row[0])
        values = [torch.linalg.matrix_norm(k.weight.flatten(1).double(), 2) for k in regularised_kernels(layer)]
        torch.testing.assert_close(torch.stack(values), row[-len(values) :], rtol=1e-5, atol=1e-6)
    total = case.arrays["sr_loss_unweighted_total"]
    torch.testing.assert_close(exact_spectral_penalty(case.network.layers), total, rtol=1e-5, atol=1e-6)
    penalty = SpectralPenalty(case.network.layers)
    with torch.no_grad():
        for _ in range(300):
            value = penalty()
    torch.testing.assert_close(value.double(), total, rtol=1e-3, atol=0.0)


@both_modes
@hvae_cases
def test_samples_match_unguided_guided_and_without_label(path, mode):
    case = Case(path, mode)
    noise, n = case.series("noise"), len(case.y)
    with torch.no_grad():
        unguided = case.network.ancestral_pass(Replay(noise, "prior"), n=n, label=case.label).mean
        torch.testing.assert_close(unguided, case.arrays[f"{mode}/sample_unguided"], **MEANS)
        if case.label is None:
            return
        none = torch.full_like(case.label, -1)
        free = case.network.ancestral_pass(Replay(noise, "prior"), n=n, label=none).mean
        torch.testing.assert_close(free, case.arrays[f"{mode}/sample_uncond_label"], **MEANS)
        for j, (mean_weight, std_weight) in enumerate(case.config["guidance"]):
            policy = GuidedPrior(mean_weight, std_weight, exempt_single=False, noise=noise)
            guided = case.network.ancestral_pass(policy, n=2 * n, label=torch.cat([case.label, none])).mean[:n]
            torch.testing.assert_close(guided, case.arrays[f"{mode}/sample_guided/{j}"], **MEANS)
        plain = case.network.ancestral_pass(
            GuidedPrior(0.0, 0.0, noise=noise), n=2 * n, label=torch.cat([case.label, none])
        )
        torch.testing.assert_close(plain.mean[:n], unguided, **MEANS)


@both_modes
@pytest.mark.parametrize("path", cases("latent_hvae", "*_manipulation.npz"))
def test_interpolation_and_outpainting_match_recorded_arrays(path, mode):
    case = Case(path.with_name(path.name.replace("_manipulation.npz", ".json")), mode)
    arrays = {key: torch.from_numpy(value) for key, value in np.load(path).items()}
    policy, _ = case.training_pass()
    latents = policy.latents
    for i, z in enumerate(latents):
        torch.testing.assert_close(z, arrays[f"{mode}/z_posterior/{i}"], **MEANS)
    with torch.no_grad():
        for key, recorded in arrays.items():
            if key.startswith(f"{mode}/interp_"):
                mixed = mix_latents([z[:1] for z in latents], [z[1:2] for z in latents], float(key.split("_")[-1]))
                torch.testing.assert_close(case.network.ancestral_pass(Given(mixed), n=1).mean, recorded, **MEANS)
        wide = [arrays[f"{mode}/z_wide/{i}"] for i in range(len(latents))]
        size = tuple(arrays[f"{mode}/outpaint_mean"].shape[-2:])
        n = len(case.y)
        outpainted = case.network.ancestral_pass(Given(wide), n=n, size=size).mean
        torch.testing.assert_close(outpainted, arrays[f"{mode}/outpaint_mean"], **MEANS)
        record = Recording(Widen(latents, start=(0.0, 0.0)))
        case.network.ancestral_pass(record, n=n, size=size)
    for site, z, known in zip(record.sites, record.latents, latents, strict=True):
        assert z.shape == wide[site.index].shape
        assert torch.equal(z[..., : known.shape[-1]], known)


@hvae_cases
def test_importer_uses_every_key(path):
    case = Case(path, "released")
    assert sum(p.numel() for p in case.network.parameters()) == case.config["param_count"]


def pipelines():
    """Pairs of a hierarchy and a first stage whose channels agree, as the released pipeline files hold them."""
    pairs = []
    for hierarchy in cases("latent_hvae", "*.json"):
        for stage in cases("ldm_autoencoder", "*.json"):
            paths = hierarchy.values[0], stage.values[0]
            if None in paths:
                return [pytest.param(None, None, marks=pytest.mark.skip(reason="needs both sources"))]
            one, other = (json.loads(path.read_text()) for path in paths)
            if one["model"]["datadim"] == other["embed_dim"]:
                pairs.append(pytest.param(*paths, id=f"{hierarchy.id}-{stage.id}"))
    return pairs or [pytest.param(None, None, marks=pytest.mark.skip(reason="no pair of equal channels"))]


@pytest.mark.parametrize(("hierarchy", "stage"), pipelines())
def test_a_pipeline_file_becomes_one_model(hierarchy, stage, tmp_path):
    weights = dict(torch.load(hierarchy.with_suffix(".pt"), weights_only=True))
    first = read_weights(stage.with_suffix(".ckpt"))
    torch.save(weights | {f"dae.{key}": tensor for key, tensor in first.items()}, tmp_path / "pipeline.pt")
    spec, merged = import_checkpoint([tmp_path / "pipeline.pt"], hierarchy)
    model = build(spec).eval()
    fit_weights(model, merged, "pipeline")
    x = torch.from_numpy(np.load(stage.with_suffix(".npz"))["x"])
    alone, state = import_autoencoder([stage.with_suffix(".ckpt")])
    autoencoder = build(alone).eval()
    fit_weights(autoencoder, state, "stage")
    with torch.no_grad():
        assert torch.equal(model.first_stage.latent(x), autoencoder.latent(x))
        assert model.sample(1).shape == (1, *model.image_shape)
