"""Quality of samples and reconstructions: distances of feature distributions, precision and recall, image distances."""

from zoo.benchmarks.measures.metrics.classifier import Classifier, classification_accuracy
from zoo.benchmarks.measures.metrics.features import Extractor, load_extractor
from zoo.benchmarks.measures.metrics.images import mse, psnr, ssim
from zoo.benchmarks.measures.metrics.samples import (
    FrechetDistance,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)

__all__ = [
    "Classifier",
    "Extractor",
    "FrechetDistance",
    "classification_accuracy",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "load_extractor",
    "mse",
    "precision_recall",
    "psnr",
    "ssim",
]
