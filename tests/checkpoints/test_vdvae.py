"""Importer of official VDVAE checkpoints: which file, which architecture, which errors."""

import json

import pytest
import torch

from zoo.checkpoints import build, fit_weights
from zoo.checkpoints.vdvae import (
    PUBLISHED,
    decoder_stages,
    encoder_stages,
    import_checkpoint,
    network_arguments,
    widths,
)
from zoo.errors import UserError

HPARAMS = {
    "dataset": "cifar10",
    "enc_blocks": "4x1,4d4,1x1",
    "dec_blocks": "1x1,4m1,4x1",
    "width": 8,
    "custom_width_str": "1:12",
    "zdim": 2,
    "num_mixtures": 2,
    "image_size": 4,
}
OURS_TO_OFFICIAL = [
    ("encoder.stem.", "encoder.in_conv."),
    ("encoder.blocks.", "encoder.enc_blocks."),
    ("decoder.layers.", "decoder.dec_blocks."),
    (".posterior.conv", ".enc.c"),
    (".prior.conv", ".prior.c"),
    (".residual.conv", ".resnet.c"),
    (".project.", ".z_proj."),
    (".conv", ".c"),
    ("decoder.biases.1", "decoder.bias_xs.0"),
    ("decoder.biases.4", "decoder.bias_xs.1"),
    ("head.", "decoder.out_net.out_conv."),
]


def official_weights(model):
    """State dict of a model of ours under the official names."""
    named = {}
    for key, weight in model.state_dict().items():
        for ours, official in OURS_TO_OFFICIAL:
            key = key.replace(ours, official)
        named[key] = weight
    return named


def network(hparams):
    return build({"class_path": "VDVAE", "init_args": network_arguments(hparams)})


@pytest.fixture
def run(tmp_path):
    """Files of a run as the official code leaves them, and the two networks inside."""
    torch.manual_seed(0)
    networks = {kind: network(HPARAMS) for kind in ("raw", "ema")}
    raw, ema = (official_weights(networks[kind]) for kind in ("raw", "ema"))
    torch.save({f"module.{key}": weight for key, weight in raw.items()}, tmp_path / "run-iter-9-model.th")
    torch.save(ema, tmp_path / "run-iter-9-model-ema.th")
    torch.save({"state": {}}, tmp_path / "run-iter-9-opt.th")
    (tmp_path / "run-iter-9-log.jsonl").write_text("{}\n")
    (tmp_path / "hps.json").write_text(json.dumps(HPARAMS))
    return tmp_path, networks


@pytest.mark.parametrize("kind", ["ema", "raw"])
def test_the_wanted_weights_are_found_among_the_files_of_a_run(run, kind):
    folder, networks = run
    spec, weights = import_checkpoint(sorted(folder.glob("run-*")), folder / "hps.json", weights=kind)
    model = build(spec)
    fit_weights(model, weights, "run")
    for key, weight in networks[kind].state_dict().items():
        assert torch.equal(model.state_dict()[key], weight)


def test_one_file_is_read_whatever_it_is(run):
    folder, _ = run
    assert import_checkpoint([folder / "run-iter-9-model.th"], folder / "hps.json")[1]


def test_the_normalised_convention_reduces_the_encoder_input_too(run):
    folder, _ = run
    (folder / "hps.json").write_text(json.dumps(HPARAMS | {"dataset": "ffhq_256"}))
    files = [folder / "run-iter-9-model-ema.th"]
    official = import_checkpoint(files, folder / "hps.json", bins="vdvae")[0]["init_args"]
    normalised = import_checkpoint(files, folder / "hps.json")[0]["init_args"]
    assert (official["bits"], official["sees"]["bits"], official["bins"]) == (5, 8, "vdvae")
    assert (normalised["bits"], normalised["sees"]["bits"], normalised["bins"]) == (5, 5, "normalised")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_architecture_is_recognised_by_its_parameters(tmp_path, name):
    with torch.device("meta"):
        model = network(PUBLISHED[name])
    resolutions = sorted(model.decoder.biases, key=int)
    weights = {}
    for key, weight in model.state_dict().items():
        if key.startswith("decoder.biases."):
            key = f"decoder.bias_xs.{resolutions.index(key.rpartition('.')[2])}"
        else:
            for ours, official in OURS_TO_OFFICIAL:
                key = key.replace(ours, official)
        weights[key] = torch.zeros(()).expand(weight.shape)  # one stored number per tensor
    torch.save(weights, tmp_path / "misnamed-model-ema.th")
    spec, _ = import_checkpoint([tmp_path / "misnamed-model-ema.th"], bins="vdvae")
    assert spec["init_args"] == network_arguments(PUBLISHED[name])


def test_layout_strings():
    assert encoder_stages("8x2,8d2,4,4d4,1x3") == [
        {"resolution": 8, "blocks": 3, "downsample": 2},
        {"resolution": 4, "blocks": 2, "downsample": 4},
        {"resolution": 1, "blocks": 3, "downsample": 1},
    ]
    assert decoder_stages("1x2,4m1,4x3,4m1") == [
        {"resolution": 1, "blocks": 2, "upsample_from": None},
        {"resolution": 4, "blocks": 4, "upsample_from": 1},
        {"resolution": 4, "blocks": 1, "upsample_from": 1},
    ]
    assert widths("8:16,4:24") == {8: 16, 4: 24}


def test_errors_name_what_is_wrong(run, tmp_path):
    folder, _ = run
    ema, config = folder / "run-iter-9-model-ema.th", folder / "hps.json"
    with pytest.raises(UserError, match=r"3 encoder blocks, 3 decoder blocks, width 8 .*--config"):
        import_checkpoint([ema])
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        import_checkpoint([ema], published="cifar")
    with pytest.raises(UserError, match="expected one"):
        import_checkpoint([folder / "run-iter-9-opt.th"], config)
    (tmp_path / "list.th").write_bytes(b"")
    with pytest.raises(UserError, match=r"list.th"):
        import_checkpoint([tmp_path / "list.th"], config)
    torch.save({"epoch": 3}, tmp_path / "other.th")
    with pytest.raises(UserError, match="state dict"):
        import_checkpoint([tmp_path / "other.th"], config)
    for key, value, message in (
        ("dec_blocks", "1x1,4q1", "cannot read '4q1'"),
        ("custom_width_str", "1=12", "resolution:width"),
        ("dataset", "cifar", "did you mean 'cifar10'"),
    ):
        config.write_text(json.dumps(HPARAMS | {key: value}))
        with pytest.raises(UserError, match=message):
            import_checkpoint([ema], config)
    config.write_text('{"width": 3}')
    with pytest.raises(UserError, match="lacks dataset, dec_blocks"):
        import_checkpoint([ema], config)
    torch.save({"encoder.in_conv.weight": torch.zeros(1), "extra": torch.zeros(1)}, ema)
    config.write_text(json.dumps(HPARAMS))
    with pytest.raises(UserError, match="'extra'"):
        import_checkpoint([ema], config)
