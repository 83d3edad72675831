"""Copies of remote files on this machine, up to a total size; the oldest are removed first."""

import contextlib
import hashlib
import logging
import math
import os
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from zlib_ng import zlib_ng

from disk import find_cache_folder
from logit_store.errors import StoreFull, UnusableCache
from logit_store.folder import Folder

logger = logging.getLogger(__name__)

LIMIT_VARIABLE = "TUTTI_CACHE_GB"
DEFAULT_LIMIT_GB = 20.0
_BLOCK_BYTES = 1 << 20


class Cache:
    """Copies in a folder. A version is a text that identifies one version of one file.

    Any number of processes may use a folder at once: copies appear whole, and a copy that is
    removed stays readable for those who have opened it. The copy used last is never removed, even
    if it is larger than the limit.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = Folder(root), limit_bytes

    def open(self, version: str) -> pa.NativeFile | None:
        """Map a copy into memory; None if there is none."""
        path = self.path(version)
        with _translate_errors(), contextlib.suppress(FileNotFoundError):
            return path and pa.memory_map(str(path))
        return None

    def path(self, version: str) -> Path | None:
        """Return the path of a copy, which counts as a use; None if there is none.

        A damaged copy is removed.
        """
        with _translate_errors():
            for copy in self._folder.find(f"{_name_copy(version)}-*"):
                path = self._folder.fetch(copy.name)
                with contextlib.suppress(FileNotFoundError):
                    if path.name.endswith(f"-{_compute_checksum(path):08x}"):
                        # In nanoseconds: the system's own times have a resolution of milliseconds.
                        now_ns = time.time_ns()
                        os.utime(path, ns=(now_ns, now_ns))
                        return path
                    logger.warning("%s: a damaged copy, so it is fetched again", path)
                    self._folder.delete(copy.name)
        return None

    def put(self, version: str, data: bytes) -> Path:
        """Store a copy, and return its path.

        Raises:
            UnusableCache: the folder is full or cannot be written to.
        """
        with _translate_errors():
            self._folder.put(f"{_name_copy(version)}-{zlib_ng.crc32(data):08x}", data)
        # Another process over the limit may have removed it already: then make it again.
        return self.path(version) or self.put(version, data)

    @contextmanager
    def open_scratch(self, n_bytes: int) -> Generator[BinaryIO]:
        """Open a file without a name, which is gone when the block or the process ends.

        Args:
            n_bytes: how large it will be, about, for the error message.

        Raises:
            UnusableCache: the folder is full or cannot be written to.
        """
        root = self._folder.root
        with _translate_errors(n_bytes):
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=root) as file:
                yield file

    def trim(self) -> None:
        """Remove the copies that were not used for longest until the rest is within the limit."""
        with _translate_errors():
            copies = sorted(self._folder.find("*/*"), key=lambda copy: copy.written)
            excess_bytes = sum(copy.size for copy in copies) - self._limit_bytes
            for copy in copies[:-1]:
                if excess_bytes <= 0:
                    return
                self._folder.delete(copy.name)
                excess_bytes -= copy.size


def open_machine_cache() -> Cache:
    """Return the cache in $TUTTI_CACHE/store, else ~/.cache/tutti/store.

    It holds up to $TUTTI_CACHE_GB, else 20 GB.

    Raises:
        UnusableCache: $TUTTI_CACHE_GB is not a size.
        NoCacheFolder: the folder cannot be made.
    """
    return Cache(find_cache_folder() / "store", int(_read_limit_gb() * 1e9))


def _read_limit_gb() -> float:
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return DEFAULT_LIMIT_GB
    try:
        limit_gb = float(text)
    except ValueError:
        limit_gb = math.nan
    if not 0 <= limit_gb < math.inf:
        raise UnusableCache(f"{LIMIT_VARIABLE} is {text!r}, expected gigabytes, 0 or more")
    return limit_gb


def _name_copy(version: str) -> str:
    """Return the name of a copy, to which a hyphen and the CRC-32 of its bytes are added."""
    digest = hashlib.sha256(version.encode()).hexdigest()
    # Every write looks in its folder for files that killed writers left. 16 folders keep this
    # short, and each is visited often enough.
    return f"{digest[0]}/{digest}"


def _compute_checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            checksum = zlib_ng.crc32(block, checksum)
    return checksum


@contextmanager
def _translate_errors(n_bytes: int | None = None) -> Generator[None]:
    way_out = "free some space, or name another folder in TUTTI_CACHE"
    try:
        yield
    except FileNotFoundError:
        raise
    except StoreFull as error:
        raise UnusableCache(
            f"{error.path}: no space left for a copy of {error.size:,} bytes: {way_out}"
        ) from error
    except OSError as error:
        of = "" if n_bytes is None else f", for a copy of {n_bytes:,} bytes"
        raise UnusableCache(f"{error}{of}: {way_out}") from error
