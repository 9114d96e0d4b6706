"""The questions that need a trained network, asked of tiny ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.benchmarks.test_identity import TINY
from zoo.benchmarks import records
from zoo.benchmarks.measures import accuracy, layers, neighbours, quality, reconstruction, rejection, steps
from zoo.benchmarks.measures.evaluator import evaluate_checkpoint
from zoo.checkpoints import build, load, save
from zoo.data import open_split
from zoo.errors import UserError


@pytest.fixture
def tiny(tmp_path):
    return str(save(tmp_path / "tiny.safetensors", TINY, build(TINY)))


def test_more_layers_are_trained_and_counted():
    lines = list(layers.measure([4, 14], steps=2, batch_size=2, limit=1))
    assert [line.values["stochastic_layers"] for line in lines] == [4, 14]
    assert lines[0].values["parameters"] < lines[1].values["parameters"]
    for line in lines:
        assert line.values["bits_per_dim"] == pytest.approx(line.values["rate"] + line.values["distortion"])
    with pytest.raises(UserError, match="multiple of 7"):
        next(layers.measure([5]))


def test_steps_are_those_of_the_estimator_and_more_of_them_cost_more_seconds():
    lines = list(steps.measure("vdm-photos-5bit", [2, 40], limit=1, images=1))
    known = evaluate_checkpoint("vdm-photos-5bit", "photos", limit=1, settings=steps_settings(40))
    assert lines[1].values["bits_per_dim"] == known.bits_per_dim
    few, many = (line.values["seconds per 1000 images"] for line in lines)
    assert many > few > 0


def steps_settings(count):
    from zoo.benchmarks.measures.evaluator import Settings

    return Settings(estimator=f"steps-{count}")


def test_only_models_with_steps_are_asked_for_them(tiny):
    with pytest.raises(UserError, match="no choice of steps"):
        next(steps.measure(tiny))


@pytest.mark.parametrize("name", ["vdvae-photos-8bit", "vqvae2-photos-8bit", "latent-vae-photos-8bit"])
def test_reconstructions_are_closer_than_other_images(name):
    (line,) = reconstruction.measure(name, count=8)
    x, _ = open_split("photos", "test", (3, 32, 32)).first(8)
    other = reconstruction.distances(x, x.roll(1, 0))
    assert line.values["ssim"] > other["ssim"]
    assert line.values["mse [0,1]"] < other["mse [0,1]"]
    assert line.values["psnr dB"] > other["psnr dB"]


def test_a_reconstruction_belongs_to_its_image():
    model = load("vdvae-photos-8bit").network
    x, _ = open_split("photos", "test", (3, 32, 32)).first(4)
    every = torch.arange(4)
    assert torch.equal(reconstruction.reconstruct(model, x, every), reconstruction.reconstruct(model, x, every))


def test_a_model_without_posteriors_does_not_reconstruct():
    with pytest.raises(UserError, match="does not reconstruct"):
        next(reconstruction.measure("pixelsnail-photos-8bit", count=2))


def test_samples_are_further_from_training_images_than_a_copy(tiny, tmp_path):
    picture = tmp_path / "n.png"
    (line,) = neighbours.measure(tiny, count=3, among=20, output=picture)
    assert line.values["samples to training"] >= line.values["nearest sample"] > 0
    known = open_split("photos", "train", (3, 32, 32)).spread(20)[0]
    from zoo.benchmarks.measures.metrics import load_extractor

    apart = neighbours.distances(load_extractor("pixels"), known[:3], known)
    assert apart.diagonal().abs().max() < 1e-6
    with Image.open(picture) as image:
        assert image.size[0] > image.size[1]


def test_drawn_sets_are_kept_as_the_adm_evaluator_reads_them(tiny, tmp_path):
    path = tmp_path / "drawn.npz"
    (line,) = quality.measure(tiny, count=4, extractor="pixels", output=path)
    with np.load(path) as arrays:
        assert arrays["arr_0"].shape == (4, 32, 32, 3)
        assert arrays["arr_0"].dtype == np.uint8
    again = quality.measure(samples=[path], count=4, extractor="pixels")
    assert next(again).values["fd_pixels"] == pytest.approx(line.values["fd_pixels"])
    with pytest.raises(UserError, match=r"\.npz"):
        quality.store_images(tmp_path / "drawn.png", quality.Images(torch.zeros(1, 3, 4, 4), torch.zeros(1)))


@pytest.fixture
def labelled(tmp_path):
    """Two classes of images, one dark and one bright."""
    from zoo.data.writer import PackedWriter

    path = tmp_path / "two.h5"
    generator = np.random.default_rng(0)
    with PackedWriter(path, {"train": 24, "test": 24}, (32, 32, 3), labelled=True) as writer:
        for split in ("train", "test"):
            for number in range(24):
                image = generator.integers(0, 60, (32, 32, 3), dtype=np.uint8) + np.uint8(180 * (number % 2))
                writer.add(split, image, number % 2)
        writer.finish({"name": "two", "variant": "two", "classes": 2})
    return str(path)


def test_a_classifier_learns_from_real_images_what_samples_of_an_untrained_model_do_not_teach(tiny, labelled):
    lines = {line.settings["trained on"]: line for line in accuracy.measure(tiny, labelled, 24, epochs=12)}
    assert list(lines) == ["real", "reconstructions", "samples"]
    assert lines["real"].values["top1 %"] > 80
    with pytest.raises(UserError, match="no classes"):
        next(accuracy.measure(tiny, "photos", 4))


def test_rejection_draws_more_for_what_it_keeps(tiny, labelled, tmp_path):
    class Bright(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean = x.float().mean(dim=(1, 2, 3)) / 32 - 4
            return torch.stack([-mean, mean], dim=1)

    path = tmp_path / "bright.pt"
    torch.jit.script(Bright()).save(str(path))
    options = {"keep": [1.0, 0.25], "per_class": 4, "extractor": "pixels", "classifier": str(path)}
    whole, part = rejection.measure(tiny, dataset=labelled, **options)
    assert (whole.settings["drawn"], part.settings["drawn"]) == (8, 32)
    assert part.values["score"] > whole.values["score"]
    for line in (whole, part):
        records.append(tmp_path / "r.jsonl", line)
    assert records.read(tmp_path / "r.jsonl") == [whole, part]
