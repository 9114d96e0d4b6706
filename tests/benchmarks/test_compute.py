import pytest
import torch
import yaml
from torch import nn

from tests.benchmarks.toy import ToyVAE
from zoo.benchmarks import render
from zoo.benchmarks.measures import counting
from zoo.benchmarks.records import references
from zoo.benchmarks.tables import compute
from zoo.errors import UserError
from zoo.likelihood import LikelihoodModel, Objective


class TwoConvolutions(LikelihoodModel):
    """Everything about it can be counted by hand."""

    bits, image_shape = 8, (3, 8, 8)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 1)

    def objective(self, x, label=None, step=0):
        return Objective(loss=self.second(torch.relu(self.first(x.float()))).sum())

    def terms(self, x, label=None, noise=None):
        raise NotImplementedError

    def sample(self, n, temperature=1.0, label=None):
        raise NotImplementedError


def test_counts_equal_the_formulas():
    with torch.device("meta"):
        network = TwoConvolutions()
    forward, backward, saved = counting._one_image(network)
    first, second = 2 * 64 * 3 * 4 * 9, 2 * 64 * 4 * 5
    assert forward == first + second
    assert backward == first + 2 * second  # the image needs no gradient
    assert saved == 4 * (3 * 64 + 4 * 64)  # input of the first convolution; output of relu, shared with the second


def test_backward_of_a_hierarchy_costs_about_twice_the_forward():
    with torch.device("meta"):
        network = ToyVAE()
    _, _, saved = counting._one_image(network)
    assert saved > 0
    assert all(parameter.is_meta for parameter in network.parameters())


CONFIG = {
    "model": {"network": {"class_path": "VDM", "init_args": {"bogus": 1}}},
}


def test_what_cannot_be_counted_says_why(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(CONFIG))
    (tmp_path / "b.yaml").write_text("a: [1\n")
    (tmp_path / "c.yaml").write_text("trainer: {}\n")
    found = {count.config: count for count in counting.count_folder(tmp_path, workers=1)}
    assert "not built" in found["a"].problem
    assert "not YAML" in found["b"].problem
    assert "no network" in found["c"].problem
    lines = list(counting.measure(str(tmp_path), workers=1))
    table = compute.build(lines, references.load())
    assert any("not counted: 3" in note for note in table.notes)
    assert "not counted" in render.render(table, "markdown")


def test_every_stage_of_a_configuration_is_found():
    spec = {"class_path": "VDVAE", "init_args": {}}
    config = {"stages": [{"name": "first", "model": {"network": spec}}, {"model": {"init_args": {"network": spec}}}]}
    assert [name for name, _ in counting.networks_of(config)] == ["first", "stage 2"]
    assert list(counting.networks_of({"trainer": {}})) == []


def test_an_empty_folder_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="no configuration files"):
        counting.count_folder(tmp_path)


def test_published_memory_has_a_configuration_for_every_row():
    rows = {(n.model, n.dataset, n.resolution) for n in references.load().select(table="3", metric="memory")}
    names = [
        f"{family}_{data}{kind}{depth}"
        for family, kinds in (("vdvae", [""]), ("efficient_vdvae", ["_c1", "_baseline"]))
        for kind in kinds
        for data, depth in (("cifar10", ""), ("imagenet32", ""), ("imagenet64", ""), ("ffhq256", "_5bit"))
    ]
    assert {compute.published_row(name) for name in names} == rows
    assert compute.published_row("vdm_cifar10") is None
    assert compute.published_row("efficient_vdvae_ffhq256_baseline") is None


def test_a_description_is_taken_from_an_earlier_stage():
    first = {"class_path": "A", "init_args": {"head": {"width": 3}}}
    second = {"class_path": "B", "init_args": {"inner": "spec:one", "head": "spec:one.init_args.head"}}
    config = {"stages": [{"name": "one", "model": {"network": first}}, {"name": "two", "model": {"network": second}}]}
    found = dict(counting.networks_of(config))
    assert found["two"]["init_args"] == {"inner": first, "head": {"width": 3}}
