"""What the bits of a float depend on: said in every file, held against the machine before anything is decoded."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
import torch

from zoo.errors import UserError
from zoo.portable import CAP, SETTING, is_capped

PORTABLE = "portable"


def environment() -> str:
    """torch, numpy, constriction, threads, and the vector instructions in use; short, every file has it."""
    versions = (torch.__version__, np.__version__, version("constriction"))
    return "/".join([*versions, str(torch.get_num_threads()), instructions()])


def instructions() -> str:
    """The kernels in use: "AVX2-portable" under `zoo.portable.cap`, else as "AVX512-native", with what was set."""
    capability = torch.backends.cpu.get_cpu_capability().replace(" ", "")
    chosen = [f"{key}={os.environ[key]}" for key in CAP if os.environ.get(key)]
    return "-".join([capability, PORTABLE] if is_capped() else [capability, "native", *chosen])


def is_portable(environment: str) -> bool:
    """Whether the environment of a file names the portable kernels."""
    return environment.endswith("-" + PORTABLE)


def check_environment(name: str, written: str) -> None:
    """Refuse a file whose floats this process cannot repeat, before any work.

    Versions are not compared: others may agree, and the first batch tells.

    Raises:
        UserError: saying what to set.
    """
    theirs, ours = written.rsplit("/", 1)[-1], instructions()
    if theirs == ours:
        return
    if not is_portable(written):
        remedy = "decode on a processor and with settings like these"
    elif is_capped():
        remedy = "this processor has no AVX2; decode on one that has it"
    else:
        remedy = f"set {SETTING} before Python starts (zoo decompress does so by itself)"
    raise UserError(f"{name}: written with {theirs} instructions, this process uses {ours}: {remedy}")


def threads_of(environment: str) -> int | None:
    """The number of threads that a file's environment names; None if it names none."""
    fields = environment.split("/")
    return int(fields[3]) if len(fields) > 3 and fields[3].isdecimal() and 0 < int(fields[3]) <= 1024 else None


@contextlib.contextmanager
def repeatable(seed: int, threads: int | None = None) -> Iterator[None]:
    """Deterministic kernels, seeded draws, no autograd, optionally a number of threads; all restored afterwards.

    The order in which a sum is added depends on how many threads share it, and one bit of one float that differs
    between encoder and decoder loses the stream: the decoder takes the number that the encoder had, even where the
    machine has fewer cores.
    """
    before, threads_before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_num_threads(threads or threads_before)
    try:
        with torch.random.fork_rng(devices=[]), torch.inference_mode():
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.set_num_threads(threads_before)
