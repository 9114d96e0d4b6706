"""Likelihood models of images side by side.

Importing the package imports nothing heavy: `torch` is loaded by the modules that compute.
"""

from zoo.allocator import tune_allocator

__all__ = ["__version__", "tune_allocator"]
__version__ = "0.1.0"
