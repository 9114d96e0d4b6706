"""Imported first stages against the official code's arrays."""

import numpy as np
import pytest
import torch

from tests.vectors.cases import cases
from zoo.checkpoints import build, fit_weights
from zoo.checkpoints.ldm_autoencoder import import_checkpoint, read_weights
from zoo.likelihood.gaussian import DiagonalGaussian

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def load_case(path):
    """Network from the public importer, and the arrays of the case."""
    checkpoint = path.with_suffix(".ckpt")
    spec, weights = import_checkpoint([checkpoint])
    network = build(spec).eval()
    fit_weights(network, weights, str(checkpoint))
    arrays = {key: torch.from_numpy(value) for key, value in np.load(path.with_suffix(".npz")).items()}
    return network, arrays


@pytest.mark.parametrize("path", cases("ldm_autoencoder", "*.json"))
def test_imported_first_stage_matches_recorded_arrays(path):
    network, arrays = load_case(path)
    with torch.no_grad():
        check_vq(network, arrays) if "indices_flat" in arrays else check_kl(network, arrays)


def check_kl(network, arrays):
    x = arrays["x"]
    torch.testing.assert_close(network.to_embedding(network.encoder(x)), arrays["moments"], **CLOSE)
    posterior = network.encode(x)
    torch.testing.assert_close(posterior.mean, arrays["mean"], **CLOSE)
    torch.testing.assert_close(2 * posterior.log_std, arrays["logvar_clamped"], **CLOSE)
    torch.testing.assert_close(posterior.std, arrays["std"], **CLOSE)
    torch.testing.assert_close(network.latent(x), arrays["mode"], **CLOSE)
    kl = posterior.kl(DiagonalGaussian.standard_like(posterior.mean)).sum(dim=(1, 2, 3))
    torch.testing.assert_close(kl, arrays["kl_nats_per_image"], **CLOSE)
    torch.testing.assert_close(network.decode(posterior.mean), arrays["reconstruction"], **CLOSE)
    sample = posterior.sample(arrays["eps"])
    torch.testing.assert_close(sample, arrays["sample"], **CLOSE)
    torch.testing.assert_close(network.decode(sample), arrays["sample_decoded"], **CLOSE)


def check_vq(network, arrays):
    latent = network.latent(arrays["x"])
    torch.testing.assert_close(latent, arrays["prequant"], **CLOSE)
    assert torch.equal(network.nearest(latent).flatten(), arrays["indices_flat"])
    quantised = network.embed(network.nearest(latent))
    torch.testing.assert_close(quantised, arrays["quant"], **CLOSE)
    torch.testing.assert_close(network.codebook_loss(latent, quantised), arrays["codebook_loss"], **CLOSE)
    torch.testing.assert_close(network.decode(latent), arrays["reconstruction"], **CLOSE)
    other = arrays["latent"]
    assert torch.equal(network.nearest(other).flatten(), arrays["latent_indices_flat"])
    torch.testing.assert_close(network.embed(network.nearest(other)), arrays["latent_quant"], **CLOSE)
    torch.testing.assert_close(network.decode(other), arrays["latent_decoded_quantised"], **CLOSE)
    torch.testing.assert_close(network.decode(other, quantise=False), arrays["latent_decoded_raw"], **CLOSE)


@pytest.mark.parametrize("path", cases("ldm_autoencoder", "*_layout.ckpt"))
def test_a_checkpoint_with_callback_classes_loads_without_running_code(path):
    assert read_weights(path)
