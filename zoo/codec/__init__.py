"""Every likelihood model is a lossless codec; the bytes prove the bound.

Reading order: `bits_back` (one batch), `grid` and `symbols` (latents and pixels as integers), `stack` (the coder),
`stream` (a whole file), `container` (its bytes).
"""

from zoo.codec.container import Header, pack, unpack
from zoo.codec.stack import StackError
from zoo.codec.stream import Image, Report, decode, encode, environment

__all__ = ["Header", "Image", "Report", "StackError", "decode", "encode", "environment", "pack", "unpack"]
