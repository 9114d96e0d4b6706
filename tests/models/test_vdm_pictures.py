"""VDM: variance of the estimate by schedule, and the pictures of a run."""

import pytest
import torch

from tests.models.test_vdm import images, tiny
from zoo.benchmarks.measures.variance import variances
from zoo.models.vdm import Draws
from zoo.models.vdm.figures import loss_chart, schedule_chart


def test_loss_over_time_averages_to_the_diffusion_rate():
    model, x = tiny(bound={"eval_draws": 16}).eval(), images(16)
    times, losses = model.losses_over_time(x, points=64)
    with torch.no_grad():
        rate = model.terms(x).rates["diffusion"]
    assert losses.mean().item() == pytest.approx(rate.mean().item(), rel=0.05)
    assert times.shape == (64,)
    assert losses.shape == (64, 16)


def test_schedule_is_exchanged_for_a_while_only():
    model = tiny()
    own = model.schedule
    with model.on_schedule(own.straight()):
        assert model.schedule is not own
    assert model.schedule is own


def test_a_schedule_varies_as_itself_and_all_share_their_ends():
    model, x = tiny("fixed").eval(), images(4)
    found = variances(model, x, points=8)
    linear, own = found["linear"], found["own"]
    assert list(found) == ["linear", "beta_linear", "alpha_cosine", "own"]
    assert linear == own
    assert 0 < own.times < own.total


def test_variance_is_that_of_single_uniform_times():
    model, x = tiny().eval(), images(24)
    _, stratified = model.losses_over_time(x, points=24)
    with torch.no_grad():
        draws = (Draws(torch.randn(x.shape), torch.rand(len(x)), torch.randn(x.shape)) for _ in range(24))
        single = torch.cat([model.price(x, one)[0].rates["diffusion"] for one in draws])
    assert stratified.var().item() == pytest.approx(single.var().item(), rel=0.25)


def test_samples_over_time_end_in_an_image_of_levels():
    rows = tiny(bits=5).samples_over_time(n=2, columns=4)
    assert rows.shape == (2, 4, 3, 8, 8)
    assert not (rows[:, -1] % 8).any()


def test_previews_are_pictures():
    pictures = tiny().previews(images(2))
    assert set(pictures) == {"samples_over_time", "schedule", "loss_over_time"}
    for picture in pictures.values():
        assert picture.dtype == torch.uint8
        assert picture.shape[0] == 3


def test_charts_of_a_model():
    model, x = tiny(), images(2)
    losses = model.compared_with_linear(x, points=4)
    assert list(losses) == ["learned", "linear, same ends"]
    assert schedule_chart(model.schedule).size == loss_chart(losses, x[0].numel()).size
