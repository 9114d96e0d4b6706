"""Reading the pickles that CIFAR-10 and ImageNet 32/64 came in, without letting them run anything."""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np

from zoo.errors import UserError

_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
}


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand-in for `_codecs.encode`, by which Python 3 writes bytes in protocol 2; latin1 only."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"encoding {encoding} is not allowed")
    return text.encode("latin1")


class _Restricted(pickle.Unpickler):
    """Knows arrays, numbers, strings, lists and dicts; every other global is an error."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up one of the allowed globals."""
        if (module, name) == ("_codecs", "encode"):
            return _encode
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
    except Exception as error:  # a hostile pickle can raise nearly anything
        raise UserError(f"{name}: refused as a dataset batch ({error}); get the official file again") from error
    if not isinstance(batch, dict):
        raise UserError(f"{name}: expected a dictionary, found {type(batch).__name__}; get the official file again")
    return {key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in batch.items()}
