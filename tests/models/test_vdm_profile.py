"""VDM: variance of the estimate by schedule, and the pictures of a run."""

import math

import pytest
import torch

from tests.models.test_vdm import images, tiny
from zoo.models.vdm.figures import loss_chart, samples_over_time, schedule_chart
from zoo.models.vdm.profile import losses_over_time, profile, straight, using_schedule, variance_ratio


def test_profile_averages_to_the_diffusion_rate():
    model, x = tiny(eval_draws=16).eval(), images(16)
    p = profile(model, x, points=64)
    with torch.no_grad():
        terms = model.terms(x)
    rate = terms.rates["diffusion"].mean() / terms.num_dims / math.log(2)
    assert p.mean.mean().item() == pytest.approx(rate.item(), rel=0.05)
    assert p.gamma.shape == p.std.shape == (64,)


def test_schedule_is_exchanged_for_a_while_only():
    model = tiny(schedule="monotone")
    own = model.schedule
    with using_schedule(model, straight(model)):
        assert model.schedule is not own
    assert model.schedule is own


def test_variance_ratio_of_a_linear_schedule_with_itself_is_one():
    model, x = tiny(schedule="fixed").eval(), images(4)
    linear, own = variance_ratio(model, x, points=8)
    assert linear == own
    assert 0 < own.times < own.total


def test_variance_is_that_of_single_uniform_times():
    model, x = tiny().eval(), images(24)
    _, stratified = losses_over_time(model, x, points=24)
    f = model.encode(x)
    with torch.no_grad():
        single = torch.cat([model.diffusion_nats(f, torch.rand(len(x)), torch.randn_like(f))[0] for _ in range(24)]) / (
            x[0].numel() * math.log(2)
        )
    assert stratified.var().item() == pytest.approx(single.var().item(), rel=0.25)


def test_samples_over_time_end_in_an_image_of_levels():
    rows = samples_over_time(tiny(bits=5), n=2, columns=4)
    assert rows.shape == (2, 4, 3, 8, 8)
    assert not (rows[:, -1] % 8).any()


def test_previews_are_pictures():
    pictures = tiny().previews(images(2))
    assert set(pictures) == {"samples_over_time", "schedule", "loss_over_time"}
    for picture in pictures.values():
        assert picture.dtype == torch.uint8
        assert picture.shape[0] == 3


def test_charts_of_a_model():
    model = tiny()
    assert schedule_chart(model).size == loss_chart(model, images(2), points=4).size
