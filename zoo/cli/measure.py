"""`zoo measure QUESTION CKPT`: ask a checkpoint, a configuration or this machine, and append the records."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UserError

if TYPE_CHECKING:
    from zoo.benchmarks.records import Line


def measure(*rest: str) -> int:
    """Answer a question and append the records.

    Args:
        rest: the question, what it is asked of, and its options.
    """
    from zoo.benchmarks import measures
    from zoo.cli.reader import call

    question, *words = rest or ("--help",)
    if question == "--help":
        print(overview())
        return 0
    if question.startswith("-"):
        raise UserError(f"zoo measure {question}: expected a question first; `zoo measure --help` lists them")
    return call(storing(measures.find(question)), words, f"measure {question}")


def overview() -> str:
    """The text of `zoo measure --help`."""
    from zoo.benchmarks.measures import QUESTIONS

    width = max(map(len, QUESTIONS))
    rows = "\n".join(f"  {name:<{width}}  {question.summary}" for name, question in QUESTIONS.items())
    return (
        "usage: zoo measure QUESTION [CKPT] [--records PLACE] [OPTIONS]\n\n"
        "Measures, prints every number and appends it to the records; `zoo bench --table NAME` shows them.\n"
        "CKPT `all` means every checkpoint that ships. `zoo measure QUESTION --help` shows a question's options.\n\n"
        f"questions:\n{rows}"
    )


def storing(function: Callable[..., Iterator[Line]]) -> Callable[..., None]:
    """The function with the further option `records`; it prints and stores what the function yields.

    What is asked (`checkpoint`, `source`) is given as a word, everything else as an option.
    """
    hints = typing.get_type_hints(function)
    own = []
    for parameter in inspect.signature(function).parameters.values():
        word = parameter.name in ("checkpoint", "source")
        kind = parameter.POSITIONAL_OR_KEYWORD if word else parameter.KEYWORD_ONLY
        own.append(parameter.replace(annotation=hints[parameter.name], kind=kind))
    place = inspect.Parameter("records", inspect.Parameter.KEYWORD_ONLY, default="records", annotation=str)
    signature = inspect.Signature([*own, place])

    def answer(*words: str, **options: Any) -> None:
        _store(function, signature.bind(*words, **options).arguments)

    answer.__signature__ = signature  # type: ignore[attr-defined]
    head, found, tail = (inspect.getdoc(function) or "").partition("Args:\n")
    entry = "    records: folder the records go to, or one file (.jsonl).\n"
    answer.__doc__ = f"{head}{found}{entry}{tail}" if found else f"{head}\n\nArgs:\n{entry}"
    return answer


def _store(function: Callable[..., Iterator[Line]], options: dict[str, Any]) -> None:
    """Try the place, then print and append every record as soon as it is known."""
    from zoo.benchmarks import records as store

    root = options.pop("records")
    store.try_place(root)
    for given in _each(options):
        for line in function(**given):
            print(summary(line), flush=True)
            target = store.place(root, line)
            store.append(target, line)
            print(f"record appended to {target}", flush=True)


def _each(options: dict[str, Any]) -> Sequence[dict[str, Any]]:
    """The options once, or once for every checkpoint that ships."""
    if options.get("checkpoint") != "all":
        return [options]
    from zoo.checkpoints import names

    return [{**options, "checkpoint": name} for name in names()]


def summary(line: Line) -> str:
    """A record in one line of text."""
    from zoo.benchmarks.records import Measurement, Record

    if isinstance(line, Record):
        unit = "bits/dim" if line.priced == "pixels" else "bits/code"
        coded = "" if line.coded_net is None else f"; coded {line.coded_net:.4f} of {line.coded_estimate:.4f}"
        return (
            f"{line.config}: {line.bits_per_dim:.4f} +- {line.standard_error:.4f} {unit} (rate {line.rate:.4f}, "
            f"distortion {line.distortion:.4f}; {line.bits} bits, {line.bins}, {line.kind}{coded}) over "
            f"{line.images} images of {line.dataset}/{line.split}"
        )
    assert isinstance(line, Measurement)
    what = ", ".join(str(value) for value in line.settings.values() if not isinstance(value, float))
    numbers = ", ".join(f"{name} {value:.6g}" for name, value in line.values.items())
    return f"{line.question}, {line.subject} ({what}): {numbers}"
