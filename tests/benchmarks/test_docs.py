"""The pages say what the code does: their examples run, their links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def test_the_model_of_the_guide_prices_trains_samples_and_codes():
    names = {}
    for block in blocks(ROOT / "docs" / "adding-a-model.md", "python"):
        exec(compile(block, "adding-a-model.md", "exec"), names)
    model, x = names["model"], names["x"]
    terms = model.terms(x)
    assert terms.bits_per_dim().shape == (4,)
    assert list(terms.rates) == ["z"]
    assert model.sample(2, temperature=0.9).shape == (2, 3, 8, 8)
    assert torch.isfinite(model.objective(x).loss)
    passed = re.search(r"checked\.passed +# (\[.*\])", (ROOT / "docs" / "adding-a-model.md").read_text())[1]
    assert names["checked"].passed == eval(passed)
    assert list(names["checked"].skipped) == ["normalised"]

    from zoo.codec import Options, measure

    found = measure(model, b"0" * 12, x, Options(4, True))
    assert found.exact
    assert found.report.net == pytest.approx(found.report.bound, rel=0.02)


def zoo(folder, *arguments):
    """A command in a folder of its own, whose modules can be imported."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-m", "zoo", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_model_of_the_guide_is_trained_priced_and_coded_as_printed(tmp_path):
    page = ROOT / "docs" / "adding-a-model.md"
    (tmp_path / "small_vae.py").write_text(blocks(page, "python")[0])
    (tmp_path / "small_vae.yaml").write_text(blocks(page, "yaml")[0])
    lines = re.findall(r"^zoo .*$", page.read_text(), re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["fit", "test", "sample", "compress", "decompress"]
    for line in lines:
        zoo(tmp_path, *line.split()[1:])
    assert (tmp_path / "back" / "samples.png").is_file()


def test_the_table_of_the_guide_prints_what_the_guide_shows(tmp_path):
    page = ROOT / "docs" / "adding-a-table.md"
    (code,), (shown,), (points,) = (blocks(page, language) for language in ("python", "console", "toml"))
    name = re.search(r"`(\w+\.py)`", page.read_text())[1]
    (tmp_path / name).write_text(code)
    command, expected = shown.split("\n", 1)
    assert zoo(tmp_path, *command.removeprefix("$ zoo ").split()).strip() == expected.strip()
    zoo(tmp_path, "bench", "--plugins", "by_year", "--table", "by_year", "--augmented", "--output", "by_year.html")
    assert "arxiv.org" in (tmp_path / "by_year.html").read_text()

    installed = tmp_path / "by_year-1.0.dist-info"  # as pip leaves it of a package with these entry points
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: by-year\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[zoo.tables]\n" + points.split("\n", 1)[1].replace('"', ""))
    assert "PixelSNAIL" in zoo(tmp_path, "bench", "--table", "by_year")
    assert "by_year" in zoo(tmp_path, "bench", "--help")


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_commands_and_tables_that_pages_show_exist(page):
    from zoo.benchmarks.tables import TABLES
    from zoo.cli.main import find

    text = page.read_text()
    for command in re.findall(r"^(?:\$ )?zoo ([a-z]+[^\n]*)", "\n".join(blocks(page, "")), re.MULTILINE):
        assert find(command.split())
    own = set(re.findall(r'TABLES\["([a-z_]+)"\]', text))
    for table in re.findall(r"--table ([a-z_]+)", text):
        assert table in {*TABLES, *own, "all"}
    for config in re.findall(r"configs/[a-z0-9_/]+\.yaml", text):
        assert (ROOT / config).exists() or "small_vae" in config, config


@pytest.mark.slow
def test_the_library_example_of_the_readme_is_typed(tmp_path):
    (example,) = (block for block in blocks(ROOT / "README.md", "python") if "zoo.checkpoints" in block)
    program = tmp_path / "example.py"
    program.write_text(f"import torch\n\nx = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)\n{example}")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    exec(compile(program.read_text(), "README.md", "exec"), {})
