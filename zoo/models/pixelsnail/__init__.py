"""PixelSNAIL: causal gated convolutions with attention, over codes and over pixels."""

from zoo.models.pixelsnail.codes import AutoregressiveCodes, CodePrior
from zoo.models.pixelsnail.incremental import SnailStepper
from zoo.models.pixelsnail.pixels import AutoregressivePixels, CausalPixels, PixelSNAIL
from zoo.models.pixelsnail.trunk import SnailConfig, SnailTrunk

__all__ = [
    "AutoregressiveCodes",
    "AutoregressivePixels",
    "CausalPixels",
    "CodePrior",
    "PixelSNAIL",
    "SnailConfig",
    "SnailStepper",
    "SnailTrunk",
]
