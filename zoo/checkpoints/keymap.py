"""Tables that translate the parameter names of other code into ours.

An importer is a list of rules. A rule has a template of the foreign name, with `{i}`-like holes for numbers, and what
becomes of it: the template of our name, or `None` for what is left out on purpose. Every foreign key must match exactly
one rule, and no two may land on the same name; anything else is an error that names the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from zoo.errors import UserError

Array = TypeVar("Array")
Holes = dict[str, int]


@dataclass(frozen=True)
class Rule:
    """One line of a key table.

    Attributes:
        source: template of the foreign name; `{name}` stands for a whole number, `{a|b}` for one of some words.
        target: template of our name with the same holes, a function of the holes, or None to leave the key out.
        convert: rearranges the tensor (a transpose, a reshape); None keeps it.
    """

    source: str
    target: str | Callable[[Holes], str] | None
    convert: Callable[[Any], Any] | None = None

    def match(self, key: str) -> dict[str, str] | None:
        """The contents of the holes if the key fits the template, else None."""
        found = re.fullmatch(_pattern(self.source), key)
        return None if found is None else found.groupdict()


@cache
def _pattern(template: str) -> str:
    """Regular expression of a template: {name} -> digits, {name:a|b} -> one of the words."""
    parts = re.split(r"(\{[^}]*\})", template)
    out = []
    for part in parts:
        if part.startswith("{"):
            name, _, words = part[1:-1].partition(":")
            choices = "|".join(re.escape(word) for word in words.split("|")) if words else r"\d+"
            out.append(f"(?P<{name}>{choices})")
        else:
            out.append(re.escape(part))
    return "".join(out)


def translate(weights: Mapping[str, Array], rules: Sequence[Rule], source: str) -> dict[str, Array]:
    """Rename and rearrange foreign weights.

    Args:
        weights: foreign name -> array.
        rules: the table.
        source: file name, for errors.

    Returns:
        our name -> array.

    Raises:
        UserError: if a key fits no rule or two rules, or two keys land on one name.

    Example:
        >>> translate({"enc.3.w": 1}, [Rule("enc.{i}.{p:w|b}", "encoder.{i}.{p}")], "file.th")
        {'encoder.3.w': 1}
    """
    ours: dict[str, Array] = {}
    for key, array in weights.items():
        matches = [(rule, holes) for rule in rules if (holes := rule.match(key)) is not None]
        if len(matches) != 1:
            problem = "is not a key of this format" if not matches else f"fits {len(matches)} rules"
            raise UserError(f"{source}: {key!r} {problem}; is it the right kind of checkpoint?")
        rule, holes = matches[0]
        if rule.target is None:
            continue
        target = _fill(rule.target, holes)
        if target in ours:
            raise UserError(f"{source}: two keys become {target!r} (second is {key!r})")
        ours[target] = array if rule.convert is None else rule.convert(array)
    return ours


def _fill(target: str | Callable[[Holes], str], holes: dict[str, str]) -> str:
    if callable(target):
        return target({name: int(value) for name, value in holes.items() if value.isdigit()})
    return target.format(**holes)
