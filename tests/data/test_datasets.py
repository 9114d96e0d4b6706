"""The table of data sets and their split rules."""

import re

import numpy as np
import pytest

from zoo.data.datasets import DATASETS
from zoo.data.splits import DROP, SPLIT_NAMES, Divide, HoldOut


@pytest.mark.parametrize("name", DATASETS)
def test_entries_are_complete(name):
    spec = DATASETS[name]
    assert spec.title
    assert spec.licence
    assert spec.where
    assert spec.rules
    assert all(
        re.fullmatch(r"(md5:[0-9a-f]{32}|(content-)?sha256:[0-9a-f]{64})?", file.digest)
        for file in spec.files + spec.unpacked_files
    )
    __import__(f"zoo.data.readers.{spec.reader}")


@pytest.mark.parametrize(("name", "rule"), [(name, rule) for name, spec in DATASETS.items() for rule in spec.rules])
def test_every_rule_sends_every_image_somewhere_and_has_a_test_split(name, rule):
    spec = DATASETS[name]
    counts = {part: min(count, 70_000) for part, count in spec.counts.items()} or {"all": 100}
    if rule == "glow":
        counts = {"train": 27_000, "val": 3_000}
    assigned = np.concatenate([spec.rules[rule].assign(part, count) for part, count in counts.items()])
    left_out = {DROP} if rule.endswith("-only") else set()  # a rule that says so leaves parts out
    assert set(assigned) <= {*SPLIT_NAMES, *left_out}
    assert {"test"} <= set(assigned)


def test_first_indices_of_the_published_permutations():
    cifar = DATASETS["cifar10"].rules["vdvae"].parts["train"]
    np.testing.assert_array_equal(
        np.random.RandomState(cifar.seed).permutation(50_000)[:4], [38899, 48321, 12222, 16844]
    )
    splits = cifar(50_000)
    assert (splits == "val").sum() == 5000
    assert (splits[[38899, 48321, 12222, 16844]] == "val").all()
    splits = DATASETS["ffhq256"].rules["vdvae"].assign("all", 70_000)
    assert (splits[[46264, 66061, 27279, 32644]] == "test").all()
    assert (splits == "test").sum() == 7000


def test_sets_that_share_a_title_have_different_variants():
    for side in (32, 64):
        assert DATASETS[f"imagenet{side}-small"].variant != DATASETS[f"imagenet{side}-box"].variant


def test_hold_out_from_small_sources_leaves_both_splits():
    for count in (2, 5, 100):
        splits = HoldOut(5000, "val", "train", seed=1)(count)
        assert {"val", "train"} == set(splits)


@pytest.mark.parametrize("count", [30, 10_000])
def test_one_part_divides_into_all_splits_and_a_small_one_in_tenths(count):
    splits = Divide(1000, 1000)(count)
    held = 1000 if count > 2000 else count // 10
    assert [int((splits == name).sum()) for name in SPLIT_NAMES] == [count - 2 * held, held, held]
    assert (splits == Divide(1000, 1000)(count)).all()
