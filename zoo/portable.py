"""One set of vector instructions on every processor, so that floats agree between machines.

Kernels are chosen by the processor when torch starts, and another kernel adds in another order. `cap` asks ATen, oneDNN
and MKL for their AVX2 kernels, which every x86-64 processor since about 2015 has; it must run before torch is imported.
"""

import os
import sys

CAP = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2"}
SETTING = " ".join(f"{key}={value}" for key, value in CAP.items())


def cap() -> bool:
    """Choose the portable kernels for this process.

    Returns:
        Whether they are chosen; False if torch was imported before without them.
    """
    if "torch" not in sys.modules:
        os.environ.update(CAP)
    return is_capped()


def is_capped() -> bool:
    """Whether the environment asks for the portable kernels."""
    return all(os.environ.get(key) == value for key, value in CAP.items())
