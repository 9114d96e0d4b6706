"""The examples, as a user runs them: in their own folder, from training to the board."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
MODELS = {
    "one_layer_vae": "OneLayerVAE(image_size=4, bits=1, width=8, latents=1, mixtures=2)",
    "pixelcnn": "PixelCNN(image_size=3, bits=1, width=8, layers=1)",
    "integer_flow": "IntegerFlow([1, 2, 2], bits=2, width=8, couplings=2)",
}


def run(*command: object, cwd: Path, plugins: str = "") -> str:
    """Run Python in a folder, with the examples importable; anything but status 0 fails the test."""
    paths = [str(ROOT), str(EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), "ZOO_PLUGINS": plugins}
    process = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, text=True, capture_output=True, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(path):
    assert path.read_text().count("\n") < 80


@pytest.mark.parametrize("name", MODELS)
def test_models_keep_their_promises(name, tmp_path):
    class_name = MODELS[name].partition("(")[0]
    code = f"from zoo.testing import check_model; from {name} import {class_name}; "
    printed = run("-c", code + f"print(check_model({MODELS[name]}).passed)", cwd=tmp_path)
    assert {"terms", "tables", "coded"} <= set(ast.literal_eval(printed))
    # All images of a tiny exact model can be enumerated; those of the VAE are too many, its tables sum to one instead.
    assert "normalised" in printed or name == "one_layer_vae"


@pytest.mark.slow
def test_a_model_and_a_table_of_ones_own_from_training_to_the_board(tmp_path):
    plugins = "one_layer_vae,best_table"

    def zoo(*words: object) -> str:
        return run("-m", "zoo", *words, cwd=tmp_path, plugins=plugins)

    zoo("fit", "--config", EXAMPLES / "one_layer_vae.yaml", "--trainer.max_steps", 3, "--run_dir", "run")
    zoo("test", "run", "--records", "records")
    zoo("sample", "run", "--n", 2, "--output", "samples.png")
    picture = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    zoo("compress", "run", "picture.png", "--output", "picture.zoo")
    zoo("decompress", "run", "picture.zoo", "--output", "back")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "back" / "picture.png")), picture)
    assert "photos" in zoo("bench", "--table", "best", "--records", "records", "--format", "markdown")
    assert "OneLayerVAE" in zoo("bench", "--table", "nll", "--records", "records", "--format", "markdown")
    without = subprocess.run(
        [sys.executable, "-m", "zoo", "test", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ZOO_PLUGINS": ""},
        text=True,
        capture_output=True,
        check=False,
    )
    assert without.returncode == 2
    assert "--plugins" in without.stderr
