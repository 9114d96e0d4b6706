"""Every likelihood model is a lossless codec; the bytes prove the bound.

Reading order: `bits_back` (one batch), `grid` and `symbols` (latents and pixels as integers), `stack` (the coder),
`stream` and `decoding` (a whole file), `container` (its bytes).
"""

from zoo.codec.container import Entry, Header, Limits, pack, unpack
from zoo.codec.decoding import decode
from zoo.codec.environment import environment
from zoo.codec.images import find_images, from_batch, open_image, save_image
from zoo.codec.measure import Measurement, measure
from zoo.codec.names import check_names, given_name
from zoo.codec.stack import StackError
from zoo.codec.stream import Image, Options, Report, encode

__all__ = [
    "Entry",
    "Header",
    "Image",
    "Limits",
    "Measurement",
    "Options",
    "Report",
    "StackError",
    "check_names",
    "decode",
    "encode",
    "environment",
    "find_images",
    "from_batch",
    "given_name",
    "measure",
    "open_image",
    "pack",
    "save_image",
    "unpack",
]
