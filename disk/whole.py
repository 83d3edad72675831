"""Files that appear whole or not at all: written under a temporary name, then renamed.

A killed writer leaves its temporary file. To tell it from one that is still being written, a writer
holds a lock (flock) on its file, which the kernel releases when the process ends, however it ends.
Unlike the number of a process, this is right for containers with process numbers of their own and for
hosts of one name. It holds between processes under one kernel, on a local disk, an overlay and NFS.
Files of other kernels, of a boot before this one, and on a file system without locks are taken for
abandoned by their age alone.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\.\d+-(?P<host>[0-9a-f]{8})-[0-9a-f]{8}\.tmp")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_ABANDONED_AFTER_S = 24 * 3600
"""Age at which a temporary file without a lock is abandoned: far longer than any write."""


_MOST_PARTS = 1024
"""So many parts Linux takes in one call (IOV_MAX)."""


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file as `open_whole` does."""
    with open_whole(path) as file:
        file.write(data)


def write_parts(file: BinaryIO, parts: Iterable[bytes | bytearray | memoryview]) -> None:
    """Write bytes that lie in several places one after another, without copying them to one place before."""
    file.flush()
    left = [memoryview(part).cast("B") for part in parts]
    while left:
        n_written = os.writev(file.fileno(), left[:_MOST_PARTS])
        while left and n_written >= len(left[0]):
            n_written -= len(left.pop(0))
        if n_written:
            left[0] = left[0][n_written:]


@contextmanager
def open_whole(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path` only when the block ends without an error.

    It replaces the file that was there, also the one that a link leads to; missing folders are made.
    A writer that is killed leaves a temporary file, whose name begins with a dot: see `remove_abandoned`.

    Args:
        path: where the file appears.
        sync: wait until file and folder would survive a power failure.

    Raises:
        OSError: the file cannot be written, or its temporary file was removed by another program.
    """
    if path.is_symlink():
        path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(f"{path}: not a regular file, so it cannot be replaced: name another one")
    try:
        _make_folders(path.parent)
        with _create_locked(path.parent) as file:
            try:
                yield file
                publish(file, path, sync=sync)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except OSError as error:
        # A write that fails names no file, and the name of a temporary one means nothing to people.
        named = error.filename
        if error.errno is not None and (named is None or _TEMPORARY.search(str(named))):
            error.filename = str(path)
        raise


def publish(file: BinaryIO, path: Path, *, sync: bool = True) -> None:
    """Rename a complete file; it replaces the file that has this name.

    Args:
        file: an open file in the folder of `path`.
        path: the name.
        sync: wait until file and folder would survive a power failure.

    Raises:
        OSError: the file cannot be written, or another program removed it.
    """
    file.flush()
    if sync:
        os.fsync(file.fileno())
    try:
        Path(file.name).replace(path)
    except FileNotFoundError as error:
        # Callers take a FileNotFoundError for the absence of a file that they read.
        raise OSError(
            f"{path}: not written, because another program removed its temporary file {file.name} "
            "meanwhile: start the same command again"
        ) from error
    if sync:
        _sync_folder(path.parent)


def remove_abandoned(paths: Iterable[Path], *, dry_run: bool = False) -> list[Path]:
    """Remove those temporary files of `open_whole` whose writers were killed, and return them.

    Args:
        paths: of any files.
        dry_run: only return them.
    """
    abandoned = []
    for path in paths:
        with contextlib.ExitStack() as lock:
            if not _is_abandoned(path, lock):
                continue
            if not dry_run:
                # Under the lock: a writer that has just made the file waits for it, see there.
                path.unlink(missing_ok=True)
            abandoned.append(path)
    return abandoned


@functools.cache
def hash_host() -> str:
    """Return 8 hex digits that stand for the running kernel in the names of temporary files.

    A system that does not tell one boot from another gets a new number in each process, so that all
    temporary files are judged by age.
    """
    try:
        boot = _BOOT_ID.read_bytes()
    except OSError:
        boot = secrets.token_bytes()
    return hashlib.sha256(boot).hexdigest()[:8]


def identify_processes() -> str:
    """Return a text that is equal for two processes if a process id means the same to both."""
    try:
        return f"{hash_host()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{hash_host()} {secrets.token_hex(4)}"


def _create_locked(folder: Path) -> BinaryIO:
    """Open a new temporary file that is locked until it is closed."""
    while True:
        temporary = folder / f".{os.getpid()}-{hash_host()}-{secrets.token_hex(4)}.tmp"
        file = temporary.open("xb")
        with contextlib.suppress(OSError):  # Not every file system has locks.
            fcntl.flock(file, fcntl.LOCK_EX)
        # Until it was locked, another process may have taken it for abandoned and removed it.
        if temporary.exists():
            return file
        file.close()


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


def _is_abandoned(path: Path, lock: contextlib.ExitStack) -> bool:
    """Return whether the writer of a temporary file was killed; `lock` then keeps others out."""
    match = _TEMPORARY.fullmatch(path.name)
    if not match:
        return False
    try:
        if match["host"] == hash_host():
            fcntl.flock(lock.enter_context(path.open("r+b")), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except (FileNotFoundError, BlockingIOError):
        return False
    except OSError:
        pass  # It is another user's, or there are no locks: its age decides.
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S
    except FileNotFoundError:
        return False
