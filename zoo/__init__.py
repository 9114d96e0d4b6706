"""Likelihood models of images side by side.

Importing the package imports nothing heavy: `torch` is loaded by the modules that compute.
"""

__version__ = "0.1.0"
