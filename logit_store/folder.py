"""The files of a store in a folder."""

import contextlib
import errno
import fnmatch
import glob
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from disk import open_whole, remove_abandoned, write_parts
from logit_store.errors import StoreFull
from logit_store.files import Entry, Part

if TYPE_CHECKING:
    import duckdb


class Folder:
    """The `Files` of a folder, on a disk where all processes see the same files."""

    is_near = True

    def __init__(self, root: Path) -> None:
        self.root, self._address = root, str(root)

    def exists(self) -> bool:
        """Tell whether anything was ever written here."""
        return self.root.is_dir()

    def locate(self, name: str) -> str:
        """Return the full address of a file, for people."""
        return f"{self._address}/{name}"

    def has(self, name: str) -> bool:
        """Tell whether the file exists."""
        return (self.root / name).is_file()

    def find(self, pattern: str) -> list[Entry]:
        """List files whose names match a glob pattern, sorted; `*` does not match a slash."""
        names = sorted(_find_names(self._address, pattern))
        found = (_find_entry(self._address, name) for name in names)
        return [entry for entry in found if entry is not None]

    def prefetch(self, names: Sequence[str]) -> None:
        """Do nothing: the files are on this machine."""

    def open(self, name: str) -> pa.NativeFile:
        """Map a file into memory."""
        return pa.memory_map(str(self.root / name))

    def open_end(self, name: str) -> pa.NativeFile:
        """Open a file without mapping all of it."""
        return pa.OSFile(str(self.root / name))

    def get(self, name: str) -> bytes:
        """Read the whole file."""
        return (self.root / name).read_bytes()

    def fetch(self, name: str) -> Path:
        """Return the path of the file."""
        return self.root / name

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> Callable[[str], str]:
        """Return a function from a name to a path: DuckDB reads files on a disk as they are."""
        root = glob.escape(str(self.root))
        return lambda name: f"{root}/{name}"

    def put(self, name: str, *parts: Part) -> None:
        """Write or replace a file, whole or not at all; it survives a power failure."""
        with self.create(name, sum(map(len, parts))) as file:
            write_parts(file, parts)

    @contextlib.contextmanager
    def create(self, name: str, n_bytes: int) -> Iterator[BinaryIO]:
        """Open a file for writing piece by piece: it appears, as `put` writes it, when the block ends."""
        path = self.root / name
        with _name_full_disk(path, n_bytes):
            remove_abandoned(path.parent.glob(".*.tmp"))
            with open_whole(path) as file:
                yield file

    def delete(self, name: str) -> None:
        """Delete the file if it exists."""
        (self.root / name).unlink(missing_ok=True)

    def sweep(self, *, dry_run: bool = False) -> list[str]:
        """Remove what killed writers left; return the names, also if nothing is removed yet."""
        left = remove_abandoned(self.root.rglob(".*.tmp"), dry_run=dry_run)
        return sorted(path.relative_to(self.root).as_posix() for path in left)


def _find_names(root: str, pattern: str) -> list[str]:
    """Find what matches a pattern with one system call per folder whose files are not named.

    A plain name is taken as it is, whether there is such a file or not.
    """
    names = [""]
    for part in pattern.split("/"):
        names = [
            f"{above}/{name}" if above else name
            for above in names
            for name in _list_names(f"{root}/{above}", part)
        ]
    return names


def _list_names(folder: str, part: str) -> list[str]:
    if part.startswith("."):
        return []
    if not glob.has_magic(part):
        return [part]
    try:
        with os.scandir(folder) as listing:
            names = fnmatch.filter((item.name for item in listing), part)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [name for name in names if not name.startswith(".")]


def _find_entry(root: str, name: str) -> Entry | None:
    # The file may have been replaced or deleted since; the next listing will be right.
    try:
        found = os.stat(f"{root}/{name}")  # noqa: PTH116 - thousands of Paths take as long
    except OSError as error:
        # A link to nothing and one to itself are no files.
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return None
    return _make_entry(name, found) if stat.S_ISREG(found.st_mode) else None


def _make_entry(name: str, found: os.stat_result) -> Entry:
    return Entry(
        name=name,
        size=found.st_size,
        written=datetime.fromtimestamp(found.st_mtime, UTC),
        # A replacement has another inode, even within one tick of the clock.
        version=f"{found.st_mtime_ns}-{found.st_ino}-{found.st_size}",
    )


@contextlib.contextmanager
def _name_full_disk(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(str(path), size) from error
        raise
