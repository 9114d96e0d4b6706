"""Every likelihood model is a lossless codec; the bytes prove the bound.

Reading order: `bits_back` (one batch), `grid` and `symbols` (latents and pixels as integers), `stack` (the coder),
`stream` (a whole file), `container` (its bytes).
"""

from zoo.codec.container import Header, pack, unpack
from zoo.codec.images import find_images, from_batch, open_image, save_image
from zoo.codec.measure import Measurement, measure
from zoo.codec.stack import StackError
from zoo.codec.stream import Image, Report, decode, encode, environment

__all__ = [
    "Header",
    "Image",
    "Measurement",
    "Report",
    "StackError",
    "decode",
    "encode",
    "environment",
    "find_images",
    "from_batch",
    "measure",
    "open_image",
    "pack",
    "save_image",
    "unpack",
]
