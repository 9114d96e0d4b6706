"""The pages say what the code does: their examples run, their links lead somewhere."""

import re
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

    from zoo.codec import Options, measure

    found = measure(model, b"0" * 12, x, Options(4, True))
    assert found.exact
    assert found.report.net == pytest.approx(found.report.bound, rel=0.02)


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
    for table in re.findall(r"--table ([a-z_]+)", text):
        assert table in TABLES
    for config in re.findall(r"configs/[a-z0-9_/]+\.yaml", text):
        assert (ROOT / config).exists() or "small_vae" in config, config
