"""The one exception for what a user can put right."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in the user's input.

    The message is one line: it names the file, key or value, says what was expected and what to do. The command line
    prints it without a traceback and exits with status 2.
    """


def closest(word: str, choices: Iterable[str]) -> str:
    """Hint for a misspelt word.

    Args:
        word: what the user wrote.
        choices: what would have been accepted.

    Returns:
        A phrase to put behind the message: the nearest accepted word, or all of them when none is near.

    >>> closest("vdave", ["vdvae", "vdm"])
    "did you mean 'vdvae'?"
    >>> closest("xyz", ["vdvae", "vdm"])
    'choose from: vdm, vdvae'
    """
    ordered = sorted(set(choices))
    lowered = {choice.lower(): choice for choice in ordered}
    near = difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{lowered[near[0]]}'?"
    return f"choose from: {', '.join(ordered)}" if ordered else "nothing to choose from"
