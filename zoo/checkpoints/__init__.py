"""Checkpoints: our self-describing files, and importers for official ones. torch is loaded with the first of them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.checkpoints.convert import SOURCES
    from zoo.checkpoints.hub import create_model, push_to
    from zoo.checkpoints.specification import build
    from zoo.checkpoints.store import (
        Contents,
        Loaded,
        fit_weights,
        load,
        names,
        read,
        resolve,
        save,
        weights_digest,
    )

__all__ = [
    "SOURCES",
    "Contents",
    "Loaded",
    "build",
    "create_model",
    "fit_weights",
    "load",
    "names",
    "push_to",
    "read",
    "resolve",
    "save",
    "weights_digest",
]
_ELSEWHERE = {"SOURCES": "convert", "build": "specification", "create_model": "hub", "push_to": "hub"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(f"zoo.checkpoints.{_ELSEWHERE.get(name, 'store')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
