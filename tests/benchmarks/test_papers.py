"""The tables of the papers: every number is somewhere, and what reproduces it stands beside it and nowhere else."""

from zoo.benchmarks import records, tables
from zoo.benchmarks.records import references

PAPERS = ("child2020", "hazami2022", "kingma2021", "razavi2019", "luhman2023", "disputes", "lossless", "nll")


def test_every_published_number_is_in_some_table_and_links_to_its_source():
    known = references.load()
    cells = [cell for name in PAPERS for cell in tables.find(name)([], known).cells()]
    shown = {name for cell in cells for name in cell.refs}
    wanted = {n.id for n in known.numbers} | {d.id for d in known.depths} | {d.id for d in known.disputes}
    assert wanted - shown == set()
    assert all(cell.link.startswith("https://") for cell in cells if cell.refs and cell.value is not None and cell.link)
    numbers = {n.id: n for n in known.numbers}
    for cell in cells:
        held = [numbers[name] for name in cell.refs if name in numbers]
        assert not held or cell.link in {known.sources[number.source].url for number in held}
        for number in held:
            if number.unit != "nats/dim" and isinstance(cell.value, float):
                assert cell.value in (number.value, number.value * 1e6)


def test_no_cell_is_empty_without_a_reason():
    known = references.load()
    for table in tables.build_all(records.collect(), known):
        for section in table.sections:
            for row in section.rows:
                for column, cell in zip(section.columns, row, strict=True):
                    assert not (column.numeric and cell.empty) or cell.reason, (table.name, section.title, column.name)
        assert table.empty <= bool(table.expects), table.name
