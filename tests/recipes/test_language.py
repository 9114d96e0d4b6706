"""The stage language, and changes to stages from outside."""

import pytest

from zoo.errors import UserError
from zoo.recipes.language import changed, checked, joined, merged, networks_of, options_for, references

STAGES = [
    {"name": "first", "model": {"network": {"class_path": "A", "init_args": {"head": {"width": 3}}}}},
    {"name": "codes", "call": "zoo.f", "arguments": {"checkpoint": "stage:first", "data": {"dataset": "photos"}}},
    {
        "name": "whole",
        "network": {"class_path": "B", "init_args": {"part": "spec:first", "w": "spec:first.init_args.head"}},
    },
]


def test_references_are_found_at_any_depth_and_networks_are_resolved():
    assert [references(stage) for stage in STAGES] == [[], ["first"], ["first", "first"]]
    config = {
        "stages": [*STAGES[:2], {"name": "last", "model": {"network": {"class_path": "C", "init_args": "spec:first"}}}]
    }
    assert dict(networks_of(config))["last"]["init_args"] == STAGES[0]["model"]["network"]


def test_options_reach_the_stages_they_name():
    words = ["--trainer.max_steps", "3", "--stages.first.model.lr=0.1", "--stages.codes.arguments.epochs", "2"]
    names = [stage["name"] for stage in STAGES]
    assert options_for("first", words, names) == ["--trainer.max_steps=3", "--model.lr=0.1"]
    assert options_for("codes", words, names) == ["--trainer.max_steps=3", "--arguments.epochs=2"]
    with pytest.raises(UserError, match="no stage 'frist'; did you mean 'first'"):
        options_for("first", ["--stages.frist.model.lr=1"], names)


def test_changes_leave_the_original_alone():
    before = {"a": {"b": 1, "c": [1]}}
    assert changed(before, ["--a.b=2", "--d.e", "text"]) == {"a": {"b": 2, "c": [1]}, "d": {"e": "text"}}
    assert merged(before, {"a": {"b": 3}}) == {"a": {"b": 3, "c": [1]}}
    assert before == {"a": {"b": 1, "c": [1]}}
    assert joined(["--a", "1", "--b", "--c=2"]) == ["--a=1", "--b", "--c=2"]


def test_a_stage_may_refer_only_to_earlier_ones():
    with pytest.raises(UserError, match="'codes' refers to 'first', which does not come before it"):
        checked([STAGES[1], STAGES[0]], "f.yaml")
    assert checked(STAGES, "f.yaml") == STAGES
