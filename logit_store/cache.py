"""Copies of remote files on this machine: those used last, up to a size."""

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from logit_store.errors import StoreFull, UnusableCache
from logit_store.folder import Folder

FOLDER_VARIABLE = "TUTTI_CACHE"
LIMIT_VARIABLE = "TUTTI_CACHE_GB"
DEFAULT_LIMIT_GB = 20.0


class Cache:
    """Copies in a folder, each named by what tells one version of a file from all others.

    Any number of processes may use a folder at once: copies appear whole, and one that is removed
    while somebody reads it stays readable until then. The copy that was used last always stays,
    even when it is larger than the limit.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = Folder(root), limit_bytes

    def open(self, version: str) -> pa.NativeFile | None:
        """The copy as it lies in the page cache; None if there is none."""
        path = self.path(version)
        with _usable(), contextlib.suppress(FileNotFoundError):
            return path and pa.memory_map(str(path))
        return None

    def path(self, version: str) -> Path | None:
        """Where the copy lies, which counts as a use; None if there is none."""
        path = self._folder.local(_name(version))
        with _usable(), contextlib.suppress(FileNotFoundError):
            # To the nanosecond: what the system writes there moves on in steps of milliseconds.
            now_ns = time.time_ns()
            os.utime(path, ns=(now_ns, now_ns))
            return path
        return None

    def put(self, version: str, data: bytes) -> Path:
        """Keep a copy.

        Raises:
            UnusableCache: the folder is full or cannot be written to.
        """
        with _usable():
            self._folder.put(_name(version), data)
        # Another process may have removed it by now, being over the limit: the copy is made again.
        return self.path(version) or self.put(version, data)

    def trim(self) -> None:
        """Remove what was not used for the longest time until the rest is within the limit."""
        with _usable():
            copies = sorted(self._folder.entries("*/*"), key=lambda copy: copy.written)
            excess_bytes = sum(copy.size for copy in copies) - self._limit_bytes
            for copy in copies[:-1]:
                if excess_bytes <= 0:
                    return
                self._folder.delete(copy.name)
                excess_bytes -= copy.size


def cache_of_this_machine() -> Cache:
    """$TUTTI_CACHE/store, else ~/.cache/tutti/store; up to $TUTTI_CACHE_GB, else 20 GB.

    Raises:
        UnusableCache: $TUTTI_CACHE_GB is no size.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    above = Path(named).expanduser() if named else Path.home() / ".cache" / "tutti"
    return Cache(above.absolute() / "store", int(_limit_gb() * 1e9))


def _limit_gb() -> float:
    given = os.environ.get(LIMIT_VARIABLE)
    if not given:
        return DEFAULT_LIMIT_GB
    try:
        limit_gb = float(given)
    except ValueError:
        limit_gb = math.nan
    if not 0 <= limit_gb < math.inf:
        raise UnusableCache(f"{LIMIT_VARIABLE} is {given!r}, expected gigabytes, 0 or more")
    return limit_gb


def _name(version: str) -> str:
    digest = hashlib.sha256(version.encode()).hexdigest()
    # Every write looks for what killed writers left beside it: 16 folders keep that short, and
    # are visited often enough that nothing is left for long.
    return f"{digest[0]}/{digest}"


@contextmanager
def _usable() -> Generator[None]:
    way_out = f"free some space, or name another folder in {FOLDER_VARIABLE}"
    try:
        yield
    except FileNotFoundError:
        raise
    except StoreFull as error:
        raise UnusableCache(
            f"{error.path}: no space left for a copy of {error.size:,} bytes: {way_out}"
        ) from error
    except OSError as error:
        raise UnusableCache(f"{error}: {way_out}") from error
