"""`check_model`: does a model keep the promises that trainers, the evaluator, the codec and the tables rely on?

It is what the zoo's own models are tested with, and works for a model in a file of yours. Give it a tiny model: two or
three levels of two or four pixels can be enumerated, and only then is it seen whether all images together have the
probability one.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from zoo.codec import measure
from zoo.errors import UserError
from zoo.likelihood import (
    AncestralModel,
    DiagonalGaussian,
    Given,
    ImageNoise,
    Index,
    Known,
    Law,
    LikelihoodModel,
    LikelihoodTerms,
    PixelDistribution,
    Recording,
    SamplePosterior,
    as_law,
    from_levels,
    to_levels,
)
from zoo.likelihood.latents import gaussian_free
from zoo.passed import note_passed

MOST_IMAGES = 1 << 12
"""Enumerate all images of a model if there are no more than these."""
DRAWS = 16
"""Draws of the noise over which a bound is averaged."""


class CheckFailed(UserError):  # noqa: N818 (what pytest prints)
    """A model breaks a promise; the message says which, with the numbers."""


@dataclass
class Checked:
    """What `check_model` found.

    Attributes:
        passed: names of the checks that were made, in order.
        skipped: name of a check that could not be made -> why.
    """

    passed: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def check_model(model: LikelihoodModel, images: int = 4, seed: int = 0, tolerance: float = 1e-3) -> Checked:
    """Hold a model against everything it declares.

    Args:
        model: any model, best a tiny one; it is left as it was.
        images: how many random images most checks use.
        seed: of images and noise.
        tolerance: relative, of numbers that are computed in two ways.

    Returns:
        Which checks were made and which could not be. A class whose probabilities were seen to sum to one is noted, so
        that its numbers need no mark on the board.

    Raises:
        CheckFailed: a promise is broken: one line that says which.

    Example:
        >>> from zoo.models.pixelsnail import PixelSNAIL, SnailConfig
        >>> small = SnailConfig(channels=8, residual_channels=4, blocks=1, layers_per_block=1, heads=1)
        >>> "normalised" in check_model(PixelSNAIL([1, 2, 2], bits=1, trunk=small)).passed
        True
    """
    if not isinstance(model, LikelihoodModel):
        raise CheckFailed(f"{type(model).__name__}: is no zoo.likelihood.LikelihoodModel; derive from it")
    checked, check = Checked(), _Check(copy.deepcopy(model).eval(), images, seed, tolerance)
    with _repeatable(seed):
        for name in ("declarations", "terms", "objective", "samples", "modes", "batches", "replay", "tables"):
            _run(checked, name, getattr(check, name))
        _run(checked, "normalised", check.normalised)
        _run(checked, "coded", check.coded)
    if "normalised" in checked.passed:
        note_passed(type(model))
    return checked


class _Skip(Exception):  # noqa: N818 (no error)
    """Why a check cannot be made."""


def _run(checked: Checked, name: str, check: Callable[[], None]) -> None:
    try:
        check()
    except _Skip as reason:
        checked.skipped[name] = str(reason)
    else:
        checked.passed.append(name)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


class _Check:
    """The checks, one method each."""

    def __init__(self, model: LikelihoodModel, images: int, seed: int, tolerance: float) -> None:
        self.model, self.seed, self.tolerance = model, seed, tolerance
        self.name = type(model).__name__
        self.device = next(iter(model.parameters()), torch.zeros(())).device
        generator = torch.Generator().manual_seed(seed)
        self.x = model.example(images, generator).to(self.device)

    def fail(self, what: str) -> CheckFailed:
        return CheckFailed(f"{self.name}: {what}")

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            raise self.fail(what)

    def price(self, x: Tensor, number: int = 0, indices: Tensor | None = None) -> LikelihoodTerms:
        """Terms with the noise of the images."""
        noise = ImageNoise(self.seed, number, torch.arange(len(x)) if indices is None else indices)
        with torch.no_grad():
            return self.model.terms(x, noise=noise)

    def close(self, a: Tensor, b: Tensor) -> bool:
        return torch.allclose(a.double(), b.double(), rtol=self.tolerance, atol=self.tolerance)

    # -- what a model says and gives ----------------------------------------------------------------------------------

    def declarations(self) -> None:
        """What it declares has a meaning."""
        model = self.model
        self.expect(model.bits in range(1, 9), f"bits={model.bits}: expected 1 to 8")
        self.expect(len(model.image_shape) == 3, f"image_shape={model.image_shape}: expected (C, H, W)")
        self.expect(model.kind in ("exact", "bound"), f"kind={model.kind!r}: expected 'exact' or 'bound'")
        self.expect(model.priced in ("pixels", "codes"), f"priced={model.priced!r}: expected 'pixels' or 'codes'")
        names = model.estimators()
        self.expect(
            not names or model.default_estimator in ("", *names),
            f"default_estimator={model.default_estimator!r} is none of its estimators {sorted(names)}",
        )

    def terms(self) -> None:
        """One finite number for each image and group, the same groups every time."""
        found, again = self.price(self.x), self.price(self.x, 1)
        for what, value in (("distortion", found.distortion), *found.rates.items()):
            self.expect(value.shape == (len(self.x),), f"{what} has shape {tuple(value.shape)}, expected one an image")
            self.expect(bool(torch.isfinite(value).all()), f"{what} is not finite on random images")
            self.expect(value.dtype in (torch.float32, torch.float64), f"{what} is {value.dtype}, expected float32")
        self.expect(list(found.rates) == list(again.rates), "the groups of its rates change from call to call")
        self.expect(found.priced == self.model.priced, f"terms price {found.priced}, it declares {self.model.priced}")
        if found.priced == "pixels":
            dims = math.prod(self.model.image_shape)
            self.expect(found.num_dims == dims, f"num_dims is {found.num_dims}, an image has {dims} dimensions")

    def objective(self) -> None:
        """A scalar that trains something, whether the step is a number or a tensor."""
        model = copy.deepcopy(self.model).train()
        for step in (0, torch.tensor(3, device=self.device)):
            loss = model.objective(self.x, step=step).loss
            self.expect(loss.ndim == 0, f"the loss has shape {tuple(loss.shape)}, expected a scalar")
            self.expect(bool(torch.isfinite(loss.detach())), f"the loss is {float(loss.detach())} on random images")
        if loss.requires_grad:
            loss.backward()
            moved = any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
            self.expect(moved, "the loss has no gradient in any parameter")
        self.expect(not any(p.requires_grad for p in model.parameters()) or loss.requires_grad, "the loss is constant")

    def samples(self) -> None:
        """Images on the levels it prices, which it can price."""
        if self.model.priced == "codes":
            raise _Skip("it prices codes")
        with torch.no_grad():
            drawn = self.model.sample(2)
        expected = (2, *self.model.image_shape)
        self.expect(tuple(drawn.shape) == expected, f"samples have shape {tuple(drawn.shape)}, expected {expected}")
        self.expect(drawn.dtype == torch.uint8, f"samples are {drawn.dtype}, expected uint8")
        levels = from_levels(to_levels(drawn, self.model.bits), self.model.bits)
        self.expect(torch.equal(levels, drawn), f"samples are deeper than its {self.model.bits} bits")
        self.expect(bool(torch.isfinite(self.price(drawn).nelbo).all()), "its own samples have no finite price")

    def batches(self) -> None:
        """An image costs the same alone and in company, in any order."""
        together = self.price(self.x).nelbo
        order = torch.arange(len(self.x) - 1, -1, -1)
        turned = self.price(self.x[order], indices=order).nelbo
        self.expect(self.close(turned, together[order]), "the price of an image depends on the order of its batch")
        for row in range(len(self.x)):
            alone = self.price(self.x[row : row + 1], indices=torch.tensor([row])).nelbo
            self.expect(
                self.close(alone, together[row : row + 1]),
                f"an image costs {float(alone[0]):.4f} nats alone and {float(together[row]):.4f} in a batch",
            )

    def modes(self) -> None:
        """Pricing changes nothing, and training mode means dropout, moving statistics and the like only."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        first, second = self.price(self.x).nelbo, self.price(self.x).nelbo
        changed = [name for name, value in self.model.state_dict().items() if not torch.equal(value, before[name])]
        self.expect(not changed, f"pricing changes {', '.join(changed[:3])}")
        self.expect(torch.equal(first, second), "the price differs for the same noise; draw from `noise` only")
        self.model.train()
        trained, again = self.price(self.x).nelbo, self.price(self.x).nelbo
        moved = any(not torch.equal(value, before[name]) for name, value in self.model.state_dict().items())
        self.model.eval()
        self.model.load_state_dict(before)
        if not moved and torch.equal(trained, again):  # neither dropout nor moving statistics
            self.expect(self.close(trained, first), "the price differs in training mode, without dropout or the like")

    # -- probabilities ------------------------------------------------------------------------------------------------

    def _ancestral(self) -> AncestralModel:
        if not isinstance(self.model, AncestralModel) or self.model.priced != "pixels":
            raise _Skip("it has no ancestral pass over pixels")
        return self.model

    def _pass(self) -> tuple[Recording, PixelDistribution, Tensor]:
        """A pass over the images, its pixel distribution and the levels."""
        model, recording = self._ancestral(), Recording(SamplePosterior())
        with torch.no_grad():
            pixels = model.ancestral_pass(recording, self.x, len(self.x))
        return recording, pixels, to_levels(self.x, model.bits)

    def replay(self) -> None:
        """The latents alone give the pixel distribution of the pass that drew them."""
        recording, pixels, levels = self._pass()
        with torch.no_grad():
            again = self._ancestral().ancestral_pass(Given(recording.latents), n=len(self.x))
            seen, known = pixels.log_prob(levels), again.log_prob(levels)
        self.expect(self.close(seen, known), "the pixel distribution depends on more of the image than the latents")
        names = [site.name for site in recording.sites]
        self.expect(len(set(names)) == len(names), f"two sites have one name: {names}")
        self.expect(
            [site.index for site in recording.sites] == [*range(len(names))], "sites are not numbered from the top"
        )

    def tables(self) -> None:
        """Every table of the coding seam sums to one, and together they are the log-probability."""
        if self.model.bins != "normalised":
            raise _Skip(f"bins {self.model.bins!r} are no code")
        recording, pixels, levels = self._pass()
        self._visited(pixels, levels, "pixels")
        for site, z in zip(recording.sites, recording.latents, strict=True):
            if not isinstance(site.prior, DiagonalGaussian):
                self._visited(gaussian_free(site.prior), z, f"site {site.name}")

    def _visited(self, distribution: object, symbols: Tensor, what: str) -> None:
        sums: list[Tensor] = []
        gaps = [0.0]

        class Watched(Known):
            def __call__(self, index: Index, law: Law | Tensor) -> Tensor:
                law = as_law(law)
                probs = law.probs()
                sums.append(probs.sum(-1).flatten())
                edges = torch.arange(1, law.levels, device=probs.device)
                edges = edges.reshape(-1, *(1 for _ in law.shape)).expand(-1, *law.shape)
                if len(edges):
                    below = law.below(edges).movedim(0, -1)
                    gaps.append(float((below - probs.cumsum(-1)[..., :-1]).abs().max()))
                return super().__call__(index, law)

        known = Watched(symbols)
        with torch.no_grad():
            distribution.visit(known)  # type: ignore[attr-defined]
            log_prob = distribution.log_prob(symbols)  # type: ignore[attr-defined]
        total = torch.cat(sums)
        worst = float(total[(total - 1).abs().argmax()])
        self.expect(abs(worst - 1) < 1e-5, f"{what}: a table of probabilities sums to {worst:.6f}")
        self.expect(max(gaps) < 1e-4, f"{what}: a law's `below` is {max(gaps):.6f} off the sums of its `probs`")
        self.expect(
            self.close(known.nats, -log_prob),
            f"{what}: the tables cost {float(known.nats[0]):.4f} nats, log_prob says {float(-log_prob[0]):.4f}",
        )

    def normalised(self) -> None:
        """All images together have probability one; under a bound no more than that."""
        model, dims = self.model, math.prod(self.model.image_shape)
        if model.priced != "pixels":
            raise _Skip("it prices codes")
        if model.bins != "normalised":
            raise _Skip(f"bins {model.bins!r} are known not to sum to one")
        count = 2 ** (model.bits * dims)
        if count > MOST_IMAGES:
            raise _Skip(f"{dims} dimensions of {model.bits} bits are too many images; check a smaller one as well")
        every = torch.tensor(list(itertools.product(range(2**model.bits), repeat=dims)), device=self.device)
        x = from_levels(every.reshape(-1, *model.image_shape), model.bits)
        draws = 1 if model.kind == "exact" else DRAWS
        nats = torch.stack([self.price(x, number).nelbo.double() for number in range(draws)])  # (draws, images)
        mass = float((-nats.mean(0)).exp().sum())
        if model.kind == "exact":
            self.expect(
                abs(mass - 1) < 10 * self.tolerance,
                f"the probabilities of all {count} images sum to {mass:.4f}, not to 1: it is no distribution",
            )
            return
        slack = 10 * self.tolerance
        if draws > 1:  # the mean over draws is off by its standard error, which can only matter upwards
            error = nats.std(0) / math.sqrt(draws)
            slack += 5 * float(((-nats.mean(0)).exp() * error).square().sum().sqrt())
        self.expect(mass < 1 + slack, f"the bounds of all {count} images sum to {mass:.4f}, above 1: it is no bound")

    def coded(self) -> None:
        """Files decode to the very images and are as long as the terms say."""
        model = self._ancestral()
        if model.bins != "normalised":
            raise _Skip(f"bins {model.bins!r} are no code")
        found = measure(model, bytes(12), self.x)
        self.expect(found.exact, "a decoded image differs from the original")
        dims = found.report.dims
        net, bound = found.report.net * dims, found.report.bound * dims
        self.expect(
            abs(net - bound) < 96 + 0.02 * abs(bound), f"files take {net:.0f} bits, the coded latents say {bound:.0f}"
        )
        if model.steps is not None:
            return  # the estimate is that of another number of steps
        levels = from_levels(to_levels(self.x, model.bits), model.bits)
        prices = torch.stack([self.price(levels, number).nelbo.double().sum() for number in range(DRAWS)]) / math.log(2)
        mean, spread = float(prices.mean()), float(prices.std())
        self.expect(
            abs(bound - mean) < 96 + 0.02 * abs(mean) + 6 * spread, f"files take {bound:.0f} bits, terms say {mean:.0f}"
        )
