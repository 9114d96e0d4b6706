"""Metrics against recorded values of established implementations."""

import numpy as np
import pytest
import torch

from tests.vectors.cases import cases
from zoo.benchmarks.measures.metrics import (
    frechet_distance,
    inception_score,
    kernel_distance,
    mse,
    precision_recall,
    psnr,
    ssim,
)
from zoo.training import perceptual

metric_cases = pytest.mark.parametrize("path", cases("metrics", "*.npz"))


def arrays_of(path):
    return {key: torch.from_numpy(value) for key, value in np.load(path).items()}


@metric_cases
def test_sample_metrics_match_recorded_values(path):
    arrays = arrays_of(path)
    real, fake = arrays["real_features"], arrays["fake_features"]
    for key in [key for key in arrays if key.startswith("precision_k")]:
        k = int(key.removeprefix("precision_k"))
        precision, recall = precision_recall(real, fake, k, chunk=37)
        assert precision == pytest.approx(float(arrays[key]), abs=1e-12)
        assert recall == pytest.approx(float(arrays[f"recall_k{k}"]), abs=1e-12)
    assert frechet_distance(real, fake) == pytest.approx(float(arrays["fid"]), rel=1e-8)
    few = frechet_distance(real[:10], fake[:12])
    assert few == pytest.approx(float(arrays["fid_first10real_first12fake"]), rel=1e-6)
    assert kernel_distance(real, fake) == pytest.approx(float(arrays["kid_full"]), rel=1e-9)


@metric_cases
def test_inception_score_matches_recorded_values(path):
    arrays = arrays_of(path)
    logits = arrays["logits"]
    assert inception_score(logits) == pytest.approx(float(arrays["inception_score_1split"]), rel=1e-9)
    mean = float(arrays["inception_score_mean_of_splits_of_100"])
    assert inception_score(logits, split_size=100) == pytest.approx(mean, rel=1e-9)
    each = [inception_score(part) for part in logits.split(100)]
    np.testing.assert_allclose(each, arrays["inception_score_splits_of_100_in_order"], rtol=1e-9)


@metric_cases
def test_image_metrics_match_recorded_values(path):
    arrays = arrays_of(path)
    a, b = arrays["img_a"], arrays["img_b"]
    torch.testing.assert_close(mse(a, b), arrays["mse01_per_image"], rtol=1e-6, atol=0)
    torch.testing.assert_close(psnr(a, b), arrays["psnr_per_image"], rtol=1e-6, atol=0)
    pooled = -10 * torch.log10(mse(a, b).mean())
    torch.testing.assert_close(pooled, arrays["psnr_pooled"], rtol=1e-6, atol=0)
    torch.testing.assert_close(ssim(a, b), arrays["ssim_valid_gaussian11_per_image"], rtol=1e-6, atol=1e-7)


@metric_cases
@pytest.mark.skipif(not perceptual.available(), reason="perceptual weights are not installed")
@pytest.mark.parametrize(("backbone", "key"), [("vgg16", "lpips_vgg_per_image"), ("alexnet", "lpips_alex_per_image")])
def test_lpips_matches_recorded_values(path, backbone, key):
    arrays = arrays_of(path)
    a, b = (arrays[name].float() / 127.5 - 1 for name in ("img_a", "img_b"))
    with torch.no_grad():
        torch.testing.assert_close(perceptual.LPIPS(backbone)(a, b).double(), arrays[key], rtol=1e-4, atol=1e-6)
