import math

import pytest
import torch
from PIL import Image

from zoo.benchmarks.measures import bins, depths
from zoo.benchmarks.measures import stability as trainings
from zoo.benchmarks.measures.bins import OFFICIAL
from zoo.benchmarks.measures.small_runs import LN2, network, train
from zoo.benchmarks.records import references
from zoo.benchmarks.render import as_dict
from zoo.benchmarks.tables import depth, stability
from zoo.benchmarks.tables.depth import free_bits, overlap
from zoo.checkpoints import build, save
from zoo.errors import UserError
from zoo.likelihood import LogisticMixture

SHORT = {"steps": 2, "limit": 1}


def values(section, column):
    """The numbers of a column."""
    index = section["columns"].index(column)
    return [row[index]["value"] for row in section["rows"]]


def test_stability_trains_with_and_without_smoothing():
    lines = list(trainings.measure(batch_sizes=[2], **SHORT))
    table = stability.build(lines, references.load())
    *published, measured = as_dict(table)["sections"]
    skipped = "skipped updates, published"
    assert sorted(values(published[0], skipped)) == [0.0, 3.0, 4.0, 5.0, 8.0, 78.0]
    assert "diverged" in published[1]["note"]
    assert sorted(values(published[2], skipped)) == [0.0, 0.0, 0.0, 1.0, 2.0, 2.0, 9.0, 14.0, 24.0, 37.0]
    assert values(measured, "skipped, with") == [0.0]
    assert values(measured, "bits/dim, with") != values(measured, "bits/dim, without")
    assert [line.settings["beta"] for line in lines] == [1.0, LN2]


def test_skipped_updates_are_counted_at_the_threshold():
    run = train(network(1.0), steps=3, batch_size=2, optimizer="adamax", skip_norm=1e-6, max_consecutive_skips=9)
    assert run.skipped == len(run.norms) == 3
    assert not run.diverged


def test_training_that_only_skips_counts_as_diverged():
    run = train(network(1.0), steps=9, batch_size=2, skip_norm=1e-6, max_consecutive_skips=2)
    assert run.diverged
    assert run.skipped == 2


def test_short_trainings_repeat_exactly_and_leave_the_random_numbers_alone():
    torch.manual_seed(5)
    before = torch.rand(3)
    torch.manual_seed(5)
    runs = [train(network(1.0), steps=2, batch_size=2) for _ in range(2)]
    assert torch.equal(torch.rand(3), before)
    assert runs[0].norms == runs[1].norms


def test_depth_prices_the_same_weights_under_both_kinds_of_bins(tmp_path):
    picture = tmp_path / "d.png"
    lines = list(depths.measure([5, 8], batch_size=2, **SHORT))
    table = depth.build(lines, references.load(), plot=str(picture))
    measured = as_dict(table)["sections"][-1]
    assert values(measured, "bits") == [5, 8]
    five, eight = zip(values(measured, "unbounded"), values(measured, "unbounded, official bins"), strict=True)
    assert five[0] - five[1] == pytest.approx(free_bits(5), abs=5e-3)  # untrained scales are wider than a bin
    assert eight[0] == pytest.approx(eight[1], abs=1e-3)
    assert five[0] == pytest.approx(values(measured, "rate")[0] + values(measured, "distortion")[0])
    with Image.open(picture) as image:
        assert image.size == (900, 460)


def test_depth_prices_a_checkpoint(tmp_path):
    spec = network(LN2, 5)
    path = save(tmp_path / "five.safetensors", spec, build(spec))
    table = depth.build(list(bins.measure(str(path), limit=1)), references.load())
    section = as_dict(table)["sections"][-1]
    assert values(section, "difference")[0] == pytest.approx(free_bits(5), abs=5e-3)
    assert values(section, "checkpoint") == ["five"]


def test_plots_need_numbers(tmp_path):
    with pytest.raises(UserError, match="zoo measure depth"):
        depth.build([], references.load(), plot=str(tmp_path / "d.png"))


# -- the arithmetic of docs/five_bits.md -------------------------------------------------------------------------------


def one_pixel(mean, log_scale, bits, bins, floor=-14.0):
    """Probabilities of all levels of one grey pixel under one logistic."""
    size = 2**bits
    shape = (size, 1, 1, 1, 1)
    mixture = LogisticMixture(
        torch.zeros(size, 1, 1, 1, dtype=torch.float64),
        torch.full(shape, mean, dtype=torch.float64),
        torch.full(shape, log_scale, dtype=torch.float64),
        None,
        bits,
        bins,
        floor,
    )
    return mixture.log_prob(torch.arange(size).reshape(-1, 1, 1, 1)).exp()


@pytest.mark.parametrize("bits", range(2, 9))
def test_wide_distributions_gain_the_overlap(bits):
    width = 2.0 / 2**bits  # a few bins
    mass = one_pixel(0.0, math.log(width * 2), bits, OFFICIAL["EfficientVDVAE"]).sum().item()
    inside = overlap(bits)
    assert 1.0 - 1e-6 <= mass <= inside + 1e-6
    assert one_pixel(0.0, math.log(width * 2), bits, "normalised").sum().item() == pytest.approx(1.0)


def test_two_neighbouring_levels_cost_nothing_under_sharp_overlapping_bins():
    """A model that knows a 5-bit pixel to be one of two neighbours needs 1 bit; the official formula says less."""
    border = (12.5 * 8 - 127.5) / 127.5
    for floor, expected in ((-7.0, 0.463), (-14.0, 0.0)):
        probs = one_pixel(border, floor, 5, "efficient_vdvae", floor)[12:14]
        assert -probs.log2().mean().item() == pytest.approx(expected, abs=2e-3)
        probs = one_pixel(border, floor, 5, "normalised", floor)[12:14]
        assert -probs.log2().mean().item() == pytest.approx(1.0, abs=1e-6)
