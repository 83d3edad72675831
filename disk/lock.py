"""A lock between the processes of one machine."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def hold_lock(file: Path) -> Iterator[None]:
    """Keep out every other process that asks for the same lock file; wait until it is free.

    The kernel releases the lock when its holder ends, even if it is killed. The file stays.
    """
    with file.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
