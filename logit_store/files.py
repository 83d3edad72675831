"""What a store needs from a disk or from S3: whole files by name."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

import pyarrow as pa

from logit_store.errors import MissingStore

if TYPE_CHECKING:
    import duckdb


Part = bytes | bytearray | memoryview | pa.Buffer
"""Bytes of a file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file in a listing."""

    name: str
    """Path from the store's root."""
    size: int
    """In bytes."""
    written: datetime
    version: str
    """Changes whenever the file is replaced."""


class Files(Protocol):
    """Files that appear whole or not at all; a name is a path from the root.

    A name with a part that begins with a dot belongs to a writer at work: no listing shows it.
    Reading a file that does not exist raises FileNotFoundError.
    """

    @property
    def is_near(self) -> bool:
        """Whether the files are on this machine, so that reading them whole is fast."""
        ...

    def exists(self) -> bool:
        """Tell whether anything was ever written here."""
        ...

    def locate(self, name: str) -> str:
        """Return the full address of a file, for people."""
        ...

    def has(self, name: str) -> bool:
        """Tell whether the file exists."""
        ...

    def find(self, pattern: str) -> list[Entry]:
        """List files whose names match a glob pattern, sorted; `*` does not match a slash."""
        ...

    def prefetch(self, names: Sequence[str]) -> None:
        """Prepare many files at once, so that opening them next is fast."""
        ...

    def open(self, name: str) -> pa.NativeFile:
        """Open a file for reading at any position; all reads see one version of it."""
        ...

    def open_end(self, name: str) -> pa.NativeFile:
        """Open a file of which only a few kilobytes at its end will be read."""
        ...

    def get(self, name: str) -> bytes:
        """Read the whole file."""
        ...

    def fetch(self, name: str) -> Path:
        """Return the path of the file, or of a copy of it, on this machine."""
        ...

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> Callable[[str], str]:
        """Let DuckDB read the files as long as the connection lasts.

        Returns:
            A function from a name to the path under which DuckDB finds that file and no other. The
            path is a glob pattern that ends with the name.
        """
        ...

    def put(self, name: str, *parts: Part) -> None:
        """Write or replace a file, whole or not at all; it survives a power failure.

        Args:
            name: of the file.
            parts: its bytes, which follow one another.
        """
        ...

    def create(self, name: str, n_bytes: int) -> AbstractContextManager[BinaryIO]:
        """Open a file for writing piece by piece: it appears, as `put` writes it, when the block ends.

        If the block ends with an error, nothing is written.

        Args:
            name: of the file.
            n_bytes: how large it will be, about, for the error of a disk that is full.
        """
        ...

    def delete(self, name: str) -> None:
        """Delete the file if it exists."""
        ...

    def sweep(self, *, dry_run: bool = False) -> list[str]:
        """Remove what killed writers left; return the names, also if nothing is removed yet."""
        ...


def check_exists(files: Files, address: str) -> None:
    """Make sure that there is a store.

    Raises:
        MissingStore: there is nothing at the address.
    """
    if not files.exists():
        raise MissingStore(address)
