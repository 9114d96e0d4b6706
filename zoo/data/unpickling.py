"""Reading the pickles that CIFAR-10 and ImageNet 32/64 came in, without letting them run or claim anything.

The machine is Python's own (`pickle._Unpickler`), with three changes: the few names that such a file may use are
stand-ins of ours that only collect what they are given; the steps are counted; and the codes that reserve memory for
what is not there are left out. Arrays are made at the end, from bytes that were really in the file.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.errors import UserError

MAX_STEPS = 20_000_000  # ten times what a tenth of ImageNet takes
_LEFT_OUT = (pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EXT1, pickle.EXT2, pickle.EXT4)


class _Type:
    """Stand-in for `numpy.dtype`."""

    def __init__(self, name: Any = "", *rest: Any) -> None:
        self.name, self.order = name, "|"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def real(self) -> np.dtype[Any]:
        name, order = (
            part.decode("ascii") if isinstance(part, bytes) else str(part) for part in (self.name, self.order)
        )
        found = np.dtype(name).newbyteorder(order if order in ("<", ">") else "=")  # type: ignore[arg-type]
        if found.hasobject or found.kind not in "biuf":
            raise pickle.UnpicklingError(f"arrays of {found} are not allowed")
        return found


class _Array:
    """Stand-in for an array."""

    def __init__(self, *start: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def real(self) -> np.ndarray:
        _, shape, kind, fortran, content = self.state
        if isinstance(content, str):
            content = content.encode("latin1")
        return np.frombuffer(content, kind.real()).reshape(shape, order="F" if fortran else "C")


class _Name:
    """Stand-in for `numpy.ndarray`, which is only ever named."""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand-in for `_codecs.encode`, by which Python 3 writes bytes in protocol 2; latin1 only."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding} is not allowed")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Name,
    ("numpy", "dtype"): _Type,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("_codecs", "encode"): _encode,
}


def _counted(step: Callable[[Any], None]) -> Callable[[Any], None]:
    def run(machine: Any) -> None:
        machine.steps += 1
        if machine.steps > MAX_STEPS:
            raise pickle.UnpicklingError("it takes more steps than a batch of images does")
        step(machine)

    return run


class _Restricted(pickle._Unpickler):  # the one written in Python
    """Knows arrays, numbers, strings, lists and dicts; every other global is an error."""

    steps = 0
    dispatch = {  # noqa: RUF012 - as in the class above
        code: _counted(step)
        for code, step in pickle._Unpickler.dispatch.items()
        if code not in {left_out[0] for left_out in _LEFT_OUT}
    }

    def find_class(self, module: str, name: str) -> Any:
        """Look up one of the allowed globals."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def load_batch(content: bytes, name: str) -> dict[str, Any]:
    """Dictionary of a dataset batch, keys as text.

    Args:
        content: the pickle.
        name: for messages.

    Raises:
        UserError: damaged, no dictionary, or holding anything but arrays, lists, strings and numbers.
    """
    try:
        batch = _Restricted(io.BytesIO(content), encoding="bytes").load()
        if isinstance(batch, dict):
            batch = {key: value.real() if isinstance(value, _Array) else value for key, value in batch.items()}
    except Exception as error:  # a hostile pickle can raise nearly anything
        text = " ".join(str(error).split())[:200]
        raise UserError(f"{name}: refused as a dataset batch ({text}); get the official file again") from error
    if not isinstance(batch, dict):
        raise UserError(f"{name}: expected a dictionary, found {type(batch).__name__}; get the official file again")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in batch.items()}
