"""Whole files by name, wherever they lie: what a store asks of a disk or of S3."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file as a listing shows it."""

    name: str
    """From the store's root."""
    size: int
    """In bytes."""
    written: datetime
    version: str
    """Another one whenever the file is replaced."""


class Files(Protocol):
    """Files that appear whole or not at all; a name is a path from the root.

    Names with a part that begins with a dot belong to writers at work: no listing shows them.
    A reader of a name that is not there gets FileNotFoundError.
    """

    def exists(self) -> bool:
        """Whether anything was ever written here."""
        ...

    def where(self, name: str) -> str:
        """The full address of a file, for people."""
        ...

    def has(self, name: str) -> bool:
        """Whether the file is there, whole."""
        ...

    def entries(self, pattern: str) -> list[Entry]:
        """Files whose names match a glob pattern, in which `*` stays within a part; sorted."""
        ...

    def fetch(self, names: Sequence[str]) -> None:
        """Make the files' next opening fast; many at once."""
        ...

    def open(self, name: str) -> pa.NativeFile:
        """The file for reading anywhere; what is read is of one version, come what may."""
        ...

    def open_end(self, name: str) -> pa.NativeFile:
        """As `open`, for who wants to see a few kilobytes at the end only."""
        ...

    def get(self, name: str) -> bytes:
        """What is in the file."""
        ...

    def local(self, name: str) -> Path:
        """The file, or a copy of it, on this machine."""
        ...

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> Callable[[str], str]:
        """Let DuckDB read the files as long as the connection lasts.

        Returns:
            From a name to the path, taken for a glob pattern, by which DuckDB finds that file
            alone. It ends with the name.
        """
        ...

    def put(self, name: str, data: bytes | memoryview | pa.Buffer) -> None:
        """Write the file whole or not at all, and lastingly; replaces what was there."""
        ...

    def delete(self, name: str) -> None:
        """Make sure that the file is not there."""
        ...

    def sweep(self, *, dry_run: bool = False) -> list[str]:
        """Remove what killed writers left; names of what was removed, or would be."""
        ...
