import csv
import io
import json
from html.parser import HTMLParser

import pytest

from zoo.benchmarks import render
from zoo.benchmarks.render import Cell, Column, Section, Table, number, word
from zoo.errors import UserError

TABLE = Table(
    name="t",
    title="A <title> & more",
    sections=[
        Section(
            "one | two",
            [Column("model", numeric=False), Column("8 bits, measured")],
            [[word("a|b <i>"), number(1.23456, 3, prefix="≤ ", marks=["*"])], [word("c"), number(None)]],
            note="note",
        )
    ],
    marks={"*": "augmented", "†": "unused"},
    notes=["end"],
)


@pytest.mark.parametrize("form", [form for form in render.FORMATS if form != "csv"])
def test_every_form_shows_values_marks_and_empty_cells(form):
    text = render.render(TABLE, form)
    for part in ("≤ 1.235", "not run", "augmented", "note", "end"):
        assert part in text
    assert "unused" not in text
    assert text.endswith("\n")


def test_json_keeps_numbers_unrounded():
    rows = json.loads(render.render(TABLE, "json"))["sections"][0]["rows"]
    assert rows[0][1] == {"text": "≤ 1.235", "value": 1.23456, "marks": ["*"]}
    assert rows[1][1]["value"] is None
    assert rows[1][1]["why"]


def test_csv_has_a_line_for_each_number_with_its_origin():
    record = {"experiment": "e", "weights": "w" * 64, "command": "zoo test CKPT", "images": 3}
    row = [
        word("m, n"),
        number(2.5, link="https://example.org", refs=["a.b"], kind="bound"),
        number(2.25, record=record),
    ]
    section = Section("s", [Column("model", numeric=False), Column("published"), Column("measured")], [row])
    published, measured = csv.DictReader(io.StringIO(render.render(Table("t", "t", [section]), "csv")))
    assert published["row"] == measured["row"] == "m, n"
    assert (published["value"], published["published_ids"], published["source"]) == (
        "2.5",
        "a.b",
        "https://example.org",
    )
    assert published["kind"] == "bound"
    assert (measured["value"], measured["weights"], measured["command"]) == ("2.25", "w" * 64, "zoo test CKPT")


def test_several_tables_go_into_one_file():
    for form in render.FORMATS:
        text = render.render([TABLE, Table("u", "Second", [])], form)
        assert "1.235" in text
        assert form == "csv" or "Second" in text


def test_markdown_rows_have_as_many_cells_as_the_head():
    lines = [line for line in render.render(TABLE, "markdown").splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


class _Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name == "src" or (name == "href" and tag != "a")]
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_closed_escaped_and_needs_no_other_file():
    page = render.render(TABLE, "html")
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.links == []
    assert "<i>" not in page


def test_a_mark_without_meaning_is_an_error():
    table = Table("t", "t", [Section("s", [Column("a")], [[Cell("1", 1, ("?",))]])])
    with pytest.raises(ValueError, match="without a meaning"):
        render.render(table, "markdown")


@pytest.mark.parametrize(
    ("wanted", "output", "expected"),
    [
        (None, None, "rich"),
        (None, "a.html", "html"),
        (None, "a.b/leaderboard.md", "markdown"),
        ("json", "a.md", "json"),
        (None, "noending", "markdown"),
    ],
)
def test_format_follows_flag_then_suffix(wanted, output, expected):
    assert render.choose_format(wanted, output) == expected


def test_unknown_format_gets_a_hint():
    with pytest.raises(UserError, match="did you mean 'markdown'"):
        render.choose_format("markdwon", None)
