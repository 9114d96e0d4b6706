"""The wheel is complete: from an empty folder, without the repository, the main commands work."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("hatchling", reason="builds the wheel")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked as an installer does."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        [
            "fit",
            "--config",
            "vdvae_photos_8bit",
            "--run_dir",
            "run",
            "--trainer.max_steps",
            "1",
            "--trainer.max_time=null",
        ],
        ["sample", "vdvae-photos-8bit", "--n", "1", "--output", "sample.png"],
        ["test", "vdvae-photos-5bit", "--data.limit", "1"],
        ["bench", "--table", "nll"],
        ["push", "vdvae-photos-5bit", "hub"],
    ],
    ids=lambda words: words[0],
)
def test_the_main_commands_work_from_an_empty_folder(words: list[str], installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "zoo", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
