"""The campaigns of damage and kills in a short form; the long ones and their tables are in scripts/campaigns."""

import pytest

from scripts.campaigns import damaged_data, killed_preparations


@pytest.mark.parametrize("name", damaged_data.KINDS)
def test_damaged_files_end_right_or_in_one_clear_error(name):
    if name == "LMDB":
        pytest.importorskip("lmdb")
    counts, complaints = damaged_data.campaign(name, tries=12, seed=1)
    assert complaints == []
    assert counts.total() >= 4


@pytest.mark.slow
@pytest.mark.parametrize("name", killed_preparations.COMMANDS)
def test_killed_commands_leave_nothing_torn(name):
    counts = killed_preparations.campaign(name, kills=2, seed=1)
    assert {outcome for outcome in counts if outcome in killed_preparations.BAD} == set()
