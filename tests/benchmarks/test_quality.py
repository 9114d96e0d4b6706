"""Sample quality: properties of the metrics, feature networks, and the table that measures."""

import numpy as np
import pytest
import torch
from torch import nn

from zoo.benchmarks import records
from zoo.benchmarks.measures import metrics, quality
from zoo.benchmarks.measures.metrics import classifier, features
from zoo.benchmarks.measures.sampling import seconds_per_thousand
from zoo.benchmarks.records.references import load as load_references
from zoo.benchmarks.render import render
from zoo.benchmarks.tables import find
from zoo.errors import UserError
from zoo.models.latent_vae import HierarchicalVAE, KLAutoencoder, LatentVAE, PixelSpace


def pictures(n, seed=0, side=16, channels=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, side, side), generator=generator, dtype=torch.uint8)


def test_distances_of_a_set_to_itself_are_zero():
    x = torch.randn(60, 5)
    assert metrics.frechet_distance(x, x) == pytest.approx(0.0, abs=1e-6)
    assert metrics.precision_recall(x, x) == (1.0, 1.0)


def test_frechet_distance_has_its_known_bias_at_equal_gaussians():
    d, n = 12, 500
    values = [metrics.frechet_distance(torch.randn(n, d), torch.randn(n, d)) for _ in range(4)]
    assert np.mean(values) == pytest.approx((2 * d + d * (d + 1) / 2) / n, rel=0.2)


def test_frechet_distance_of_shifted_features_is_the_squared_shift():
    x = torch.randn(400, 4, dtype=torch.float64)
    assert metrics.frechet_distance(x, x + 2.0) == pytest.approx(4 * 2.0**2, rel=1e-6)


def test_batches_of_any_size_give_the_same_distance():
    real, fake = torch.randn(50, 4), torch.randn(40, 4) + 1
    in_parts = metrics.FrechetDistance(4)
    for part in real.split(7):
        in_parts.update(part, real=True)
    for part in fake.split(13):
        in_parts.update(part, real=False)
    assert in_parts.compute() == pytest.approx(metrics.frechet_distance(real, fake), rel=1e-9)


def test_precision_falls_with_wild_samples_and_recall_with_few_modes():
    real = torch.randn(200, 3)
    precision, recall = metrics.precision_recall(real, 20 * torch.randn(200, 3))
    assert precision < 0.2
    precision, recall = metrics.precision_recall(real, 0.01 * torch.randn(200, 3))
    assert precision > 0.9
    assert recall < 0.2


def test_inception_score_lies_between_one_and_the_number_of_classes():
    certain = torch.eye(5).repeat(10, 1) * 50
    assert metrics.inception_score(certain) == pytest.approx(5.0, rel=1e-6)
    assert metrics.inception_score(torch.zeros(50, 5)) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["pixels", "digits"])
def test_feature_networks_take_any_colour_and_stay_in_eval_mode(name):
    network = features.load_extractor(name)
    network.train()
    assert not network.training
    for channels in (1, 3):
        assert network(pictures(2, side=20, channels=channels)).shape == (2, network.num_features)


def test_digits_network_was_trained_on_real_digits():
    from safetensors import safe_open

    with safe_open(str(features.DIGITS), framework="pt") as file:
        assert float(file.metadata()["top1"]) > 98.0
    assert features.DIGITS.stat().st_size < 200_000


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_torchscript_file_serves_as_feature_network(tmp_path):
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(dim=(2, 3))

    path = tmp_path / "mean.pt"
    torch.jit.trace(Mean(), torch.zeros(1, 3, 8, 8)).save(str(path))
    network = features.load_extractor(str(path))
    assert network.name == "mean"
    assert network(pictures(2)).shape == (2, 3)
    assert quality.distance_names(network)[0] == "fd_mean"


@pytest.mark.parametrize(("name", "word"), [("incepton", "inception"), ("missing.pt", "no such file")])
def test_unknown_feature_networks_are_refused(name, word):
    with pytest.raises(UserError, match=word):
        features.load_extractor(name)


def test_without_a_way_to_the_weights_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(features, "INCEPTION_URL", (tmp_path / "absent.pt").as_uri())
    with pytest.raises(UserError, match="--extractor vgg16"):
        features.load_extractor("inception")
    assert not list(tmp_path.rglob("*.pt"))


def test_classification_accuracy_is_high_for_classes_that_samples_show():
    torch.manual_seed(0)
    labels = torch.arange(2).repeat(60)
    x = (pictures(120, side=8) // 4) + (labels[:, None, None, None] * 150).to(torch.uint8)
    network = classifier.Classifier(2, blocks=(1,), width=4)
    score = classifier.classification_accuracy(network, (x[:80], labels[:80]), (x[80:], labels[80:]), 8, 16, lr=0.03)
    assert score["top1"] > 95


def tiny_model():
    hierarchy = HierarchicalVAE(16, 3, 4, [1] * 4, [1] * 4, [1] * 4, [1] * 4, [0] * 4, [0] * 4, latent_channels=2)
    return LatentVAE(PixelSpace(), hierarchy, 16)


def test_measuring_a_model_gives_a_line_that_can_be_stored_and_shown(tmp_path):
    model = tiny_model()
    real = quality.Images(pictures(24), torch.full((24,), -1))
    fake = quality.drawn_images(model, real.labels, 8, seed=0)
    line = quality.score("tiny", model, real, fake, features.load_extractor("pixels"), {"dataset": "noise"})
    assert {"fd_pixels", "rfd_pixels", "fd_pixels_star", "precision", "recall", "psnr", "ssim"} <= line.values.keys()
    records.append(tmp_path / "quality.jsonl", line)
    table = find("quality")(records.read(tmp_path / "quality.jsonl"), load_references())
    text = render(table, "markdown")
    assert "fd_pixels" in text
    assert "tiny" in text


def test_the_same_seed_draws_the_same_samples():
    model, labels = tiny_model(), torch.full((5,), -1)
    first, again = (quality.drawn_images(model, labels, 2, seed=3).pixels for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first[:2], first[2:4])


def test_samples_in_the_wrong_layout_are_refused(tmp_path):
    np.savez(tmp_path / "wrong.npz", arr0=np.zeros((2, 4, 4, 3), np.uint8))
    with pytest.raises(UserError, match="arr_0"):
        quality.stored_images(tmp_path / "wrong.npz")
    np.savez(tmp_path / "right.npz", arr_0=np.zeros((2, 4, 4, 3), np.uint8))
    assert quality.stored_images(tmp_path / "right.npz").pixels.shape == (2, 3, 4, 4)


def test_a_first_stage_alone_is_measured_by_its_reconstructions():
    stage = KLAutoencoder(width=32, width_mult=[1, 1], blocks=1, middle_attention=False)
    real = quality.Images(pictures(8), torch.full((8,), -1))
    line = quality.score("stage", stage, real, None, features.load_extractor("pixels"), {})
    assert line.values.keys() >= {"rfd_pixels", "psnr"}
    assert "fd_pixels" not in line.values


def test_sampling_time_is_per_thousand_images():
    assert 0 < seconds_per_thousand(tiny_model(), images=4, batch_size=2) < 1e5
