"""Whole files below a prefix of an S3 bucket: one request writes one, local copies serve reads."""

import asyncio
import fnmatch
import functools
import glob
import io
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from botocore.exceptions import ClientError

from logit_store.cache import Cache, cache_of_this_machine
from logit_store.errors import UnsupportedAddress
from logit_store.files import Entry
from logit_store.s3 import AT_ONCE, Requests, in_words, is_absent, is_past_the_end

if TYPE_CHECKING:
    import duckdb

SCHEME = "s3://"

_END_BYTES = 64 * 1024
"""Holds the footer of a Parquet file unless its record is a novel."""
_FETCHED_FOR_S = 30
"""Who fetches opens at once. What was not opened by then is asked for again."""
_FOOTER_TAIL = re.compile(rb"(?P<length>.{4})PAR1\Z", re.DOTALL)


class Bucket:
    """The `Files` of an `s3://BUCKET/PREFIX` address.

    Endpoint, region and keys are those of the usual variables (AWS_ENDPOINT_URL,
    AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE...). Any method that
    asks the server raises UnreachableStore when it gets no answer or is refused, and any that
    makes a local copy UnusableCache when there is no place for it.
    """

    def __init__(self, address: str) -> None:
        """Name a place; touches nothing.

        Raises:
            UnsupportedAddress: no bucket in it.
        """
        bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
        if not bucket:
            raise UnsupportedAddress(address)
        self._requests, self._prefix = Requests(bucket), prefix.strip("/")
        self._exists = False
        self._fetched: dict[str, str] = {}
        self._fetched_until = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (self.where(""),)

    def exists(self) -> bool:
        """Whether anything was ever written here."""
        if not self._exists:
            page = self._ask("", "list_objects_v2", Prefix=self._key(""), MaxKeys=1)
            self._exists = bool(page.get("Contents"))
        return self._exists

    def where(self, name: str) -> str:
        """The full address of a file, for people."""
        return f"{SCHEME}{self._requests.bucket}/{self._key(name)}"

    def has(self, name: str) -> bool:
        """Whether the file is there, whole."""
        if self._fetched_etag(name):
            return True
        try:
            self._etag(name)
        except FileNotFoundError:
            return False
        return True

    def entries(self, pattern: str) -> list[Entry]:
        """Files whose names match a glob pattern, in which `*` stays within a part; sorted.

        One request for each thousand of files that begin as the pattern does up to its first `*`.
        A file's version is its ETag, which a replacement by the same bytes keeps.
        """
        found = map(self._entry, self._listed(self._key(pattern.partition("*")[0])))
        matching = (entry for entry in found if _matches(entry.name, pattern))
        return sorted(matching, key=lambda entry: entry.name)

    def everything(self) -> list[Entry]:
        """All files, however deep, sorted; one request for each thousand."""
        return sorted(map(self._entry, self._listed(self._key(""))), key=lambda entry: entry.name)

    def md5(self, name: str) -> str | None:
        """MD5 of a file in hex digits; None where its ETag is none.

        It is none of what was uploaded in parts, or encrypted with other keys than the server's.
        """
        head = self._ask(name, "head_object", Key=self._key(name))
        etag = head["ETag"].strip('"')
        own_keys = head.get("ServerSideEncryption", "AES256") == "AES256"
        is_md5 = own_keys and "SSECustomerAlgorithm" not in head and "-" not in etag
        return etag if is_md5 else None

    def fetch(self, names: Sequence[str]) -> None:
        """Copy files to this machine, many at once; their next opening asks the server nothing.

        Names that are not there are passed over.
        """
        self._fetched = {}
        with in_words(self.where("")):
            self._fetched = self._requests.run(self._fetch, names)
        self._fetched_until = time.monotonic() + _FETCHED_FOR_S
        self._cache.trim()

    def open(self, name: str) -> pa.NativeFile:
        """The local copy of the version that is there now, made if need be."""
        etag = self._fetched_etag(name) or self._etag(name)
        self._fetched.pop(name, None)
        copy = self._cache.open(self._version(name, etag))
        if copy is not None:
            return copy
        etag, data = self._read(name)
        self._cache.put(self._version(name, etag), data)
        self._cache.trim()
        return pa.BufferReader(data)

    def open_end(self, name: str) -> pa.NativeFile:
        """A Parquet file of which only the end, with all of the footer, can be read.

        One request for the last 64 KiB; one more if the footer is longer.
        """
        end, size = self._read_end(name, _END_BYTES)
        tail = _FOOTER_TAIL.search(end)
        footer_bytes = int.from_bytes(tail["length"], "little") + 8 if tail else 0
        if len(end) < footer_bytes <= size:
            # Perhaps of another version by now, but then all of it.
            end, size = self._read_end(name, footer_bytes)
        return pa.PythonFile(_End(end, size), mode="r")

    def get(self, name: str) -> bytes:
        """What is in the file; leaves no local copy."""
        return self._read(name)[1]

    def local(self, name: str) -> Path:
        """A copy of the file on this machine, which stays until newer ones take its place."""
        path = self._cache.path(self._version(name, self._etag(name)))
        if path is not None:
            return path
        etag, data = self._read(name)
        path = self._cache.put(self._version(name, etag), data)
        self._cache.trim()
        return path

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> Callable[[str], str]:
        """Let DuckDB read the files as long as the connection lasts.

        Returns:
            From a name to the path, taken for a glob pattern, by which DuckDB finds that file
            alone. It ends with the name.
        """
        connection.register_filesystem(self._requests.file_system)
        root = glob.escape(self.where("").removeprefix(SCHEME))
        return lambda name: f"{SCHEME}{root}{name}"

    def put(self, name: str, data: bytes | memoryview | pa.Buffer) -> None:
        """Write the file in one request, so whole or not at all; replaces what was there.

        S3 takes at most 5 GiB in one.
        """
        self._fetched.pop(name, None)
        body = data if isinstance(data, bytes) else bytes(memoryview(data))
        self._ask(name, "put_object", Key=self._key(name), Body=body)

    def delete(self, name: str) -> None:
        """Make sure that the file is not there."""
        self._fetched.pop(name, None)
        self._ask(name, "delete_object", Key=self._key(name))

    def sweep(self, *, dry_run: bool = False) -> list[str]:
        """Nothing to do: of a request that breaks off, S3 keeps no part."""
        return []

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    @functools.cached_property
    def _cache(self) -> Cache:
        return cache_of_this_machine()

    def _version(self, name: str, etag: str) -> str:
        return f"{self._requests.endpoint} {self.where(name)} {etag}"

    def _fetched_etag(self, name: str) -> str | None:
        return self._fetched.get(name) if time.monotonic() < self._fetched_until else None

    def _ask(self, name: str, method: str, **arguments: Any) -> dict[str, Any]:
        with in_words(self.where(name)):
            return self._requests.run(self._requests.ask, method, **arguments)

    def _etag(self, name: str) -> str:
        return self._ask(name, "head_object", Key=self._key(name))["ETag"]

    def _read(self, name: str) -> tuple[str, bytes]:
        """A file's ETag and what is in it, of one answer."""
        answer = self._ask(name, "get_object", Key=self._key(name))
        return answer["ETag"], answer["Body"]

    def _read_end(self, name: str, length: int) -> tuple[bytes, int]:
        """The last bytes of a file, and the size of all of it."""
        with in_words(self.where(name)):
            return self._requests.run(self._last, name, length)

    async def _last(self, name: str, length: int) -> tuple[bytes, int]:
        try:
            answer = await self._requests.ask(
                "get_object", Key=self._key(name), Range=f"bytes=-{length}"
            )
        except ClientError as error:
            if is_past_the_end(error):  # as of any range of an empty file
                return b"", 0
            raise
        return answer["Body"], int(answer["ContentRange"].rpartition("/")[2])

    async def _fetch(self, names: Sequence[str]) -> dict[str, str]:
        """Copy files; gives the ETags of those that are there."""
        gate = asyncio.Semaphore(AT_ONCE)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {name: group.create_task(self._fetch_one(name, gate)) for name in names}
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        etags = {name: task.result() for name, task in tasks.items()}
        return {name: etag for name, etag in etags.items() if etag is not None}

    async def _fetch_one(self, name: str, gate: asyncio.Semaphore) -> str | None:
        """Copy a file unless its version is here; gives the ETag, None if it is not there."""
        async with gate:
            try:
                etag = (await self._requests.ask("head_object", Key=self._key(name)))["ETag"]
                if self._cache.path(self._version(name, etag)) is not None:
                    return etag
                answer = await self._requests.ask("get_object", Key=self._key(name))
            except ClientError as error:
                if is_absent(error):
                    return None
                raise
            version = self._version(name, answer["ETag"])
            # In a thread, as the disk must not keep the other answers waiting.
            await asyncio.to_thread(self._cache.put, version, answer["Body"])
            return answer["ETag"]

    def _listed(self, prefix: str) -> Iterator[dict[str, Any]]:
        following: dict[str, str] = {}
        while True:
            page = self._ask("", "list_objects_v2", Prefix=prefix, **following)
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page["NextContinuationToken"]}

    def _entry(self, listed: dict[str, Any]) -> Entry:
        return Entry(
            name=listed["Key"].removeprefix(self._key("")),
            size=listed["Size"],
            written=listed["LastModified"].astimezone(UTC),
            version=listed["ETag"],
        )


class _End(io.RawIOBase):
    """A file of which only the last bytes are here."""

    def __init__(self, end: bytes, size: int) -> None:
        self._end, self._size, self._position = end, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        start = self._position - (self._size - len(self._end))
        if start < 0:
            raise OSError(f"byte {self._position} of {self._size}: only the end is here")
        data = self._end[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def _matches(name: str, pattern: str) -> bool:
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(
        not part.startswith(".") and fnmatch.fnmatchcase(part, each)
        for part, each in zip(parts, patterns, strict=True)
    )
