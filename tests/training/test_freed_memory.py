import platform
import resource
from pathlib import Path

import pytest
import torch

from training.freed_memory import keep_freed_memory

N_BYTES = 48 * 1024**2
"""More than glibc keeps of its own accord."""


def measure_resident_bytes():
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return resident_pages * resource.getpagesize()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="nothing is kept elsewhere")
def test_freed_memory_is_kept_within_the_block_and_given_back_after_it():
    before = measure_resident_bytes()
    with keep_freed_memory():
        tensors = [torch.ones(N_BYTES, dtype=torch.uint8) for _ in range(4)]
        del tensors
        kept = measure_resident_bytes() - before
    left = measure_resident_bytes() - before
    assert kept > 3 * N_BYTES
    assert left < N_BYTES


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", None)
    with keep_freed_memory():
        assert torch.ones(3).sum() == 3
