"""The vocabulary of the zoo: levels, terms, distributions, sites, policies, models.

Reading order: `terms`, `levels`, `latents`, `model`, `visit`, then the distributions.
"""

from zoo.likelihood.bernoulli import Bernoulli
from zoo.likelihood.categorical import Categorical
from zoo.likelihood.first_stage import FirstStage, FirstStagePass
from zoo.likelihood.gaussian import DiagonalGaussian
from zoo.likelihood.latents import (
    Given,
    ImportanceSample,
    LatentPolicy,
    LatentSite,
    PointMass,
    PosteriorThenPrior,
    Recording,
    Remembering,
    Replay,
    SamplePosterior,
    SamplePrior,
    Split,
    importance_weighted,
    per_image,
    site_kl,
)
from zoo.likelihood.levels import Bins, check_bits, from_levels, half_bin, level_values, to_levels
from zoo.likelihood.mixture import LogisticMixture
from zoo.likelihood.model import AncestralModel, LikelihoodModel, PixelDistribution, Progress
from zoo.likelihood.noise import ImageNoise, Noise
from zoo.likelihood.terms import LikelihoodTerms, Objective, Priced, nats_to_bits_per_dim
from zoo.likelihood.visit import Choose, Index, Known, Law, Table, as_law, draw

__all__ = [
    "AncestralModel",
    "Bernoulli",
    "Bins",
    "Categorical",
    "Choose",
    "DiagonalGaussian",
    "FirstStage",
    "FirstStagePass",
    "Given",
    "ImageNoise",
    "ImportanceSample",
    "Index",
    "Known",
    "LatentPolicy",
    "LatentSite",
    "Law",
    "LikelihoodModel",
    "LikelihoodTerms",
    "LogisticMixture",
    "Noise",
    "Objective",
    "PixelDistribution",
    "PointMass",
    "PosteriorThenPrior",
    "Priced",
    "Progress",
    "Recording",
    "Remembering",
    "Replay",
    "SamplePosterior",
    "SamplePrior",
    "Split",
    "Table",
    "as_law",
    "check_bits",
    "draw",
    "from_levels",
    "half_bin",
    "importance_weighted",
    "level_values",
    "nats_to_bits_per_dim",
    "per_image",
    "site_kl",
    "to_levels",
]
