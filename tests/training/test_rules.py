"""Both training modules follow the same rules, without waiting for the device."""

import copy

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from tests.training.test_adversarial import QUIET, SMALL
from tests.training.test_adversarial import loader as images
from tests.training.test_adversarial import module as first_stage
from tests.training.test_module import fit, lit
from tests.training.toy import Noisy, loader
from tests.waits import Waits
from zoo.errors import UserError
from zoo.likelihood.first_stage import FirstStagePass
from zoo.models.latent_vae import KLAutoencoder
from zoo.training.optimisers import Adamax, use_fused
from zoo.training.recomputation import recompute_blocks


class Blows(KLAutoencoder):
    """A first stage whose reconstruction is no number at one step."""

    def __init__(self, at: int, **settings):
        super().__init__(**settings)
        self.at, self.calls = at, 0

    def training_pass(self, x):
        out = super().training_pass(x)
        self.calls += 1
        if self.calls == self.at:
            out.reconstruction.data.fill_(float("nan"))
        return out


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_a_bad_batch_changes_neither_autoencoder_nor_discriminator():
    module = first_stage(Blows(3, **SMALL), disc_start=0, ema_decay=0.5)
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            optimizers = [copy.deepcopy(optimizer.state_dict()["state"]) for optimizer in trainer.optimizers]
            seen.append((state(pl_module), optimizers))

    pl.Trainer(max_steps=4, callbacks=[Watch()], **QUIET).fit(module, images(), images(2))
    assert module.skipped_total == 1
    (before, moments), (after, same), (later, _) = seen[1:4]
    assert all(torch.equal(before[name], after[name]) for name in before)
    for old, new in zip(moments, same, strict=True):
        assert all(torch.equal(old[key][name], new[key][name]) for key in old for name in old[key])
    for part in ("network.", "discriminator."):
        assert any(not torch.equal(after[name], later[name]) for name in after if name.startswith(part))
    assert all(tensor.isfinite().all() for tensor in later.values())


def test_a_first_stage_is_clipped_averaged_and_stopped_by_the_same_rules():
    module = first_stage(disc_weight=0.0, clip_norm=1e-3, ema_decay=0.9)
    assert module.discriminator is None
    start = state(module.network)
    trainer = pl.Trainer(max_steps=3, **QUIET)
    trainer.fit(module, images(), images(2))
    assert "train/grad_norm" in trainer.logged_metrics
    moved = max(float((start[name] - tensor).abs().max()) for name, tensor in module.network.state_dict().items())
    assert 0 < moved < 1e-3  # three steps of 1e-3 at most, of which the average takes a tenth each
    stuck = first_stage(disc_weight=0.0, skip_norm=1e-9, max_consecutive_skips=2)
    with pytest.raises(UserError, match="2 updates in a row"):
        pl.Trainer(max_steps=5, **QUIET).fit(stuck, images(), images(2))


def test_accumulation_of_a_first_stage_is_a_larger_batch():
    gradients = []
    for size, accumulation in ((4, 1), (2, 2)):
        module = first_stage(disc_weight=0.0, clip_norm=1e9)
        module.accumulation = accumulation
        module.network.training_pass = lambda x, network=module.network: _noiseless(network, x)

        class Keep(pl.Callback):
            def on_before_optimizer_step(self, trainer, pl_module, optimizer):
                gradients.append(torch.cat([p.grad.flatten() for p in pl_module.network.parameters()]))

        data = torch.utils.data.DataLoader(images().dataset, batch_size=size)
        trainer = pl.Trainer(max_steps=1, callbacks=[Keep()], **QUIET)
        trainer.fit(module, data, images(2))
        assert trainer.global_step == 1
    assert len(gradients) == 2
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3 * float(gradients[0].abs().max()))


def _noiseless(network, x):
    penalty = sum(p.sum() for p in network.parameters()) * 0.0
    return FirstStagePass(network.decode(network.latent(x)), penalty, {})


def test_frozen_parameters_are_not_averaged():
    network = Noisy()
    network.logits.requires_grad_(False)
    module = lit(network, ema_decay=0.9)
    names = []

    class Peek(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            checkpoint = {"state_dict": pl_module.state_dict(), "global_step": 0}
            averages = next(c for c in trainer.callbacks if type(c).__name__ == "AveragedWeights")
            averages.on_save_checkpoint(trainer, pl_module, checkpoint)
            names.extend(averages._average)
            assert checkpoint["state_dict"].keys() == checkpoint["current_model_state"].keys()

    fit(module, callbacks=[Peek()])
    assert names
    assert not any(name.startswith("network.logits") for name in names)


def test_a_skipped_update_puts_buffers_back():
    """A codebook must not learn from a batch that the weights do not learn from."""
    module = lit(Noisy(blow_up_at=1), skip_norm=1e4)
    fit(module, steps=3)
    assert module.network.calls == 2


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "adamax"])
def test_no_step_waits_for_the_device(optimizer):
    module = lit(Noisy(blow_up_at=1), optimizer=optimizer, skip_norm=1e4, clip_norm=1.0, ema_decay=0.9)
    waits = Waits()

    class Count(pl.Callback):
        def on_train_batch_start(self, *_):
            waits.__enter__()

        def on_train_batch_end(self, *_):
            waits.__exit__(None, None, None)

    trainer = pl.Trainer(max_steps=4, callbacks=[Count()], **{**QUIET, "log_every_n_steps": 50})
    trainer.fit(module, loader(4), loader(1))
    assert module.skipped_total == 1
    assert waits.found == []


# -- optimisers and recomputation


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamax_is_torchs_and_leaves_out_what_is_found_bad(weight_decay):
    shapes = [(5, 7), (3,)]
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    reference = torch.optim.Adamax(theirs, lr=0.01, weight_decay=weight_decay)
    tried = Adamax(ours, lr=0.01, weight_decay=weight_decay)
    for bad in (True, False, False, True, False):
        gradients = [torch.randn(shape, generator=generator) for shape in shapes]
        for mine, other, gradient in zip(ours, theirs, gradients, strict=True):
            mine.grad, other.grad = gradient * (float("nan") if bad else 1.0), gradient
        tried.found_inf = torch.tensor(float(bad))
        tried.step()
        if not bad:
            reference.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
    tried.load_state_dict(reference.state_dict())
    tried.step()


def test_a_state_of_other_kernels_is_taken_up():
    parameter = nn.Parameter(torch.ones(3))
    plain = torch.optim.Adam([parameter], foreach=True)
    parameter.grad = torch.ones(3)
    plain.step()
    fused = torch.optim.Adam([parameter], fused=True)
    fused.load_state_dict(plain.state_dict())
    use_fused(fused)
    fused.found_inf = torch.zeros(())
    before = parameter.detach().clone()
    fused.step()
    assert (parameter < before).all()


class Recomputable(Noisy):
    """One block that draws inside, so that recomputation has to repeat the draw."""

    def __init__(self):
        super().__init__()
        self.block = Block()

    def recomputed_blocks(self):
        return [(self.block, "forward")]

    def pixels(self, z):
        return super().pixels(self.block(z))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)
        self.passes = 0

    def forward(self, z):
        self.passes += 1
        return torch.tanh(self.layer(z) * (1 + 0.1 * torch.rand_like(z)))


def test_recomputed_blocks_train_alike():
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        module = lit(Recomputable(), recompute=recompute)
        keys = module.state_dict().keys()
        fit(module, steps=3)
        assert module.state_dict().keys() == keys
        results.append((torch.cat([p.detach().flatten() for p in module.parameters()]), module.network.block.passes))
    assert torch.equal(results[0][0], results[1][0])
    assert results[1][1] == 2 * results[0][1] == 6


def test_a_network_without_blocks_is_told_so():
    with pytest.raises(UserError, match=r"model.recompute: Noisy names no blocks"):
        recompute_blocks(Noisy())
