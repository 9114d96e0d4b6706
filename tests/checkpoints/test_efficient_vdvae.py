import shutil
import zipfile
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch

from zoo.checkpoints import build, fit_weights
from zoo.checkpoints.efficient_vdvae import colours_outside, import_checkpoint
from zoo.checkpoints.efficient_vdvae_config import evaluate, network_arguments, parse_hparams
from zoo.errors import UserError

CONFIG = """
[run]
name = tiny
[data]
dataset_source = 'cifar-10'
target_res = 4 * 2
channels = 3
num_bits = 5.
[model]
stable_init = True
initialize_prior_weights_as_zero = False
use_1x1_conv = True
distribution_base = 'std'
gradient_smoothing_beta = 0.6931472
input_conv_filters = 4
input_kernel_size = (1, 1)
up_strides = [1] + [2, 1]
up_n_blocks_per_res = [0, 1, 0]
up_n_blocks = [1] * 3
up_n_layers = [2] * 3
up_filters = [4, 6, 6]
up_mid_filters_ratio = [0.5] * 3
up_kernel_size = [3] * 3
up_skip_filters = [4, 4, 6]
use_residual_distribution = False
down_strides = [1, 2, 1]
down_n_blocks_per_res = [0, 2, 0]
down_n_blocks = [1] * 3
down_n_layers = [2] * 3
down_filters = [6, 4, 4]
down_mid_filters_ratio = [0.5] * 3
down_kernel_size = [3] * 3
down_latent_variates = [2] * 3
output_kernel_size = (1, 1)
num_output_mixtures = 1
[loss]
min_mol_logscale = -14.
variation_schedule = 'Linear'
vae_beta_anneal_start = 21
vae_beta_anneal_steps = 5000
vae_beta_min = 1e-4
vae_beta_activation_steps = 10000
vae_beta_growth_rate = 1e-5
use_gamma_schedule = False
gamma_max_steps = 10000
scaled_gamma = True
[train]
unknown_word = something
"""


def official_name(ours):
    """The PyTorch code's name of one of our parameters."""
    head, *rest = ours.split(".")
    if head in ("start", "input", "output"):
        names = {"start": "top_down.trainable_h", "input": "bottom_up.input_conv", "output": "top_down.output_conv"}
        return ".".join([names[head], *rest])
    level, part, *rest = rest
    if head == "bottom_up":
        folder = f"levels_up.{level}.{rest.pop(0)}" if part == "rest" else f"levels_up_downsample.{level}"
        inner = {"rest": "residual_block", "last": "residual_block", "skip": "skip_projection", "pool": "pool.ops"}
        return ".".join(["bottom_up", folder, inner[part], *rest])
    folder = f"levels_down.{level}.{rest.pop(0)}" if part == "rest" else f"levels_down_upsample.{level}"
    inner = {
        "unpool.conv": "unpool.ops.0",
        "unpool.bias": "unpool.scale_bias",
        "posterior_net.convs": "posterior_net.0.convs",
        "prior_net.convs": "prior_net.0.convs",
        "prior_head.projection": "prior_layer.projection",
        "posterior_head.projection": "posterior_layer.projection",
        "residual": "residual_block",
        "z_projection": "z_projection",
    }
    path = ".".join(rest)
    start = next(start for start in inner if path.startswith(start))
    return f"top_down.{folder}.{inner[start]}{path.removeprefix(start)}"


@pytest.fixture
def run(tmp_path):
    """An official run: its checkpoint and, beside it, its configuration."""
    model = build({"class_path": "EfficientVDVAE", "init_args": network_arguments(parse_hparams(CONFIG))})
    averaged = {official_name(name): tensor + 1 for name, tensor in model.state_dict().items()}
    raw = {official_name(name): tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(
        {"global_step": 3, "ema_model_state_dict": averaged, "model_state_dict": raw}, tmp_path / "checkpoints-tiny"
    )
    (tmp_path / "logs-tiny").mkdir()
    (tmp_path / "logs-tiny" / "hparams-tiny.cfg").write_text(CONFIG)
    return tmp_path, model.state_dict()


def test_averaged_or_raw_weights(run):
    folder, weights = run
    spec, averaged = import_checkpoint([folder / "checkpoints-tiny"])
    _, raw = import_checkpoint([folder / "checkpoints-tiny"], weights="raw")
    fit_weights(build(spec), averaged, "tiny")
    assert all(torch.equal(raw[name], weights[name]) for name in weights)
    assert all(torch.equal(averaged[name], weights[name] + 1) for name in weights)


def test_settings_are_taken_over(run):
    spec, _ = import_checkpoint([run[0] / "checkpoints-tiny"])
    arguments = spec["init_args"]
    assert spec["class_path"] == "zoo.models.EfficientVDVAE"
    assert arguments["bins"] == "normalised"
    net = arguments["architecture"]
    assert arguments["output"]["beta"] == net["latent_beta"] == 0.6931472  # absent in old files: as the latents
    assert arguments["schedule"]["balance_steps"] == -1
    assert [stage["blocks"] for stage in net["bottom_up"]] == [[1, 2], [1]]
    assert [stage["blocks"] for stage in net["top_down"]] == [[1], [3, 1]]


def imported(files):
    return import_checkpoint(files)[1]


def equal(ours, weights):
    return ours.keys() == weights.keys() and all(torch.equal(ours[name], weights[name] + 1) for name in weights)


def test_released_archive_is_read_whole(run, tmp_path):
    folder, weights = run
    archive = tmp_path / "elsewhere" / "tiny_checkpoints.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as file:
        file.write(folder / "checkpoints-tiny", "checkpoints-tiny/checkpoints-tiny")
        file.write(folder / "logs-tiny" / "hparams-tiny.cfg", "logs-tiny/hparams-tiny.cfg")
    assert equal(imported([archive]), weights)


def test_checkpoint_and_logs_in_two_archives(run, tmp_path):
    folder, weights = run
    archives = []
    for name, inner in {"checkpoints": "checkpoints-tiny", "logs": "logs-tiny/hparams-tiny.cfg"}.items():
        archives.append(tmp_path / "zips" / f"tiny_{name}.zip")
        archives[-1].parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(archives[-1], "w") as file:
            file.write(folder / inner, inner)
    assert equal(imported(archives), weights)


def test_torch_file_that_was_unzipped_by_mistake(run):
    folder, weights = run
    unpacked = folder / "unpacked"
    with zipfile.ZipFile(folder / "checkpoints-tiny") as file:
        file.extractall(unpacked)
    (folder / "checkpoints-tiny").unlink()
    assert equal(imported([unpacked]), weights)
    inner = next(unpacked.iterdir())
    assert equal(import_checkpoint([inner], folder / "logs-tiny" / "hparams-tiny.cfg")[1], weights)


def test_folder_of_the_run(run):
    assert equal(imported([run[0]]), run[1])


def test_parameters_made_on_the_first_pass_may_be_missing(run):
    folder, weights = run
    path = folder / "checkpoints-tiny"
    checkpoint = torch.load(path, weights_only=True)
    state = checkpoint["ema_model_state_dict"]
    lazy = [name for name in state if name.endswith("scale_bias")]
    assert lazy
    for name in lazy:
        del state[name]
    torch.save(checkpoint, path)
    ours = imported([path])
    assert ours.keys() == weights.keys()
    assert all(not ours[name].any() for name in ours if name.endswith("unpool.bias"))


def test_missing_or_strange_parameters_are_named(run):
    path = run[0] / "checkpoints-tiny"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["ema_model_state_dict"]["top_down.surprise"] = torch.zeros(1)
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match=r"top_down\.surprise"):
        imported([path])
    del checkpoint["ema_model_state_dict"]
    torch.save(checkpoint, path)
    with pytest.raises(UserError, match="lacks 'ema_model_state_dict'"):
        imported([path])


def test_data_parallel_prefix_is_dropped(run):
    folder, weights = run
    path = folder / "checkpoints-tiny"
    checkpoint = torch.load(path, weights_only=True)
    state = checkpoint["ema_model_state_dict"]
    checkpoint["ema_model_state_dict"] = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(checkpoint, path)
    assert equal(imported([path]), weights)


def test_without_configuration(run):
    shutil.rmtree(run[0] / "logs-tiny")
    with pytest.raises(UserError, match="--config"):
        imported([run[0] / "checkpoints-tiny"])


def test_configuration_of_the_same_name_is_preferred(run):
    other = run[0] / "logs-other"
    other.mkdir()
    (other / "hparams-other.cfg").write_text("broken")
    assert equal(imported([run[0] / "checkpoints-tiny"]), run[1])


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04broken", b"\x81\xa1a\x01"])
def test_damaged_files_are_refused(run, content):
    path = run[0] / "checkpoints-tiny"
    path.write_bytes(content)
    with pytest.raises(UserError, match="checkpoints-tiny"):
        imported([path])


def test_missing_file():
    with pytest.raises(UserError, match="no such file"):
        imported([Path("nowhere")])


def test_jax_tree_without_averaged_weights(run):
    path = run[0] / "checkpoint_3"
    path.write_bytes(msgpack.packb({"step": 3, "params": {}}))
    with pytest.raises(UserError, match="lacks 'ema_params'"):
        import_checkpoint([path], run[0] / "logs-tiny" / "hparams-tiny.cfg")


def test_colour_permutation_of_the_jax_head():
    mixtures, colours = 2, 3
    # mark each channel with its place in the PyTorch order: M logits, then colour by colour 3M parameters
    torch_order = np.arange(mixtures * (1 + 3 * colours))
    jax_order = np.empty_like(torch_order)
    jax_order[:mixtures] = torch_order[:mixtures]
    for colour in range(colours):
        for k in range(3 * mixtures):
            jax_order[mixtures + k * colours + colour] = torch_order[mixtures + colour * 3 * mixtures + k]
    assert np.array_equal(colours_outside(jax_order, colours), torch_order)
    assert np.array_equal(colours_outside(np.arange(1), 1), np.arange(1))


# -- configuration files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8.", 8.0),
        ("16 * 4", 64),
        ("[1] * 2 + [2]", [1, 1, 2]),
        ("-250.", -250.0),
        ("(1, 1)", (1, 1)),
        ("[0.8, ('linear', 0.7, 0.9)]", [0.8, ("linear", 0.7, 0.9)]),
        ("2 ** 3 // 3  # a remark", 2),
        ("None", None),
    ],
)
def test_literals_and_arithmetic(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch /tmp/owned')",
        "().__class__",
        "[x for x in (1,)]",
        "lambda: 1",
        "1 if 2 else 3",
        "9 ** 9 ** 9",
        "[0] * 10 ** 9",
        "1 / 0",
        "'a' + 1",
        "(",
    ],
)
def test_everything_else_is_refused(text):
    with pytest.raises((ValueError, NameError)):
        evaluate(text)


def test_names_stay_text_and_bad_values_are_named():
    assert parse_hparams("[a]\nb = word\n[run]\nname = 12")["a"] == {"b": "word"}
    assert parse_hparams("[run]\nname = 12")["run"]["name"] == "12"
    with pytest.raises(UserError, match=r"a\.b"):
        parse_hparams("[a]\nb = f(1)")
    with pytest.raises(UserError, match="INI"):
        parse_hparams("no section")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("up_filters = [4, 6, 6]", "up_filters = [5, 6, 6]", "stride 1"),
        ("up_strides = [1] + [2, 1]", "up_strides = [1, 1]", "different lengths"),
        ("num_output_mixtures = 1", "", "num_output_mixtures"),
        ("input_kernel_size = (1, 1)", "input_kernel_size = (1, 3)", "square"),
        ("down_filters = [6, 4, 4]", "down_filters = 4", "do not fit"),
    ],
)
def test_impossible_settings_are_named(old, new, message):
    with pytest.raises(UserError, match=message):
        network_arguments(parse_hparams(CONFIG.replace(old, new)))
