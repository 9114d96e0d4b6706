"""Reads flax checkpoints (msgpack) with numpy and msgpack alone: no jax, no flax, nothing in the file is executed.

The container: nested maps whose arrays are msgpack extension type 1, each holding msgpack (shape, dtype name, raw
little-endian bytes in C order); type 2 is a complex number, type 3 a numpy scalar. Arrays beyond 1 GiB are split into
chunks under a marker key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from zoo.errors import UserError
from zoo.torchfiles import kind_of_file

_DTYPES = frozenset(
    ["bool", "complex64", "complex128", "float16", "float32", "float64"]
    + [f"{sign}int{size}" for sign in ("", "u") for size in (8, 16, 32, 64)]
)
_CHUNKED = "__msgpack_chunked_array__"


def read_flax(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a flax checkpoint.

    Args:
        path: a file written by `flax.serialization.to_bytes` or `flax.training.checkpoints`.

    Returns:
        Nested dicts with numpy arrays and plain values at the leaves. bfloat16 arrays come back as float32.

    Raises:
        UserError: the file is missing, damaged or no flax checkpoint.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"{file}: no such checkpoint file; give the path of an existing one")
    try:
        tree = msgpack.unpackb(file.read_bytes(), ext_hook=_extension, raw=False, strict_map_key=False)
        tree = _join_chunks(tree)
    except Exception as error:  # what damage makes the readers raise is of every kind
        reason = kind_of_file(file) or " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{file}: damaged or not a flax checkpoint ({reason}); copy or download it again") from error
    if not isinstance(tree, dict):
        raise UserError(f"{file}: expected a flax checkpoint (a map of arrays), found a {type(tree).__name__}")
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts -> one dict whose keys are joined by '/'; empty branches vanish.

    Example:
        >>> flatten({"a": {"b": 1, "c": {}}})
        {'a/b': 1}
    """
    return dict(_leaves(tree, prefix))


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _array(payload: bytes) -> np.ndarray:
    """Decode (shape, dtype name, bytes); the sizes must agree."""
    shape, name, data = msgpack.unpackb(payload, raw=True)
    name = name.decode("ascii")
    shape = tuple(int(side) for side in shape)
    if any(side < 0 for side in shape):
        raise ValueError(f"array of shape {shape}")
    if name == "bfloat16":  # the upper half of a float32
        halves = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        return halves.view(np.float32).reshape(shape)
    if name not in _DTYPES:
        raise ValueError(f"array of unknown type {name!r}")
    dtype = np.dtype(name).newbyteorder("<")
    if len(data) != prod(shape) * dtype.itemsize:
        raise ValueError(f"array of shape {shape} and type {name} with {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _extension(code: int, payload: bytes) -> Any:
    if code == 1:
        return _array(payload)
    if code == 2:
        real, imaginary = msgpack.unpackb(payload)
        return complex(real, imaginary)
    if code == 3:
        return _array(payload)[()]
    raise ValueError(f"unknown extension type {code}")


def _join_chunks(tree: Any) -> Any:
    """Put arrays that were split for their size together again."""
    if not isinstance(tree, dict):
        return tree
    if _CHUNKED in tree:
        shape = [tree["shape"][str(i)] for i in range(len(tree["shape"]))]
        chunks = [tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]
        return np.concatenate([chunk.ravel() for chunk in chunks]).reshape(shape)
    return {key: _join_chunks(value) for key, value in tree.items()}
