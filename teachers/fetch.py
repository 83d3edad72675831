"""Files from the network: once per machine, whole or not at all, and recognised ever after."""

import fcntl
import functools
import hashlib
import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import requests

from logit_store import LogitStore

logger = logging.getLogger(__name__)

OnProgress = Callable[[int, int | None], None]
"""Told the bytes that are here, and how many there will be (None: the server does not say)."""

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
CHUNK_BYTES = 2**16
"""What is lost at most when a connection breaks."""
S3_CHUNK_BYTES = 2**23
WAITS_S: tuple[float, ...] = (1, 2, 4, 8)
"""Before each new attempt, as long as none brings anything new."""
LONGEST_WAIT_S = 60


class WeightsError(Exception):
    """What can go wrong with published weights; survives pickling.

    WeightsError
    ├── MissingWeights   (also a FileNotFoundError) not on this machine, and not to be had
    ├── DamagedWeights   (also an OSError) not the bytes that were there before
    └── UnfitWeights     (also a ValueError) no state dict, or that of another architecture
    """

    parts: tuple[Any, ...] = ()

    # An error crosses process borders in Ray. By default it would be made anew by calling the
    # class with the finished message, which is not what the constructors here take.
    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.parts


class MissingWeights(WeightsError, FileNotFoundError):
    """Weights are not on this machine and could not be fetched."""

    def __init__(self, address: str, reason: str, way_out: str) -> None:
        self.parts = (address, reason, way_out)
        self.address, self.reason, self.way_out = self.parts
        super().__init__(f"no weights from {address}: {reason}\n{way_out}")


class DamagedWeights(WeightsError, OSError):
    """A file is not what it was when it was fetched."""

    def __init__(self, place: str, problem: str, way_out: str) -> None:
        self.parts = (place, problem, way_out)
        self.place, self.problem, self.way_out = self.parts
        super().__init__(f"{place}: {problem}\n{way_out}")


def fetch(
    address: str,
    *,
    store: LogitStore | None = None,
    on_progress: OnProgress = lambda done, total: None,
) -> Path:
    """The local copy of a published file, downloaded unless it is here.

    However many processes of a machine ask at once, one downloads and the others wait for it. What
    an interrupted download left is resumed by the next one.

    Args:
        address: https://, http:// or s3:// (keys and endpoint from the usual AWS_* variables).
        store: remembers size and SHA-256 at the first use, which are compared at every later one;
            None trusts the file.
        on_progress: called again and again while this process downloads.

    Raises:
        ValueError: an address of another kind, or one that names no file.
        MissingWeights: it is not here, and the network does not give it.
        DamagedWeights: it is not the file that the store remembers.
    """
    open_body = _opener(address)
    place = place_of(address)
    if not place.is_file():
        _download(address, place, open_body, on_progress)
    if store is not None:
        _recognise(address, place, store)
    return place


def weights_folder() -> Path:
    """Where weights lie on this machine: $TUTTI_WEIGHTS, else ~/.cache/tutti/weights."""
    named = os.environ.get("TUTTI_WEIGHTS")
    folder = Path(named).expanduser() if named else Path.home() / ".cache" / "tutti" / "weights"
    return folder.absolute()


def place_of(address: str) -> Path:
    """Where the file of an address lies, or would; a file put there by hand is as good.

    Its name is the published one and twelve digits that stand for the whole address, so that two
    hosts' files of one name never meet.

    Raises:
        ValueError: the address names no file.
    """
    published = PurePosixPath(unquote(urlsplit(address).path)).name
    if not published or address.endswith("/"):
        raise ValueError(f"address {address!r} names no file: it should end in one, like .../mn.pt")
    plain = PurePosixPath(re.sub(r"[^A-Za-z0-9._-]", "_", published).lstrip("."))
    digits = hashlib.sha256(address.encode()).hexdigest()[:12]
    return weights_folder() / f"{plain.stem}-{digits}{plain.suffix}"


class _Body(NamedTuple):
    """What a server sends of a file."""

    start: int
    """Which byte of the file is its first."""
    total: int | None
    """Bytes of the whole file."""
    tag: str | None
    """Stands for this version of the file; None: the server does not tell versions apart."""
    chunks: Iterator[bytes]


_OpenBody = Callable[[int, str | None], AbstractContextManager[_Body]]
"""From the bytes that are here and their tag to what is missing, or to all if they are stale."""


class _Interrupted(Exception):
    """An attempt failed in a way that another one may not."""

    def __init__(
        self,
        reason: str,
        *,
        wait_s: float = 0,
        is_unreachable: bool = False,
        is_stale: bool = False,
    ) -> None:
        super().__init__(reason)
        self.wait_s, self.is_unreachable, self.is_stale = wait_s, is_unreachable, is_stale


class _Refused(Exception):
    """The server will not give the file, however often it is asked."""


class _Partial:
    """The bytes of a file that have come so far, and the tag of the version that they are of."""

    def __init__(self, place: Path) -> None:
        self.file = place.with_name(f".{place.name}.part")
        self.tag_file = place.with_name(f".{place.name}.tag")

    def size(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def tag(self) -> str | None:
        return self.tag_file.read_text() if self.tag_file.exists() else None

    def drop(self) -> None:
        self.file.unlink(missing_ok=True)
        self.tag_file.unlink(missing_ok=True)

    def receive(self, body: _Body, on_progress: OnProgress) -> None:
        """Append a body, or start over with it.

        Raises:
            _Interrupted: fewer or more bytes came than were promised.
        """
        if body.start == 0:
            self.drop()
            if body.tag is not None:
                self.tag_file.write_text(body.tag)
        done = body.start
        with self.file.open("ab") as file:
            on_progress(done, body.total)
            for chunk in body.chunks:
                file.write(chunk)
                done += len(chunk)
                on_progress(done, body.total)
            file.flush()
            os.fsync(file.fileno())
        if body.total is not None and done != body.total:
            raise _Interrupted(f"{done} of {body.total} bytes came")

    def finish(self, place: Path) -> None:
        self.file.replace(place)
        self.tag_file.unlink(missing_ok=True)


def _download(address: str, place: Path, open_body: _OpenBody, on_progress: OnProgress) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(place):
        if place.is_file():
            return
        logger.info("downloading address=%s place=%s", address, place)
        partial = _Partial(place)
        try:
            _complete(partial, open_body, on_progress)
        except (_Interrupted, _Refused) as error:
            raise MissingWeights(address, str(error), _by_hand(address, place)) from error
        partial.finish(place)


def _by_hand(address: str, place: Path) -> str:
    bring = f"aws s3 cp '{address}' '{place}'"
    if not address.startswith("s3://"):
        bring = f"curl -L -o '{place}' '{address}'"
    return (
        f"Put the file there by hand: {bring}\n($TUTTI_WEIGHTS names another folder), or start "
        "from random weights: --weights none"
    )


def _complete(partial: _Partial, open_body: _OpenBody, on_progress: OnProgress) -> None:
    """Attempt again until all is here, or until several attempts in a row brought nothing."""
    failures, longest = 0, partial.size()
    while True:
        try:
            with open_body(partial.size(), partial.tag()) as body:
                return partial.receive(body, on_progress)
        except _Interrupted as error:
            if partial.size() > longest:
                failures, longest = 0, partial.size()
            # Without a network the answer is the same for a while, and others wait at the lock.
            if failures == (1 if error.is_unreachable else len(WAITS_S)):
                raise
            if error.is_stale:
                partial.drop()
            logger.info("interrupted reason=%s failures=%d", error, failures)
            # Of different length on each machine, which would else come back all at once.
            time.sleep(max(error.wait_s, WAITS_S[failures] * random.uniform(0.5, 1.5)))
            failures += 1


@contextmanager
def _one_at_a_time(place: Path) -> Generator[None]:
    """Keep the machine's other processes out; the lock goes when its holder does, however."""
    with place.with_name(f".{place.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _opener(address: str) -> _OpenBody:
    openers = {"http": _open_http, "https": _open_http, "s3": _open_s3}
    scheme = urlsplit(address).scheme
    if scheme not in openers:
        raise ValueError(f"address {address!r}, expected one with https://, http:// or s3://")
    return functools.partial(openers[scheme], address)


@contextmanager
def _open_http(address: str, n_bytes: int, tag: str | None) -> Generator[_Body]:
    # Compressed on the way, a file would come in another length than Content-Length says.
    headers = {"Accept-Encoding": "identity"}
    if n_bytes and tag is not None:
        headers |= {"Range": f"bytes={n_bytes}-", "If-Range": tag}
    has_answered = False
    timeouts_s = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    try:
        with requests.get(address, headers=headers, stream=True, timeout=timeouts_s) as response:
            has_answered = True
            yield _http_body(response, n_bytes)
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        raise _Interrupted(_words(error), is_unreachable=not has_answered) from error
    except requests.RequestException as error:
        raise _Refused(_words(error)) from error


def _http_body(response: requests.Response, n_bytes: int) -> _Body:
    status = f"HTTP {response.status_code} {response.reason}"
    if response.status_code == 416:
        raise _Interrupted(f"{status}: the {n_bytes} bytes here are not of it", is_stale=True)
    if response.status_code in (408, 429) or response.status_code >= 500:
        wait = response.headers.get("Retry-After", "")
        raise _Interrupted(status, wait_s=min(int(wait), LONGEST_WAIT_S) if wait.isdecimal() else 0)
    if response.status_code not in (200, 206):
        raise _Refused(status)
    chunks = response.iter_content(CHUNK_BYTES)
    if response.status_code == 206:
        return _Body(n_bytes, _range_total(response, n_bytes), None, chunks)
    length = response.headers.get("Content-Length")
    return _Body(0, None if length is None else int(length), _http_tag(response), chunks)


def _range_total(response: requests.Response, n_bytes: int) -> int | None:
    """Bytes of the file of which the rest is answered; None where the server does not know."""
    given = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", given)
    if match is None or int(match[1]) != n_bytes:
        raise _Interrupted(f"asked from byte {n_bytes} on, answered {given!r}", is_stale=True)
    return None if match[2] == "*" else int(match[2])


def _http_tag(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag", "")
    # A weak one (W/) stands for files that may differ in their bytes.
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


@contextmanager
def _open_s3(address: str, n_bytes: int, tag: str | None) -> Generator[_Body]:
    # Half a second to import, which most processes never need.
    import s3fs

    with _s3_errors():
        files = s3fs.S3FileSystem(skip_instance_cache=True)
        details: Any = files.info(address)
        source = files.open(address, "rb", block_size=S3_CHUNK_BYTES, cache_type="none")
        is_same = tag == details["ETag"] and n_bytes <= details["size"]
        start = n_bytes if is_same else 0
        source.seek(start)
    with source:
        yield _Body(start, details["size"], details["ETag"], _s3_chunks(source))


def _s3_chunks(source: Any) -> Iterator[bytes]:
    while True:
        with _s3_errors():
            chunk = source.read(S3_CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


@contextmanager
def _s3_errors() -> Generator[None]:
    from aiohttp import ClientError as HttpError
    from botocore.exceptions import BotoCoreError, NoCredentialsError

    try:
        yield
    except NoCredentialsError as error:
        reason = "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise _Refused(reason) from error
    except (FileNotFoundError, PermissionError, ValueError) as error:
        raise _Refused(_words(error)) from error
    except (BotoCoreError, HttpError, OSError) as error:
        raise _Interrupted(_words(error)) from error


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _recognise(address: str, place: Path, store: LogitStore) -> None:
    """Remember what the file is, or compare it with what is remembered."""
    name = f"weights/v1/{place.name}/fetched.json"
    stat = place.stat()
    sha256 = _sha256(place, stat.st_size, stat.st_mtime_ns)
    if not store.has_object(name):
        parts = urlsplit(address)
        # Neither passwords nor signatures belong into a store that others read.
        public = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
        when = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"address": public, "bytes": stat.st_size, "sha256": sha256, "when": when}
        store.write_object(name, f"{json.dumps(record, indent=1)}\n".encode())
        return
    record = _recorded(store, name)
    if record["sha256"] != sha256:
        raise DamagedWeights(
            str(place),
            f"sha256 {sha256} ({stat.st_size} bytes), but at the first use ({record['when']}) it "
            f"was {record['sha256']} ({record['bytes']} bytes)",
            f"Delete the file to fetch it again. If it has been published anew and you want that, "
            f"delete {store.address}/{name} too: what was learnt so far began with the old one",
        )


def _recorded(store: LogitStore, name: str) -> dict[str, Any]:
    try:
        record = json.loads(store.read_object(name))
        return {key: record[key] for key in ("bytes", "sha256", "when")}
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedWeights(
            f"{store.address}/{name}",
            f"no record of a fetched file: {_words(error)}",
            "Delete it: the next use writes it again",
        ) from error


@functools.lru_cache(maxsize=256)
def _sha256(place: Path, n_bytes: int, changed_ns: int) -> str:
    """Read once per process; size and time are asked for so that a changed file is read again."""
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
