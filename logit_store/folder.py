"""The files of a store in a folder."""

import contextlib
import errno
import fnmatch
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from disk import remove_abandoned, write_whole
from logit_store.errors import StoreFull
from logit_store.files import Entry

if TYPE_CHECKING:
    import duckdb


class Folder:
    """The `Files` of a folder, on a disk where all processes see the same files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def exists(self) -> bool:
        """Tell whether anything was ever written here."""
        return self.root.is_dir()

    def locate(self, name: str) -> str:
        """Return the full address of a file, for people."""
        return str(self.root / name)

    def has(self, name: str) -> bool:
        """Tell whether the file exists."""
        return (self.root / name).is_file()

    def find(self, pattern: str) -> list[Entry]:
        """List files whose names match a glob pattern, sorted; `*` does not match a slash."""
        entries = _find(str(self.root), pattern.split("/"), "")
        return sorted(entries, key=lambda entry: entry.name)

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

    def put(self, name: str, data: bytes | memoryview | pa.Buffer) -> None:
        """Write or replace a file, whole or not at all; it survives a power failure."""
        path = self.root / name
        with _name_full_disk(path, len(data)):
            remove_abandoned(path.parent.glob(".*.tmp"))
            write_whole(path, memoryview(data))

    def delete(self, name: str) -> None:
        """Delete the file if it exists."""
        (self.root / name).unlink(missing_ok=True)

    def sweep(self, *, dry_run: bool = False) -> list[str]:
        """Remove what killed writers left; return the names, also if nothing is removed yet."""
        left = remove_abandoned(self.root.rglob(".*.tmp"), dry_run=dry_run)
        return sorted(path.relative_to(self.root).as_posix() for path in left)


def _find(folder: str, parts: Sequence[str], above: str) -> Iterator[Entry]:
    """Find files below a folder with one system call per folder; glob makes several per name."""
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
                yield from _find(item.path, rest, f"{above}{item.name}/")
            elif item.is_file():
                # The file may have been replaced or deleted since; the next listing will be right.
                with contextlib.suppress(FileNotFoundError):
                    yield _make_entry(f"{above}{item.name}", item.stat())


def _make_entry(name: str, stat: os.stat_result) -> Entry:
    return Entry(
        name=name,
        size=stat.st_size,
        written=datetime.fromtimestamp(stat.st_mtime, UTC),
        # A replacement has another inode, even within one tick of the clock.
        version=f"{stat.st_mtime_ns}-{stat.st_ino}-{stat.st_size}",
    )


@contextlib.contextmanager
def _name_full_disk(path: Path, size: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull(str(path), size) from error
        raise
