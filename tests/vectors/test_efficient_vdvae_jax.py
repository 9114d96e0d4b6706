"""Checkpoints of the official JAX code hold the same weights as those of the PyTorch code, in another layout."""

import re

import pytest
import torch

from tests.vectors.cases import cases, root
from zoo.checkpoints import build, fit_weights
from zoo.checkpoints.efficient_vdvae import import_checkpoint

CASES = pytest.mark.parametrize("case", cases("efficient_vdvae_jax", "checkpoint_*"))


def twin(case):
    """The configuration and the PyTorch checkpoint of the same run."""
    name = re.sub(r"^checkpoint_\d+_", "", case.name)
    folder = root() / "efficient_vdvae"
    config = folder / f"logs-{name}" / f"hparams-{name}.cfg"
    if not config.is_file():
        pytest.skip(f"no {config}")
    return config, folder / f"checkpoints-{name}"


@CASES
def test_same_weights_as_the_pytorch_checkpoint(case):
    config, checkpoint = twin(case)
    ours, expected = import_checkpoint([case], config), import_checkpoint([checkpoint], config)
    assert ours[0] == expected[0]
    assert ours[1].keys() == expected[1].keys()
    for name, tensor in expected[1].items():
        assert torch.equal(ours[1][name], tensor), name


@CASES
def test_raw_weights_differ_and_fit(case):
    config, _ = twin(case)
    spec, averaged = import_checkpoint([case], config)
    _, raw = import_checkpoint([case], config, weights="raw")
    fit_weights(build(spec), raw, str(case))
    assert any(not torch.equal(raw[name], averaged[name]) for name in raw)
