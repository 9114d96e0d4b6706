"""The one exception for what a user can put right."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


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


@contextlib.contextmanager
def reading(name: object, advice: str = "it may be damaged; get or make it again") -> Iterator[None]:
    """Boundary around a reader: whatever it raises over a damaged or odd file becomes one line that names the file.

    Args:
        name: the file.
        advice: what to do.

    Raises:
        UserError: instead of any other error; a `UserError` passes as it is.

    >>> with reading("a.png", "get it again"):
    ...     raise IndexError("no row 3")
    Traceback (most recent call last):
    ...
    zoo.errors.UserError: a.png: cannot be read (IndexError: no row 3); get it again
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{name}: reading it needs more memory than there is; {advice}") from error
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{name}: cannot be read ({type(error).__name__}: {text}); {advice}") from error
