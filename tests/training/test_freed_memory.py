import platform
import resource

import pytest
import torch

from training.freed_memory import keep_freed_memory

N_BYTES = 48 * 1024**2
"""More than glibc keeps of its own accord."""


def count_faults() -> int:
    """Return how many pages the kernel gives for tensors that are made and freed, after ten others."""
    counts = []
    for _ in range(12):
        torch.ones(N_BYTES, dtype=torch.uint8)
        counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return counts[-1] - counts[-3]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="nothing is kept elsewhere")
def test_freed_memory_is_used_again_within_the_block_and_given_back_after_it():
    with keep_freed_memory():
        within = count_faults()
    after = count_faults()
    assert 4 * within < after


def test_without_glibc_nothing_happens(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr("ctypes.CDLL", None)
    with keep_freed_memory():
        assert torch.ones(3).sum() == 3
