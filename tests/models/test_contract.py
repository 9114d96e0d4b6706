"""Every model class keeps what `zoo.testing.check_model` asks; models that break a promise are found out."""

import pytest
import torch
from torch import nn

from tests.models.tiny import SPECS, tiny
from zoo.likelihood import Categorical, LikelihoodModel, LikelihoodTerms, Objective, from_levels, to_levels
from zoo.likelihood.noise import GLOBAL_NOISE
from zoo.models import MODULES
from zoo.testing import CheckFailed, check_model

NO_LIKELIHOOD = {"KLAutoencoder", "VQAutoencoder"}
"""First stages that price nothing."""


def test_every_class_of_the_zoo_has_a_tiny_model():
    assert {path for path, _ in SPECS.values()} == set(MODULES) - NO_LIKELIHOOD


@pytest.mark.parametrize("name", SPECS)
def test_contract(name):
    model = tiny(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    checked = check_model(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    wanted = {"declarations", "terms", "objective", "batches", "modes"}
    if model.priced == "pixels":
        wanted |= {"samples", "replay", "tables", "coded"}
        if "colour" not in name and name != "LatentVAE":
            wanted |= {"normalised"}
    assert wanted <= set(checked.passed), checked.skipped


class Table(LikelihoodModel):
    """One table for every level; each test breaks it in its own way."""

    kind = "exact"

    def __init__(self):
        super().__init__()
        self.bits, self.image_shape = 2, (1, 1, 3)
        self.logits = nn.Parameter(torch.randn(3, 4))
        self.scale = 1.0

    def distribution(self, n):
        return Categorical(self.logits.expand(n, 1, 1, 3, 4))

    def terms(self, x, label=None, noise=None):
        nats = -self.scale * self.distribution(len(x)).log_prob(to_levels(x, self.bits))
        return LikelihoodTerms(nats, {}, 3)

    def objective(self, x, label=None, step=0):
        return Objective(self.terms(x).nelbo.mean() / 3)

    def sample(self, n, temperature=1.0, label=None):
        return from_levels(self.distribution(n).sample(), self.bits)


def test_a_model_without_a_traversal_can_be_checked():
    checked = check_model(Table())
    assert {"normalised", "samples"} <= set(checked.passed)
    assert set(checked.skipped) == {"replay", "tables", "coded"}


@pytest.mark.parametrize("scale", [0.9, 1.1])
def test_a_density_that_is_no_distribution_is_named_in_one_line(scale):
    model = Table()
    model.scale = scale
    with pytest.raises(
        CheckFailed, match=r"^Table: the probabilities of all 64 images sum to \d\.\d+, not to 1[^\n]*$"
    ):
        check_model(model)


def test_a_bound_below_the_truth_is_none():
    model = Table()
    model.kind, model.scale = "bound", 0.5
    with pytest.raises(CheckFailed, match="above 1: it is no bound"):
        check_model(model)


class Company(Table):
    def terms(self, x, label=None, noise=None):
        terms = super().terms(x)
        return LikelihoodTerms(terms.distortion + 0.1 * len(x), {}, 3)


class Fickle(Table):
    def terms(self, x, label=None, noise=None):
        terms = super().terms(x)
        return LikelihoodTerms(terms.distortion + torch.rand(len(x)), {}, 3)


class Learning(Table):
    def terms(self, x, label=None, noise=None):
        with torch.no_grad():
            self.logits.add_(0.1)
        return super().terms(x)


class Deep(Table):
    def sample(self, n, temperature=1.0, label=None):
        return super().sample(n) + 1


class Quiet(Table):
    def terms(self, x, label=None):
        return super().terms(x)


def test_a_model_that_draws_nothing_may_leave_noise_out():
    assert "normalised" in check_model(Quiet()).passed


class Dequantised(Table):
    """A continuous density over values that stand for levels: a bound, if it draws from the noise it is given."""

    kind = "bound"

    def terms(self, x, label=None, noise=None):
        value = to_levels(x, self.bits).float()
        value = value + (GLOBAL_NOISE if noise is None else noise).uniform("dequantise", value)
        law = torch.distributions.Normal(2.0, 1.0)
        return LikelihoodTerms(-law.log_prob(value).flatten(1).sum(1), {}, 3)

    def objective(self, x, label=None, step=0):
        return Objective(self.terms(x).nelbo.mean() + self.logits.sum())


def test_a_dequantised_density_is_a_bound_and_no_exact_likelihood():
    assert "normalised" in check_model(Dequantised()).passed
    claimed = Dequantised()
    claimed.kind = "exact"
    with pytest.raises(CheckFailed, match="it is no distribution"):
        check_model(claimed)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Company, "nats alone and"),
        (Fickle, "draw from `noise` only"),
        (Learning, "pricing changes logits"),
        (Deep, "deeper than its 2 bits"),
    ],
)
def test_broken_promises_are_named(model, message):
    with pytest.raises(CheckFailed, match=message):
        check_model(model())


def test_what_is_no_model_is_refused():
    with pytest.raises(CheckFailed, match="derive from it"):
        check_model(nn.Linear(2, 2))
