import copy
import tomllib
from importlib import resources

import pytest

from zoo.benchmarks.records import references


@pytest.fixture
def data():
    return tomllib.loads(resources.files("zoo.benchmarks.records").joinpath("references.toml").read_text())


def test_every_number_has_a_source_and_an_explained_variant():
    known = references.load()
    assert len(known.numbers) > 300
    for number in known.numbers:
        assert number.source in known.sources
        assert number.variant in known.variants or number.variant == ""


def test_no_number_is_listed_twice_in_one_table():
    seen = set()
    for number in references.load().numbers:
        key = (number.source, number.table, number.model, number.dataset, number.resolution, number.bits)
        key += (number.metric, number.value, repr(sorted(number.settings.items())), number.note)
        assert key not in seen
        seen.add(key)


def test_units_of_one_number_agree_where_a_source_prints_both():
    known = references.load()
    (nats,) = known.select(source="vdvae_repo", dataset="ImageNet", resolution=32)
    (bits,) = known.select(source="vdvae_page", dataset="ImageNet", resolution=32)
    assert nats.unit == "nats/dim"
    assert nats.bits_per_dim() == pytest.approx(bits.bits_per_dim(), abs=0.005)


def test_nats_per_image_are_no_bits_per_dim():
    assert {number.bits_per_dim() for number in references.load().select(unit="nats")} == {None}


@pytest.mark.parametrize("change", ["key", "source", "variant", "schema"])
def test_a_damaged_list_is_refused(data, change):
    broken = copy.deepcopy(data)
    if change == "key":
        broken["group"][0]["rows"][0]["valeu"] = 1.0
    elif change == "source":
        broken["group"][0]["source"] = "nobody"
    elif change == "variant":
        broken["group"][0]["rows"][0]["variant"] = "unheard of"
    else:
        broken["schema"] = 2
    with pytest.raises(ValueError, match="references"):
        references.parse(broken)


def test_select_takes_several_values():
    known = references.load()
    both = list(known.select(metric="nll", table=("3", "4"), source="efficient_vdvae"))
    assert {number.table for number in both} == {"3", "4"}
