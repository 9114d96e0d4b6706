"""What is freed stays with the process: large temporaries are no longer fetched from the kernel each time."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, zoo
changed = zoo.tune_allocator()
bytes_ = b"x" * 1000
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytes_ * 40_000  # the first block has to be fetched in any case
before = faults()
for _ in range(30):
    bytes_ * 40_000  # 40 MB, written once and freed
print(changed, faults() - before)
"""


def faults(**environment: str) -> tuple[bool, int]:
    """Whether the allocator was changed, and how often the kernel had to bring a page."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    changed, count = done.stdout.split()
    return changed == "True", int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt belongs to glibc")
def test_freed_memory_is_used_again() -> None:
    before, after = faults(ZOO_KEEP_MEMORY="0"), faults()
    assert not before[0]
    assert after[0]
    assert after[1] < before[1] / 10


def test_the_users_own_setting_wins() -> None:
    changed, _ = faults(GLIBC_TUNABLES="glibc.malloc.mmap_max=65536")
    assert not changed
