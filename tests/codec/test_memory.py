"""Memory of the codec does not grow with the number of images, but for the compressed bytes themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import resource, sys
import numpy as np
from tests.codec.toy import ToyVAE
from zoo.codec import Image, decode, encode

def load(number):
    coarse = np.random.default_rng(number).integers(40, 200, (3, 8, 8)).astype(np.uint8)
    return np.kron(coarse, np.ones((1, 32, 32), np.uint8))  # (3, 256, 256)

count = int(sys.argv[1])
images = [Image(str(n), (256, 256), "R", lambda n=n: load(n)) for n in range(count)]
data, _ = encode(ToyVAE(), b"twelve bytes", images, batch_size=64, chained=True)
decoded = decode(ToyVAE(), b"twelve bytes", data, "memory")
assert sum(np.array_equal(pixels, load(int(name))) for name, _, pixels in decoded) == count
print(len(data), 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def run(count: int) -> tuple[int, int]:
    """Bytes of the file and peak memory of a process that encodes and decodes `count` images of 256x256."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(count)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    size, peak = process.stdout.split()
    return int(size), int(peak)


@pytest.mark.slow
def test_peak_memory_holds_the_compressed_bytes_but_never_all_images() -> None:
    few_size, few_peak = run(4)
    many_size, many_peak = run(24)
    pixels = 100 * 3 * 256 * 256
    assert pixels > 15e6  # what holding the images would add at least
    assert many_peak - few_peak < 1.4 * (many_size - few_size)
