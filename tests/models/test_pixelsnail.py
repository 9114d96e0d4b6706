"""PixelSNAIL: causal for every option, cached walk equal to the full pass, normalised, decodable, fast."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from zoo.errors import UserError
from zoo.likelihood import Known, Law, SamplePrior, from_levels, to_levels
from zoo.models.pixelsnail import CodePrior, PixelSNAIL, SnailConfig
from zoo.models.pixelsnail.trunk import VARIANTS
from zoo.training.recomputation import recompute_blocks

TINY = SnailConfig(channels=16, residual_channels=8, blocks=2, layers_per_block=2, heads=2, kernel_size=3, gate_gain=1)
OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {"output_layers": 1},
    "public": {"variant": "public"},
    "public-inplace": {"variant": "public-inplace"},
    "chen": {"variant": "chen", "key_channels": 4, "value_channels": 8, "heads": 1},
    "last-attention": {"attention": "last", "kernel_size": 5},
    "no-attention": {"attention": "none", "kernel_size": 5, "variant": "public"},
    "no-attention-chen": {"attention": "none", "variant": "chen"},
}


def prior(options: str, conditional: bool = False, **more: Any) -> CodePrior:
    config = replace(TINY, **OPTIONS[options])
    grids = [[2, 3], [4, 6]] if conditional else [[4, 5]]
    network = CodePrior(grids, [5, 7][-len(grids) :], config, condition_layers=1, classes=3, **more)
    return network.double().eval()


class Relaxed(torch.nn.Module):
    """The input layer of codes on real-valued one-hot planes, so that gradients with respect to codes exist."""

    def __init__(self, inputs: torch.nn.Module) -> None:
        super().__init__()
        self.inputs = inputs

    def embed(self, planes: torch.Tensor) -> torch.Tensor | None:
        table = self.inputs.embedding
        return None if table is None else torch.einsum("bkhw,ke->behw", planes, table.weight)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        r = self.inputs.radius
        above = F.conv2d(F.pad(planes[:, :, :-1], (r, r, r, 0)), self.inputs.horizontal.weight())
        left = F.conv2d(F.pad(planes[:, :, :, :-1], (r, 0, r, 0)), self.inputs.vertical.weight())
        return above + left + self.inputs.edges(*planes.shape[2:])


def dependence(outputs: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """(P, P) largest gradient of the outputs at each position with respect to the inputs at each position."""
    weights = torch.randn(outputs.shape[1], dtype=outputs.dtype)
    mixed = (outputs * weights[:, None, None]).sum(1).flatten()
    rows = [torch.autograd.grad(value, inputs, retain_graph=True)[0].abs().amax((0, 1)).flatten() for value in mixed]
    return torch.stack(rows)


@pytest.mark.parametrize("conditional", [False, True], ids=["alone", "conditioned"])
@pytest.mark.parametrize("options", OPTIONS)
def test_no_code_logit_depends_on_its_own_or_a_later_code(options: str, conditional: bool) -> None:
    network = prior(options, conditional)
    codes = torch.randint(network.num_codes, (1, *network.grid))
    upper = [torch.randint(5, (1, 2, 3))] if conditional else []
    expected = network.logits(codes, upper)
    planes = F.one_hot(codes, network.num_codes).movedim(-1, 1).double().requires_grad_()
    network.trunk.inputs = Relaxed(network.trunk.inputs)
    logits = network.trunk(planes, network.condition(upper))
    torch.testing.assert_close(logits, expected)
    gradient = dependence(logits, planes)
    assert gradient.triu().eq(0).all()
    if network.trunk.config.attention != "none" and network.trunk.config.rules.key_content == "symbols":
        earlier = torch.ones_like(gradient).tril(-1).bool()
        assert gradient[earlier].gt(0).all(), "an earlier code is invisible"


@pytest.mark.parametrize("options", OPTIONS)
def test_no_pixel_parameter_depends_on_its_own_or_a_later_pixel(options: str) -> None:
    network = PixelSNAIL([3, 4, 5], 5, replace(TINY, **OPTIONS[options]), mixtures=2).double().eval()
    values = (torch.rand(1, 3, 4, 5).double() * 2 - 1).requires_grad_()
    assert dependence(network.trunk(values), values).triu().eq(0).all()


@pytest.mark.parametrize("conditional", [False, True], ids=["alone", "conditioned"])
@pytest.mark.parametrize("options", OPTIONS)
def test_cached_walk_gives_the_logits_of_the_full_pass(options: str, conditional: bool) -> None:
    network = prior(options, conditional)
    height, width = network.grid
    codes = torch.randint(network.num_codes, (3, height, width))
    upper = [torch.randint(5, (3, 2, 3))] if conditional else []
    label = torch.tensor([0, 2, -1])
    with torch.no_grad():
        expected = network.logits(codes, upper, label)
        stepper = network.stepper(3, upper, label)
        for row, column in itertools.product(range(height), range(width)):
            torch.testing.assert_close(stepper.at(row, column), expected[:, :, row, column], rtol=0, atol=1e-10)
            stepper.store(row, column, codes[:, row, column])


@pytest.mark.parametrize("bits", [5, 8])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", ["paper", "chen"])
def test_walk_over_pixels_costs_what_the_parallel_pass_says(bits: int, channels: int, options: str) -> None:
    network = PixelSNAIL([channels, 4, 3], bits, replace(TINY, **OPTIONS[options]), mixtures=2, classes=2).eval()
    x = torch.randint(0, 256, (2, channels, 4, 3), dtype=torch.uint8)
    label = torch.tensor([1, -1])
    known = Known(to_levels(x, bits))
    walked = network.ancestral_pass(SamplePrior(), x, label=label).visit(known)
    assert torch.equal(walked, known.symbols)
    torch.testing.assert_close(known.nats.float(), network.terms(x, label).nelbo.detach(), rtol=1e-4, atol=1e-3)


def test_decoder_meets_the_very_tables_of_the_encoder() -> None:
    network = PixelSNAIL([3, 4, 4], 8, TINY, mixtures=2).eval()
    pixels = network.ancestral_pass(SamplePrior(), n=2)
    tables: list[torch.Tensor] = []

    def encode(index: tuple, law: Law) -> torch.Tensor:
        tables.append(law.probs().clone())
        return levels[index]

    levels = pixels.sample()
    pixels.visit(encode)
    expected = iter(tables)

    def decode(index: tuple, law: Law) -> torch.Tensor:
        assert torch.equal(law.probs(), next(expected))
        return levels[index]

    assert torch.equal(pixels.visit(decode), levels)


def test_probabilities_of_all_images_sum_to_one() -> None:
    network = PixelSNAIL([1, 2, 2], 2, TINY, mixtures=2).eval()
    images = torch.tensor(list(itertools.product(range(4), repeat=4))).view(-1, 1, 2, 2)
    log_prob = -network.terms(from_levels(images, 2)).nelbo
    torch.testing.assert_close(log_prob.exp().sum(), torch.tensor(1.0), rtol=1e-4, atol=0)


def test_labels_matter_and_minus_one_means_none() -> None:
    network = prior("paper")
    codes = torch.randint(network.num_codes, (1, *network.grid))
    with torch.no_grad():
        none, first, second = (network.logits(codes, [], torch.tensor([y])) for y in (-1, 0, 1))
        assert torch.equal(none, network.logits(codes))
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, none)


def test_temperature_zero_takes_the_likeliest_code() -> None:
    network = prior("paper")
    torch.nn.init.normal_(network.trunk.final.bias)  # no ties
    drawn = network.distribution(2).scaled(0.0).sample()
    likeliest = network.distribution(2).visit(lambda _, law: law.probs().argmax(-1))
    assert torch.equal(drawn, likeliest)


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_acts_in_training_alone(variant: Any) -> None:
    network = PixelSNAIL([3, 4, 4], 8, replace(TINY, dropout=0.5, variant=variant)).eval()
    x = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(network.terms(x).nelbo, network.terms(x).nelbo)
    network.train()
    assert not torch.equal(network.terms(x).nelbo, network.terms(x).nelbo)


def test_recomputed_activations_give_the_same_gradients() -> None:
    x = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = PixelSNAIL([3, 4, 4], 8, replace(TINY, dropout=0.5)).train()
        if recompute:
            recompute_blocks(network)
        torch.manual_seed(1)
        network.objective(x).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    torch.testing.assert_close(*gradients)


def test_cached_walk_costs_about_one_pass_at_any_size() -> None:
    """Recomputing the grid for every code would cost as many passes as there are codes, 16 and 256 here."""

    def passes(side: int) -> float:
        network = CodePrior([[side, side]], [7], replace(TINY, blocks=1, heads=2)).eval()
        counts = []
        for work in (
            lambda: network.logits(torch.zeros(1, side, side, dtype=torch.long)),
            network.distribution().sample,
        ):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                work()
            counts.append(counter.get_total_flops())
        return counts[1] / counts[0]

    assert passes(4) < 3
    assert passes(16) < 3


def test_drawn_codes_are_shown_as_pictures() -> None:
    network = prior("paper").float()
    torch.manual_seed(0)
    shown = network.sample(3)
    torch.manual_seed(0)
    codes = network.distribution(3).sample()
    assert shown.dtype == torch.uint8
    assert shown.shape == (3, *network.image_shape)
    assert torch.equal(shown[:, 0] // (255 // 6), codes)  # seven codes, shades 0, 42, ... 255
    with pytest.raises(UserError, match="whole model"):
        prior("paper", conditional=True).sample(1)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(UserError, match="odd"):
        SnailConfig(kernel_size=4)
    with pytest.raises(UserError, match="multiples of heads"):
        SnailConfig(channels=20, heads=8)
    with pytest.raises(UserError, match="same levels"):
        CodePrior([[2, 2]], [3, 3], TINY)
    with pytest.raises(UserError, match="chen"):
        SnailConfig(variant="chn")  # type: ignore[arg-type]
