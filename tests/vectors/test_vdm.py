"""VDM against numbers of the official JAX code: whatever cases the folder holds."""

import json
import re
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.vectors.cases import cases
from zoo.checkpoints import build, fit_weights
from zoo.checkpoints.vdm import RULES, import_checkpoint
from zoo.likelihood import from_levels
from zoo.likelihood.noise import evenly
from zoo.models.vdm import Draws, ScalarSchedule, stratified
from zoo.models.vdm.network import fourier_features, time_embedding
from zoo.models.vdm.pixels import pixel_distribution

CASES = pytest.mark.parametrize("case", cases("vdm", "*.json"))
OURS = {  # module of the official network -> ours
    "dense0": "dense0",
    "dense1": "dense1",
    "conv_in": "conv_in",
    "mid.block_1": "middle1.block",
    "mid.attn_1": "middle1.attention",
    "mid.block_2": "middle2.block",
}


def nchw(array):
    return torch.from_numpy(np.asarray(array, dtype=np.float32)).permute(0, 3, 1, 2)


def close(ours, theirs, rtol=0.0, atol=0.0):
    theirs = torch.as_tensor(np.asarray(theirs)).double()
    torch.testing.assert_close(ours.detach().double().reshape(theirs.shape), theirs, rtol=rtol, atol=atol)


def imported(case, tree="ema_params"):
    spec, state = import_checkpoint([case.with_suffix(".flax")], case, tree=tree)
    model = build(spec)
    fit_weights(model, state, str(case))
    return model.eval()


@cache
def golden(case):
    """The model, the recorded arrays, and the inputs in our layout."""
    arrays = dict(np.load(case.with_suffix(".npz")))
    model, config = imported(case), json.loads(case.read_text())
    return SimpleNamespace(
        model=model,
        config=config,
        a=arrays,
        x=from_levels(torch.from_numpy(arrays["images"]).long().permute(0, 3, 1, 2), model.bits),
        eps0=nchw(arrays["eps0"]),
        eps=nchw(arrays["eps"]),
        condition=torch.from_numpy(arrays["conditioning"]),
    )


def ours_of(key):
    """Our name of an official parameter, for names inside the recorded arrays."""
    key = key.replace("|", "/")
    for rule in RULES:
        if (holes := rule.match(key)) is not None:
            return rule.target.format(**holes)
    raise KeyError(key)


def staged(name):
    """`up.block_3` -> `up.3.block`."""
    side, kind, index = re.fullmatch(r"(down|up)\.(block|attn)_(\d+)", name).groups()
    return f"{side}.{index}.{ {'block': 'block', 'attn': 'attention'}[kind] }"


def priced(g, steps, model=None):
    model = model or g.model
    times = torch.from_numpy(g.a[f"T{steps}|t"]) if f"T{steps}|t" in g.a else None
    return model.price(g.x, Draws(g.eps0, times, g.eps), steps, label=g.condition)


def recorded_steps(g):
    return g.config["timesteps_cases"]


@CASES
def test_schedule(case):
    g = golden(case)
    level = g.model.schedule(torch.from_numpy(g.a["gamma_grid|t"]))
    close(level.gamma, g.a["gamma_grid|gamma"], rtol=1e-5, atol=1e-5)
    close(level.slope, g.a["gamma_grid|dgamma_dt"], rtol=1e-5)
    for ours, theirs in zip(g.model.schedule.ends(), ("gamma0", "gamma1"), strict=True):
        close(ours, g.a[theirs], rtol=1e-5)
    if "extra_scalar|w" in g.a:
        scalar = ScalarSchedule(0.0, 1.0)
        scalar.load_state_dict({p: torch.from_numpy(g.a[f"extra_scalar|{p}"]) for p in "wb"})
        close(scalar(torch.from_numpy(g.a["gamma_grid|t"])).gamma, g.a["extra_scalar|gamma"], rtol=1e-5, atol=1e-5)


@CASES
def test_times_from_one_uniform_number(case):
    g = golden(case)
    if not g.config.get("antithetic_time_sampling", True):
        pytest.skip("the case draws independent times")
    times = stratified(evenly(torch.from_numpy(np.asarray(g.a["u0"])), len(g.x)))[0]
    for steps in recorded_steps(g):
        expected = times if not steps else torch.ceil(times * steps) / steps
        close(expected, g.a[f"T{steps}|t"], rtol=1e-5, atol=1e-6)


@CASES
def test_encoding_and_decoder(case):
    g = golden(case)
    f, gamma_0 = g.model.encode(g.x), g.model.schedule.ends()[0]
    close(f.permute(0, 2, 3, 1), g.a["x_enc"], rtol=1e-5)
    rescaled = f + torch.exp(0.5 * gamma_0) * g.eps0
    close(rescaled.permute(0, 2, 3, 1), g.a["z0_rescaled"], rtol=1e-5, atol=1e-6)
    log_probs = pixel_distribution(rescaled, gamma_0, g.model.bits).logits.log_softmax(-1)
    close(log_probs[0, :, :2, :2].permute(1, 2, 0, 3), g.a["logp_x_given_z0_pixel"], rtol=1e-4, atol=1e-3)
    best = g.model.pixels(nchw(g.a["decode|z0"]).double()).logits.argmax(-1)
    np.testing.assert_array_equal(best.permute(0, 2, 3, 1).numpy(), g.a["decode|x_argmax"])


@CASES
def test_features(case):
    g = golden(case)
    close(time_embedding(torch.from_numpy(g.a["temb|t"]), g.model.network.config.width), g.a["temb|out"], atol=1e-4)
    z = nchw(g.a["fourier|in"])
    features = fourier_features(z, [6, 7])[:, z.shape[1] :]
    close(features.permute(0, 2, 3, 1), g.a["fourier|out"], atol=2e-4)


@CASES
def test_network_output_and_activations(case):
    g = golden(case)
    seen = {}

    def keep(name):
        return lambda module, args, output: seen.__setitem__(name, output)

    hooks = []
    for key in (key for key in g.a if key.startswith("act|")):
        name = key.split("|")[2]
        ours = OURS.get(name) or staged(name)
        hooks.append(g.model.network.get_submodule(ours).register_forward_hook(keep(key)))
    with torch.no_grad():
        gamma = torch.from_numpy(g.a["T0|gamma_t"]).double()
        g.model.predict(nchw(g.a["T0|z_t"]).double(), gamma, g.condition)
        for hook in hooks:
            hook.remove()
        for steps in recorded_steps(g):
            gamma = torch.from_numpy(g.a[f"T{steps}|gamma_t"]).double()
            eps_hat = g.model.predict(nchw(g.a[f"T{steps}|z_t"]).double(), gamma, g.condition)
            close(eps_hat.permute(0, 2, 3, 1), g.a[f"T{steps}|eps_hat"], atol=5e-4)
    assert seen
    for key, output in seen.items():
        output = output[: len(g.a[key])]
        close(output.permute(0, 2, 3, 1) if output.dim() == 4 else output, g.a[key], atol=5e-4)


@CASES
def test_terms(case):
    g = golden(case)
    for steps in recorded_steps(g):
        with torch.no_grad():
            terms, level = priced(g, steps)
        close(level.gamma, g.a[f"T{steps}|gamma_t"], rtol=1e-5)
        close(terms.distortion, g.a[f"T{steps}|loss_recon_nats"], rtol=2e-5)
        close(terms.rates["latent"], g.a[f"T{steps}|loss_latent_nats"], rtol=2e-4, atol=1e-4)
        close(terms.rates["diffusion"], g.a[f"T{steps}|loss_diff_nats"], rtol=2e-5)
        close(terms.bits_per_dim(), g.a[f"T{steps}|bpd_per_image"], rtol=2e-5)
        close(terms.bits_per_dim().mean(), g.a[f"T{steps}|bpd"], rtol=2e-5)


@CASES
def test_terms_of_raw_weights(case):
    g = golden(case)
    if not g.config["raw_params_complete"]:
        pytest.skip("the case keeps only the moving averages")
    raw = imported(case, tree="params")
    for steps in recorded_steps(g):
        with torch.no_grad():
            terms, _ = priced(g, steps, raw)
        close(terms.bits_per_dim().mean(), g.a[f"T{steps}|bpd_with_raw_params"], rtol=2e-5)


@CASES
def test_gradients(case):
    g = golden(case)
    parameters = dict(g.model.named_parameters())
    for steps in recorded_steps(g):
        g.model.zero_grad()
        priced(g, steps)[0].bits_per_dim().mean().backward()
        prefix = f"T{steps}|grad_norm|"
        for key in (key for key in g.a if key.startswith(prefix)):
            gradient = parameters[ours_of(key.removeprefix(prefix))].grad
            close(gradient.double().norm(), g.a[key], rtol=2e-3, atol=1e-5)
    g.model.zero_grad()


@CASES
def test_one_ancestral_step(case):
    g = golden(case)
    T, z_t = int(g.a["sample|T"]), nchw(g.a["sample|z_t"]).double()
    for i in (i for i in range(T) if f"sample|i{i}|z_s" in g.a):
        gamma = g.model.schedule(torch.tensor([(T - i) / T, (T - i - 1) / T], dtype=torch.float64)).gamma
        with torch.no_grad():
            step = g.model.transition(z_t, gamma[0], gamma[1], g.model.predict(z_t, gamma[0], g.condition))
        z_s = step.sample(nchw(g.a[f"sample|i{i}|noise"]).double())
        close(z_s.permute(0, 2, 3, 1), g.a[f"sample|i{i}|z_s"], atol=5e-4)


@CASES
def test_three_optimiser_steps(case):
    g = golden(case)
    if g.config["train_start"] is None:
        pytest.skip("the case records no training")
    model = imported(case, tree=g.config["train_start"])
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    official = {ours_of(key.split("|", 2)[2]): key for key in g.a if key.startswith("train|delta_norm|")}
    plain = [p for name, p in model.named_parameters() if official[name].endswith("bias")]
    decayed = [p for name, p in model.named_parameters() if not official[name].endswith("bias")]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": 0.01}]
    optimizer = torch.optim.AdamW(groups, lr=float(g.a["train|lr"]), betas=(0.9, 0.99), eps=1e-8)
    losses = []
    for k in range(len(g.a["train|losses_bpd"])):
        times = stratified(evenly(torch.from_numpy(np.asarray(g.a[f"train|step{k}|u0"])), len(g.x)))[0]
        draws = Draws(nchw(g.a[f"train|step{k}|eps0"]), times, nchw(g.a[f"train|step{k}|eps"]))
        loss = model.price(g.x, draws, label=g.condition)[0].bits_per_dim().mean()
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    close(torch.stack(losses), g.a["train|losses_bpd"], rtol=1e-4)
    for name, parameter in model.named_parameters():
        if not official[name].endswith("k|bias"):  # its gradient is zero in theory, Adam scales the rounding
            close((parameter - start[name]).double().norm(), g.a[official[name]], rtol=2e-2)
