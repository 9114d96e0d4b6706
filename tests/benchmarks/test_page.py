"""The leaderboard page in a real browser: it sorts, filters, links, and fits a telephone."""

import re

import pytest

from tests.benchmarks.browser import browser, needed
from zoo.benchmarks import records, render, tables
from zoo.benchmarks.records import references
from zoo.benchmarks.render import Column, Section, Table, number, word

pytestmark = needed

RECORD = {"experiment": "ours-8bit", "dataset": "photos", "images": 4, "command": "zoo test CKPT --passes 2"}


def rows(bits):
    at = lambda value, **about: number(value, 2, **about)  # noqa: E731
    return [
        [word("ten"), at(10.0, kind="exact"), at(None)],
        [word("nine"), at(9.0, kind="bound", link="https://example.org/paper"), at(8.5, kind="bound", record=RECORD)],
        [word("none"), at(None), at(0.5, kind="bound") if bits else at(None)],
    ]


COLUMNS = [Column("model", numeric=False), Column("8 bits", bits=8), Column("5 bits", bits=5)]
TABLES = [
    Table("first", "First", [
        Section("One", COLUMNS, rows(True), dataset="CIFAR-10 32x32"),
        Section("Two", COLUMNS, rows(False), dataset="ImageNet 32x32", variant="old-small"),
    ]),
    Table("second", "Second", [Section("Three", COLUMNS, rows(False), dataset="ImageNet 32x32", variant="new-box")]),
]  # fmt: skip
SHOWN = "[...document.querySelectorAll('%s')].filter(e => e.offsetParent !== null).map(e => e.textContent)"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "small.html"
    path.write_text(render.render(TABLES, "html"), encoding="utf-8")
    with browser() as found:
        found.path = path
        yield found


def choose(page, **wanted):
    for name, value in wanted.items():
        kind = "checked" if isinstance(value, bool) else "value"
        page.run(f"document.forms[0].elements['{name}'].{kind} = {value!r}".replace("True", "true"))
    page.run("document.forms[0].dispatchEvent(new Event('input'))")


def test_a_heading_sorts_by_the_numbers_behind_the_text_and_empty_cells_stay_last(page):
    page.open(page.path)
    click = "document.querySelector('section th:nth-child(2) button').click()"
    one = (
        "[...document.querySelectorAll('section')[0].querySelectorAll('tbody td:first-child')].map(e => e.textContent)"
    )
    page.run(click)
    assert page.run(one) == ["nine", "ten", "none"]
    assert page.run("document.querySelector('section th:nth-child(2)').getAttribute('aria-sort')") == "ascending"
    page.run(click)
    assert page.run(one) == ["ten", "nine", "none"]


@pytest.mark.parametrize(
    ("wanted", "headings", "count"),
    [
        ({}, ["One", "Two", "Three"], 9),
        ({"dataset": "ImageNet 32x32"}, ["Two", "Three"], 6),
        ({"variant": "new-box"}, ["Three"], 3),
        ({"bits": "5"}, ["One", "Two", "Three"], 4),
        ({"kind": "exact"}, ["One", "Two", "Three"], 3),
        ({"measured": True}, ["One", "Two", "Three"], 3),
        ({"words": "ten"}, ["One", "Two", "Three"], 3),
        ({"dataset": "CIFAR-10 32x32", "kind": "bound", "bits": "5"}, ["One"], 2),
        ({"words": "nobody"}, [], 0),
    ],
)
def test_filters_keep_what_matches_and_hide_empty_headings(page, wanted, headings, count):
    page.open(page.path)
    choose(page, **wanted)
    assert page.run(SHOWN % "main h3") == headings
    assert page.run("document.getElementById('count').textContent") == f"{count} rows"
    assert len(page.run(SHOWN % "main tbody tr")) == count
    assert page.run("document.getElementById('nothing').hidden") is (count > 0)
    if "bits" in wanted:
        assert "8 bits" not in page.run(SHOWN % "main th")
    query = page.run("location.search")
    page.open(page.path, query=query)  # the address keeps the choice
    assert page.run("document.getElementById('count').textContent") == f"{count} rows"


def test_numbers_link_to_papers_and_records(page):
    page.open(page.path)
    assert page.run("document.querySelector('td a[target]').href") == "https://example.org/paper"
    page.run("document.querySelector('td.measured a').click()")
    page.run("new Promise(go => setTimeout(go, 50))")
    assert page.run("document.querySelector('details:target').open")
    assert page.run("document.querySelector('details:target code').textContent") == RECORD["command"]
    why = page.run("document.querySelector('td.empty').title")
    assert why
    page.run("document.querySelector('td.empty').click()")
    assert page.run("document.getElementById('toast').textContent") == why


def test_colours_follow_the_system_and_the_button(page):
    ground = "getComputedStyle(document.body).backgroundColor"
    page.open(page.path)
    light = page.run(ground)
    page.open(page.path, dark=True)
    dark = page.run(ground)
    assert light != dark
    page.run("document.getElementById('theme').click()")
    assert page.run(ground) == light
    page.run("document.getElementById('theme').click()")
    assert page.run(ground) == dark


def test_the_whole_board_fits_a_telephone_and_needs_no_other_file(page, tmp_path):
    built = tables.build_all(records.collect(), references.load())
    path = tmp_path / "board.html"
    path.write_text(render.render(built, "html"), encoding="utf-8")
    for width in (360, 1280):
        page.open(path, width=width, height=800)
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run("[...document.querySelectorAll('h1, h2, h3, p, .filters')].every("
                        "e => e.getBoundingClientRect().right <= innerWidth + 1)")  # fmt: skip
    assert page.run("performance.getEntriesByType('resource').length") == 0
    broken = "[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.getElementById(a.hash.slice(1)))"
    assert page.run(f"{broken}.length") == 0
    assert page.run("document.querySelectorAll('td[data-refs] a').length") > 300
    assert page.run("document.querySelectorAll('svg.plot').length") >= 5
    ids = re.findall(r' id="([^"]+)"', path.read_text(encoding="utf-8"))
    assert len(ids) == len(set(ids))
