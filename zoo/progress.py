"""One progress display for all long work: a bar on a terminal, now and then a line in a log, nothing for short work."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Report = Callable[[str, int, int], None]
"""Called with what is done, how much of it is done, and how much there is (0 if unknown)."""

EVERY = 20.0  # seconds between two lines in a log


@contextmanager
def reporting() -> Iterator[Report]:
    """A display of any number of tasks, told apart by their names.

    Yields:
        The function to report with; standard error shows it, so that what a command prints stays clean.

    Example:
        >>> with reporting() as report:
        ...     report("pricing", 1, 2)
    """
    if not (sys.stderr and sys.stderr.isatty()):
        yield _Log()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=Console(stderr=True), transient=True) as display:
        tasks: dict[str, Any] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = display.add_task(what, total=total or None)
            display.update(tasks[what], completed=done, total=total or None)

        yield report


@contextmanager
def counting(what: str, total: int = 0) -> Iterator[Callable[[int], None]]:
    """A display of one task.

    Args:
        what: its name.
        total: how much there is, 0 if unknown.

    Yields:
        A function to call with the number of things done since the last call.
    """
    done = 0
    with reporting() as report:

        def step(count: int) -> None:
            nonlocal done
            done += count
            report(what, done, total)

        yield step


@dataclass
class _Log:
    """Lines for a log: none in the first seconds, then one every now and then, with the time that is left."""

    started: float | None = None
    spoken: float = 0.0
    task: str = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say where the task is, if it is time."""
        now = time.monotonic()
        if what != self.task or self.started is None:
            self.task, self.started, self.spoken = what, now, now
        if now - self.spoken < EVERY or sys.stderr is None:
            return
        self.spoken = now
        left = f", {duration((now - self.started) * (total - done) / done)} left" if 0 < done <= total else ""
        print(f"{what}: {done:,}{f' of {total:,}' if total else ''}{left}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """A duration as people say it."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{seconds} s"
