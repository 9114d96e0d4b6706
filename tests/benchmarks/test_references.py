import copy
import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest
import yaml

from zoo.benchmarks.records import references

ROOT = Path(__file__).parents[2]


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
        key += (number.metric, number.value, repr(sorted(number.settings.items())), number.variant, number.note)
        assert key not in seen
        seen.add(key)


def test_an_id_says_source_data_and_depth():
    known = references.load()
    ids = [number.id for number in known.numbers]
    ids += [item.id for item in known.depths] + [item.id for item in known.disputes]
    assert len(ids) == len(set(ids))
    for number in known.numbers:
        assert re.fullmatch(r"[a-z0-9+_.-]+", number.id)
        assert f".{number.bits}bit" in number.id
        assert number.id.endswith(number.metric) != (number.metric == "nll")
        assert number.id.startswith(number.row)


def test_latent_variable_models_diffusion_and_dequantised_flows_are_bounds():
    known = references.load()
    for number in known.select(metric="nll"):
        model = known.model(number.model)
        if model is not None and model.type in ("VAE", "flow"):
            assert number.kind in ("bound", "importance")
        elif model is not None and model.type == "autoregressive":
            assert number.kind == "exact"
        elif model is not None:
            assert number.kind in ("bound", "ode")


CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_published_configuration_names_the_rows_it_reproduces(path):
    known = references.load()
    content = yaml.safe_load(path.read_text())
    rows = {number.row: number for number in known.numbers}
    assert set(content["reproduces"]) <= set(rows)
    if not content["reproduces"]:
        assert re.search(r"^reproduces: \[\] +# \S", path.read_text(), re.MULTILINE), "say why there is none"
    for name in content["reproduces"]:  # the file's name and the row speak of the same images
        data = re.sub(r"\d+x\d+", "", rows[name].dataset.split()[-1].lower().replace("-", ""))
        assert data in path.stem or (data, path.stem[:6]) == ("cifar10", "vdm_ci")
        assert ("5bit" in path.stem) == (rows[name].bits == 5)


def test_every_likelihood_of_our_families_is_reproduced_by_a_configuration():
    known = references.load()
    named = [name for path in CONFIGS for name in yaml.safe_load(path.read_text())["reproduces"]]
    seeds = [name for name in named if "seed" in name]
    assert len(named) == len(set(named))
    assert len(seeds) == 4
    ours = (
        "VDVAE",
        "VDM",
        "PixelSNAIL",
        "Efficient-VDVAE (unbounded output)",
        "Efficient-VDVAE C1",
        "Efficient-VDVAE C2",
    )
    missing = [n.id for n in known.select(metric="nll", model=ours) if n.row not in named and ".trained" not in n.id]
    assert missing == []


def test_units_of_one_number_agree_where_a_source_prints_both():
    known = references.load()
    (nats,) = known.select(source="vdvae_repo", dataset="ImageNet", resolution=32)
    (bits,) = known.select(source="vdvae_page", dataset="ImageNet", resolution=32)
    assert nats.unit == "nats/dim"
    assert nats.bits_per_dim() == pytest.approx(bits.bits_per_dim(), abs=0.005)


def test_nats_per_image_are_no_bits_per_dim():
    assert {number.bits_per_dim() for number in references.load().select(unit="nats")} == {None}


@pytest.mark.parametrize("change", ["key", "metric", "kind", "twice", "source", "variant", "schema"])
def test_a_damaged_list_is_refused(data, change):
    broken = copy.deepcopy(data)
    if change == "key":
        broken["group"][0]["rows"][0]["valeus"] = {"nll": 1.0}
    elif change == "metric":
        broken["group"][0]["rows"][0]["values"]["nil"] = 1.0
    elif change == "kind":
        broken["group"][0]["common"]["kind"] = "upper"
    elif change == "twice":
        broken["group"][0]["rows"].append(broken["group"][0]["rows"][0])
    elif change == "source":
        broken["group"][0]["source"] = "nobody"
    elif change == "variant":
        broken["group"][0]["rows"][0]["variant"] = "unheard of"
    else:
        broken["schema"] = 1
    with pytest.raises(ValueError, match="references"):
        references.parse(broken)


def test_select_takes_several_values():
    known = references.load()
    both = list(known.select(metric="nll", table=("3", "4"), source="efficient_vdvae"))
    assert {number.table for number in both} == {"3", "4"}
