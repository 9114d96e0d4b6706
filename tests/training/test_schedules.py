import pytest

from zoo.errors import UserError
from zoo.training.schedules import Schedule


def test_warm_up_starts_at_nothing_and_reaches_the_peak():
    schedule = Schedule("constant", warmup_steps=100)
    assert [schedule(step) for step in (0, 50, 100, 10_000)] == [0.0, 0.5, 1.0, 1.0]


def test_no_warm_up_means_the_peak_at_once():
    assert Schedule("constant")(0) == 1.0


def test_cosine_waits_then_falls_to_the_minimum_and_stays():
    schedule = Schedule("cosine", decay_start=10, decay_steps=20, min_factor=0.1)
    assert schedule(10) == 1.0
    assert schedule(20) == pytest.approx(0.55)
    assert schedule(30) == schedule(1000) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("warmup", "step", "rate"),
    [(5, 1, 6.96e-5), (5, 5, 3e-4), (5, 50, 1.62387452e-4), (30, 75, 8.49182995e-5), (5, 100, 1.2e-9)],
)
def test_cycle_has_the_official_values(warmup, step, rate):
    """The official scheduler counts from 1; the values are those of the official code for 100 steps."""
    assert 3e-4 * Schedule("cycle", warmup_steps=warmup, decay_steps=100)(step - 1) == pytest.approx(rate)


@pytest.mark.parametrize("name", ["cosine", "cycle"])
def test_a_decay_needs_its_length(name):
    with pytest.raises(UserError, match="decay_steps"):
        Schedule(name)
