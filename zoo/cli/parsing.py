"""Errors of jsonargparse in one line, with the nearest accepted word."""

import difflib
import re

import zoo.models
from zoo.errors import closest


def explain(error: Exception, help_command: str) -> str:
    """What the user got wrong, in one line."""
    return f"{str(error).strip().splitlines()[0]}; see `{help_command}`"
