"""Files that appear whole or not at all: written under a temporary name, then renamed."""

import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\.(?P<pid>\d+)-(?P<host>[0-9a-f]{8})-[0-9a-f]{8}\.tmp")
_ABANDONED_AFTER_S = 24 * 3600
"""Age at which a temporary file of another machine is abandoned: far longer than any write."""


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file as `open_whole` does."""
    with open_whole(path) as file:
        file.write(data)


@contextmanager
def open_whole(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path` only when the block ends without an error.

    It replaces the file that was there; missing folders are made. A writer that is killed leaves
    a temporary file, whose name begins with a dot: see `find_abandoned`.

    Args:
        path: where the file appears.
        sync: wait until file and folder would survive a power failure.
    """
    _make_folders(path.parent)
    temporary = path.with_name(f".{os.getpid()}-{hash_host()}-{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if sync:
        _sync_folder(path.parent)


def find_abandoned(paths: Iterable[Path]) -> list[Path]:
    """Return those temporary files of `open_whole` whose writers were killed."""
    return [path for path in paths if _is_abandoned(path)]


def hash_host() -> str:
    """Return 8 hex digits that stand for this machine in the names of temporary files."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


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


def _is_abandoned(path: Path) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    if not match:
        return False
    if match["host"] == hash_host() and not _is_alive(int(match["pid"])):
        return True
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S
    except FileNotFoundError:
        return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
