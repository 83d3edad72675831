"""Copies a corpus on S3 to each node once: `--root s3://BUCKET/PREFIX`.

The copy is in $TUTTI_CACHE/corpora, in a folder for each address. A file with the size and the time
of its object is not fetched again, so that an interrupted copy continues where it stopped.
"""

import functools
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from disk import find_cache_folder, hold_lock, open_whole, write_whole
from logit_store.bucket import SCHEME, Bucket
from logit_store.files import Entry
from logit_store.s3 import MAX_REQUESTS
from terminal.console import UserError, console, progress_bar
from terminal.tables import format_count

MARK = "version"
"""A file beside the copy, once it is complete: its version, and a hash of its files' sizes and times."""
FREE_SHARE = 0.98
"""Share of the free space that a copy may take."""


class DamagedDownload(UserError):
    """A download differs from the object on the server, which the message names."""


@dataclass(frozen=True, slots=True)
class Staged:
    """The files of a corpus on this node."""

    folder: Path
    version: str
    """Hex digits of a hash of all names, sizes and times: it changes whenever an object is replaced."""


@functools.lru_cache(maxsize=8)
def stage(address: str, version: str | None = None) -> Staged:
    """Copy all files at an address to this node, unless they are here already.

    One process of a node copies; the others wait for it. A complete copy is believed if no file of it
    has another size or time since. Each process asks the server once. Hidden
    names and objects that stand for folders are skipped; files whose object was deleted are removed.

    Args:
        address: `s3://BUCKET/PREFIX`.
        version: the version to have; if the node has it, the server is not asked at all. None is
            the present version on the server.

    Raises:
        UserError: there is nothing at the address, it is not on S3, or the disk is too small.
        DamagedDownload: a download differs from its object.
        UnreachableStore: the server does not answer, or refuses.
    """
    bucket = Bucket(_check_address(address))
    place = find_cache_folder().absolute() / "corpora" / _name_folder(bucket.locate(""))
    if version is not None and _is_complete(place, version):
        return Staged(place / "files", version)
    place.mkdir(parents=True, exist_ok=True)
    with hold_lock(place / "lock"):
        # Another process may have copied it meanwhile.
        if version is not None and _is_complete(place, version):
            return Staged(place / "files", version)
        return _bring_up_to_date(bucket, address, place)


def _bring_up_to_date(bucket: Bucket, address: str, place: Path) -> Staged:
    entries = [entry for entry in bucket.find_all() if not _is_hidden(entry.name)]
    if not entries:
        raise UserError(f"--root {address}: there is nothing; check bucket and prefix")
    staged = Staged(place / "files", _compute_version(entries))
    mark = place / MARK
    if not _is_complete(place, staged.version):
        mark.unlink(missing_ok=True)
        _copy(bucket, entries, staged.folder)
        write_whole(mark, _make_mark(staged).encode())
    return staged


def _is_complete(place: Path, version: str) -> bool:
    """Tell whether a copy has this version, and all files as they were when it was complete."""
    try:
        mark = (place / MARK).read_bytes()
    except FileNotFoundError:
        return False
    # Most copies of another version are recognised without looking at their files.
    return (
        mark.startswith(version.encode())
        and mark == _make_mark(Staged(place / "files", version)).encode()
    )


def _make_mark(staged: Staged) -> str:
    states = sorted(_find_files(staged.folder).items())
    return f"{staged.version} {hashlib.sha256(repr(states).encode()).hexdigest()}\n"


def _check_address(address: str) -> str:
    if not address.startswith(SCHEME):
        raise UserError(
            f"--root {address}: expected a folder or s3://BUCKET/PREFIX. Google Cloud Storage speaks "
            "S3 too: AWS_ENDPOINT_URL=https://storage.googleapis.com with an HMAC key"
        )
    return address.rstrip("/")


def _name_folder(address: str) -> str:
    """Return a readable folder name that is unique for each address and server."""
    server = os.environ.get("AWS_ENDPOINT_URL", "")
    digest = hashlib.sha256(f"{server} {address}".encode()).hexdigest()[:12]
    return f"{address.removeprefix(SCHEME).strip('/').rpartition('/')[2]}-{digest}"


def _is_hidden(name: str) -> bool:
    """Return whether a name is hidden, leads out of the folder, or stands for a folder."""
    return not name or any(part == "" or part.startswith(".") for part in name.split("/"))


def _compute_version(entries: Sequence[Entry]) -> str:
    lines = (f"{each.name}\t{each.size}\t{each.version}\t{each.written}" for each in entries)
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def _copy(bucket: Bucket, entries: Sequence[Entry], folder: Path) -> None:
    """Fetch the missing files, and remove those that are no longer on the server."""
    folder.mkdir(exist_ok=True)
    here = _find_files(folder)
    wanted = {entry.name for entry in entries}
    for name in here.keys() - wanted:
        (folder / name).unlink()
    missing = [entry for entry in entries if here.get(entry.name) != _find_file_state(entry)]
    _check_room(folder, missing, bucket.locate(""))
    for parent in {(folder / entry.name).parent for entry in missing}:
        parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with progress_bar() as bar:
        shown = bar.add_task(f"copy {bucket.locate('')}", total=len(missing))
        _fetch_all(bucket, missing, folder, lambda: bar.advance(shown))
    size_mb = sum(entry.size for entry in missing) / 1e6
    console.print(
        f"{bucket.locate('')}: copied {len(missing):,} of {format_count(len(entries), 'file')}, {size_mb:,.1f} MB "
        f"in {time.monotonic() - started:.0f} s, to {folder}",
        markup=False,
    )


def _find_files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time, in seconds, of each file of a folder."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            name = path.relative_to(folder).as_posix()
            found[name] = (status.st_size, int(status.st_mtime))
    return found


def _find_file_state(entry: Entry) -> tuple[int, int]:
    return entry.size, int(entry.written.timestamp())


def _check_room(folder: Path, missing: Sequence[Entry], address: str) -> None:
    needed, status = sum(entry.size for entry in missing), os.statvfs(folder)
    free = FREE_SHARE * status.f_bavail * status.f_frsize
    if needed > free:
        raise UserError(
            f"--root {address}: {needed / 1e9:.1f} GB are to be copied to {folder}, which has room "
            f"for {free / 1e9:.1f} GB: free some, or name another disk with TUTTI_CACHE"
        )


def _fetch_all(
    bucket: Bucket, missing: Sequence[Entry], folder: Path, on_file: Callable[[], None]
) -> None:
    """Fetch files, as many at the same time as the connection allows."""
    with ThreadPoolExecutor(MAX_REQUESTS) as pool:
        try:
            for _ in pool.map(lambda entry: _fetch(bucket, entry, folder), missing):
                on_file()
        except BaseException:
            # Otherwise the pool would fetch all the others before the error is raised.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(bucket: Bucket, entry: Entry, folder: Path) -> None:
    """Fetch one file, whole or not at all.

    It is not synced: a file that a power failure cut has another size, and is fetched again.
    """
    data = bucket.get(entry.name)
    _check_download(bucket, entry, data)
    written = entry.written.timestamp()
    with open_whole(folder / entry.name, sync=False) as file:
        file.write(data)
        file.flush()
        os.utime(file.fileno(), (written, written))


def _check_download(bucket: Bucket, entry: Entry, data: bytes) -> None:
    """Make sure that a download is equal to its object.

    Raises:
        DamagedDownload: it has another size, or another MD5, where the server knows it.
    """
    found, expected = f"{len(data):,} bytes", f"{entry.size:,} bytes"
    if len(data) == entry.size:
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if md5 == entry.version.strip('"'):
            return
        expected_md5 = bucket.read_md5(entry.name)
        if expected_md5 in (None, md5):
            return
        found, expected = f"MD5 {md5}", f"MD5 {expected_md5}"
    raise DamagedDownload(
        f"{bucket.locate(entry.name)}: got {found}, expected {expected} as on the server: start the "
        "same command again; if that does not help, upload the object again"
    )
