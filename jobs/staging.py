"""A corpus that lies on S3, copied once to each node: `--root s3://BUCKET/PREFIX`.

The copy lies in $TUTTI_CACHE/corpora, a folder an address. A file that is there with the size and the
time of its object is not fetched again, so that an interrupted copy goes on where it was.
"""

import functools
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from audio.waveforms import cache_folder, locked
from jobs.command import UserError, console, progress_bar
from logit_store.bucket import SCHEME, Bucket
from logit_store.files import Entry
from logit_store.s3 import AT_ONCE

MARK = "version"
"""Beside the files: holds the version of what is wholly there."""
PART = ".part"
"""Ends the name of a file that is not whole yet; the name begins with a dot."""
FREE_SHARE = 0.98
"""Of the free space that a copy may take."""


class DamagedDownload(UserError):
    """What came is not what the server says it holds; the message names the object."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A corpus's files on this node."""

    folder: Path
    version: str
    """Hex digits of all names, sizes and times: another one whenever an object is replaced."""


@functools.lru_cache(maxsize=8)
def stage(address: str, version: str | None = None) -> Staged:
    """Make sure that all that lies at an address lies on this node.

    One process of a node copies; the others wait and find the work done. A process asks the server
    once. Hidden names and folders' own objects are passed over; files whose object is gone are
    removed.

    Args:
        address: `s3://BUCKET/PREFIX`.
        version: of what is to lie here; if the node has it, the server is not asked at all. None
            is what lies there now.

    Raises:
        UserError: nothing lies there, its address is none of S3, or the disk is too small.
        DamagedDownload: an object came otherwise than it is.
        UnreachableStore: the server does not answer, or refuses.
    """
    bucket = Bucket(_checked(address))
    place = cache_folder().absolute() / "corpora" / _name(bucket.where(""))
    if version is not None and _read(place / MARK) == version:
        return Staged(place / "files", version)
    place.mkdir(parents=True, exist_ok=True)
    with locked(place):
        # Another process may have done it meanwhile.
        if version is not None and _read(place / MARK) == version:
            return Staged(place / "files", version)
        return _bring_up_to_date(bucket, address, place)


def _bring_up_to_date(bucket: Bucket, address: str, place: Path) -> Staged:
    entries = [entry for entry in bucket.everything() if not _is_hidden(entry.name)]
    if not entries:
        raise UserError(f"--root {address}: nothing lies there; check bucket and prefix")
    staged = Staged(place / "files", _version(entries))
    mark = place / MARK
    if _read(mark) != staged.version:
        mark.unlink(missing_ok=True)
        _copy(bucket, entries, staged.folder)
        mark.write_text(staged.version)
    return staged


def _checked(address: str) -> str:
    if not address.startswith(SCHEME):
        raise UserError(
            f"--root {address}: expected a folder or s3://BUCKET/PREFIX. Google Cloud Storage speaks "
            "S3 too: AWS_ENDPOINT_URL=https://storage.googleapis.com with an HMAC key"
        )
    return address.rstrip("/")


def _name(address: str) -> str:
    """Of the folder: readable, and one for each address and server."""
    server = os.environ.get("AWS_ENDPOINT_URL", "")
    digest = hashlib.sha256(f"{server} {address}".encode()).hexdigest()[:12]
    return f"{address.removeprefix(SCHEME).strip('/').rpartition('/')[2]}-{digest}"


def _is_hidden(name: str) -> bool:
    """Whether it is hidden, leads out of the folder, or is an object that stands for a folder."""
    return not name or any(part == "" or part.startswith(".") for part in name.split("/"))


def _version(entries: Sequence[Entry]) -> str:
    lines = (f"{each.name}\t{each.size}\t{each.version}\t{each.written}" for each in entries)
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


def _read(mark: Path) -> str | None:
    try:
        return mark.read_text()
    except FileNotFoundError:
        return None


def _copy(bucket: Bucket, entries: Sequence[Entry], folder: Path) -> None:
    """Fetch what is not here, and remove what is not there."""
    folder.mkdir(exist_ok=True)
    here = _files(folder)
    wanted = {entry.name for entry in entries}
    for name in here.keys() - wanted:
        (folder / name).unlink()
    missing = [entry for entry in entries if here.get(entry.name) != _state(entry)]
    _check_room(folder, missing, bucket.where(""))
    for parent in {(folder / entry.name).parent for entry in missing}:
        parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with progress_bar() as bar:
        shown = bar.add_task(f"copy {bucket.where('')}", total=len(missing))
        _fetch_all(bucket, missing, folder, lambda: bar.advance(shown))
    size_mb = sum(entry.size for entry in missing) / 1e6
    console.print(
        f"{bucket.where('')}: copied {len(missing):,} of {len(entries):,} files, {size_mb:,.1f} MB "
        f"in {time.monotonic() - started:.0f} s, to {folder}",
        markup=False,
    )


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time, in seconds, of the files of a folder."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            status = path.stat()
            name = path.relative_to(folder).as_posix()
            found[name] = (status.st_size, int(status.st_mtime))
    return found


def _state(entry: Entry) -> tuple[int, int]:
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
    """Fetch files, so many at once as the store's connection has lines to the server."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for _ in pool.map(lambda entry: _fetch(bucket, entry, folder), missing):
                on_file()
        except BaseException:
            # Else the pool would fetch all the others before the error is heard.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(bucket: Bucket, entry: Entry, folder: Path) -> None:
    """One file, whole or not at all. Not synced: a file cut by a power failure has another size."""
    data = bucket.get(entry.name)
    _check(bucket, entry, data)
    path = folder / entry.name
    part = path.with_name(f".{path.name}{PART}")
    part.write_bytes(data)
    written = entry.written.timestamp()
    os.utime(part, (written, written))
    part.replace(path)


def _check(bucket: Bucket, entry: Entry, data: bytes) -> None:
    """Make sure that a file is what the server holds.

    Raises:
        DamagedDownload: another size, or another MD5 than its ETag where that is one.
    """
    found, expected = f"{len(data):,} bytes", f"{entry.size:,} bytes"
    if len(data) == entry.size:
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if md5 == entry.version.strip('"'):
            return
        told = bucket.md5(entry.name)
        if told in (None, md5):
            return
        found, expected = f"MD5 {md5}", f"MD5 {told}"
    raise DamagedDownload(
        f"{bucket.where(entry.name)}: {found} came, expected {expected} as the server says: start "
        "the same command again; if it is so again, upload the object anew"
    )
