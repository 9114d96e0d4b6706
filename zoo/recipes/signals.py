"""Being told to stop: Ctrl-C and SIGTERM end a training after the step in progress, with its state saved."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import torch

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop(SystemExit):
    """The run has saved its state and ends because of a signal.

    Attributes:
        code: exit status, 130 after SIGINT and 143 after SIGTERM.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)

    def __str__(self) -> str:
        return "Ctrl-C" if self.code == 128 + signal.SIGINT else "SIGTERM"


class Notice:
    """Remembers the first signal; a second one ends the process at once.

    A training asks `requested` between two batches, so signals never fall into the middle of a step or of a write.
    """

    def __init__(self) -> None:
        self._signum = 0
        self._before: dict[int, Any] = {}
        self._group: Any = None

    def listen(self) -> None:
        """Take over both signals; may be called again after someone else took them."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in SIGNALS:
            previous = signal.signal(signum, self._take)
            self._before.setdefault(signum, previous)

    def ignore(self) -> None:
        """Give the signals back to whom they belonged before."""
        while self._before:
            signum, handler = self._before.popitem()
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)

    def _take(self, signum: int, frame: FrameType | None) -> None:
        if self._signum:
            self.ignore()
            raise Stop(signum)
        self._signum = signum
        if os.environ.get("LOCAL_RANK", "0") == "0":
            print("\nstopping after this step; once more to stop at once", flush=True)

    @property
    def alone(self) -> int:
        """The signal that this process got, or 0."""
        return self._signum

    def requested(self, world_size: int = 1) -> int:
        """The signal that any of the processes got, or 0; all of them have to ask at the same point."""
        if world_size == 1:
            return self._signum
        if self._group is None:  # on the CPU, so that no accelerator has to wait
            self._group = torch.distributed.new_group(backend="gloo")
        flag = torch.tensor([self._signum])
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(flag.item())
