"""Tables of measured lines: every line is shown with the way back to it, and drawn where there is something to draw."""

import pytest

from tests.benchmarks.test_records import make_record
from zoo.benchmarks.records import Measurement, references
from zoo.benchmarks.tables import accuracy, demo, layers, neighbours, reconstruction, rejection, steps, tradeoffs
from zoo.errors import UserError


def line(question, subject="toy-8bit", settings=None, **values):
    return Measurement(question=question, subject=subject, settings=settings or {}, values=values)


@pytest.mark.parametrize(
    ("table", "lines", "plots"),
    [
        (reconstruction, [line("reconstruction", settings={"weights": "ab" * 32}, ssim=0.9, **{"psnr dB": 30.0})], 2),
        (rejection, [line("rejection", settings={"keep": share}, precision=share) for share in (1.0, 0.5)], 1),
        (steps, [line("steps", steps=count, bits_per_dim=3.0) for count in (10.0, 100.0)], 1),
        (layers, [line("layers", f"small, {n} layers", stochastic_layers=n, parameters=n, bits_per_dim=5.0 - n / 10)
                  for n in (4.0, 7.0, 14.0)], 4),
        (accuracy, [line("accuracy", settings={"trained on": "samples"}, **{"top1 %": 12.5})], 0),
        (neighbours, [line("neighbours", settings={"among": 10}, **{"nearest sample": 0.25})], 0),
    ],
)  # fmt: skip
def test_every_line_is_shown_and_drawn(table, lines, plots):
    built = table.build([make_record(), *lines], references.load())
    shown = {(cell.value, cell.record["experiment"]) for cell in built.cells() if cell.record}
    for wanted in lines:
        assert (wanted.values[list(wanted.values)[-1]], wanted.subject) in shown
    assert sum(bool(plot.curves) for plot in [*built.plots, *(p for s in built.sections for p in s.plots)]) >= plots
    empty = table.build([], references.load())
    assert not any(cell.record for cell in empty.cells())
    assert empty.expects if empty.empty else empty.sections


def test_the_newest_line_of_a_question_counts():
    lines = [
        line("accuracy", settings={"trained on": "real", "images": 5}, **{"top1 %": share}) for share in (1.0, 2.0)
    ]
    measured = accuracy.build(lines, references.load()).sections[0]
    assert [row[-1].value for row in measured.rows] == [2.0]


@pytest.mark.parametrize("table", [demo, tradeoffs])
def test_a_data_set_without_records_gets_the_names_of_those_that_have_some(table):
    with pytest.raises(UserError, match="did you mean 'photos'"):
        table.build([make_record()], references.load(), dataset="photo")
