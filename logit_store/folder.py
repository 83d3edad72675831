"""Whole files in a folder: written under another name, made lasting, renamed."""

import contextlib
import errno
import fnmatch
import glob
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from logit_store.errors import StoreFull
from logit_store.files import Entry

if TYPE_CHECKING:
    import duckdb

_TEMPORARY = re.compile(r"\.(?P<pid>\d+)-(?P<host>[0-9a-f]{8})-[0-9a-f]{8}\.tmp")
_ABANDONED_AFTER_S = 24 * 3600
"""Far longer than any write lasts: the age at which another machine's temporary file is swept."""


class Folder:
    """The `Files` of a folder on a disk that all who use it see alike."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self) -> bool:
        """Whether anything was ever written here."""
        return self.root.is_dir()

    def where(self, name: str) -> str:
        """The full address of a file, for people."""
        return str(self.root / name)

    def has(self, name: str) -> bool:
        """Whether the file is there, whole."""
        return (self.root / name).is_file()

    def entries(self, pattern: str) -> list[Entry]:
        """Files whose names match a glob pattern, in which `*` stays within a part; sorted."""
        found = _matching(str(self.root), pattern.split("/"), "")
        return sorted(found, key=lambda entry: entry.name)

    def fetch(self, names: Sequence[str]) -> None:
        """Nothing to do: they are here."""

    def open(self, name: str) -> pa.NativeFile:
        """The file as it lies in the page cache."""
        return pa.memory_map(str(self.root / name))

    def open_end(self, name: str) -> pa.NativeFile:
        """The file, without a map of all of it."""
        return pa.OSFile(str(self.root / name))

    def get(self, name: str) -> bytes:
        """What is in the file."""
        return (self.root / name).read_bytes()

    def local(self, name: str) -> Path:
        """The file itself."""
        return self.root / name

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> Callable[[str], str]:
        """Nothing to do: DuckDB reads files of a disk."""
        root = glob.escape(str(self.root))
        return lambda name: f"{root}/{name}"

    def put(self, name: str, data: bytes | memoryview | pa.Buffer) -> None:
        """Write the file whole or not at all, and lastingly; replaces what was there."""
        path = self.root / name
        with _room_for(path, len(data)):
            _make_folders(path.parent)
            for left in filter(_is_left, path.parent.glob(".*.tmp")):
                left.unlink(missing_ok=True)
            temporary = path.with_name(f".{os.getpid()}-{_host()}-{secrets.token_hex(4)}.tmp")
            try:
                with temporary.open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(path.parent)

    def delete(self, name: str) -> None:
        """Make sure that the file is not there."""
        (self.root / name).unlink(missing_ok=True)

    def sweep(self, *, dry_run: bool = False) -> list[str]:
        """Remove what killed writers left; names of what was removed, or would be."""
        left = [path for path in self.root.rglob(".*.tmp") if _is_left(path)]
        if not dry_run:
            for path in left:
                path.unlink(missing_ok=True)
        return sorted(path.relative_to(self.root).as_posix() for path in left)


def _matching(folder: str, parts: Sequence[str], above: str) -> Iterator[Entry]:
    """Files below a folder; a system call a folder, not several a name as glob makes."""
    part, *rest = parts
    try:
        listing = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with listing:
        for item in listing:
            if item.name.startswith(".") or not fnmatch.fnmatchcase(item.name, part):
                continue
            if rest:
                yield from _matching(item.path, rest, f"{above}{item.name}/")
            elif item.is_file():
                # Replaced or deleted in between: the next listing knows.
                with contextlib.suppress(FileNotFoundError):
                    yield _entry(f"{above}{item.name}", item.stat())


def _entry(name: str, stat: os.stat_result) -> Entry:
    return Entry(
        name=name,
        size=stat.st_size,
        written=datetime.fromtimestamp(stat.st_mtime, UTC),
        # A replacement is another file: an inode of its own even within a tick of the clock.
        version=f"{stat.st_mtime_ns}-{stat.st_ino}-{stat.st_size}",
    )


def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


@contextlib.contextmanager
def _room_for(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(str(path), size) from error
        raise


def _make_folders(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_left(path: Path) -> bool:
    """Whether a temporary file's writer was killed."""
    match = _TEMPORARY.fullmatch(path.name)
    if not match:
        return False
    if match["host"] == _host() and not _lives(int(match["pid"])):
        return True
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S
    except FileNotFoundError:
        return False


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
