"""The files of a store in an S3 bucket: one request writes a file, local copies serve reads."""

import asyncio
import contextlib
import functools
import glob
import io
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
from botocore.exceptions import ClientError

from logit_store.cache import Cache, open_machine_cache
from logit_store.errors import UnsupportedAddress
from logit_store.files import Entry, Part
from logit_store.paths import matches
from logit_store.s3 import MAX_REQUESTS, Requests, is_absent, is_past_the_end, translate_errors

if TYPE_CHECKING:
    import duckdb

SCHEME = "s3://"

_END_BYTES = 64 * 1024
"""Enough for the footer of a Parquet file, unless its record is very long."""
_PREFETCHED_FOR_S = 30
"""Prefetched files are opened at once. After this time the server is asked again."""
_READS = ("get_object", "head_object")
_FOOTER_TAIL = re.compile(rb"(?P<length>.{4})PAR1\Z", re.DOTALL)


class Bucket:
    """The `Files` of an `s3://BUCKET/PREFIX` address.

    Endpoint, region and keys come from the usual variables (AWS_ENDPOINT_URL, AWS_DEFAULT_REGION,
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE...). A method that asks the server raises
    UnreachableStore if there is no response or the request is refused; a method that makes a local
    copy raises UnusableCache if it cannot.
    """

    is_near = False

    def __init__(self, address: str) -> None:
        """Name a place; no request is made.

        Raises:
            UnsupportedAddress: there is no bucket in it, or there are keys in it.
        """
        bucket, _, prefix = address.removeprefix(SCHEME).partition("/")
        if not bucket or (re.search("[:@]", bucket) and not bucket.startswith("arn:")):
            raise UnsupportedAddress(address)
        self._requests, self._prefix = Requests(bucket), prefix.strip("/")
        self._exists = False
        self._prefetched: dict[str, str] = {}
        self._prefetched_until = 0.0

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (self.locate(""),)

    def exists(self) -> bool:
        """Tell whether anything was ever written here."""
        if not self._exists:
            page = self._ask("", "list_objects_v2", Prefix=self._key(""), MaxKeys=1)
            self._exists = bool(page.get("Contents"))
        return self._exists

    def locate(self, name: str) -> str:
        """Return the full address of a file, for people."""
        return f"{SCHEME}{self._requests.bucket}/{self._key(name)}"

    def has(self, name: str) -> bool:
        """Tell whether the file exists."""
        if self._find_prefetched_etag(name):
            return True
        try:
            self._read_etag(name)
        except FileNotFoundError:
            return False
        return True

    def find(self, pattern: str) -> list[Entry]:
        """List files whose names match a glob pattern, sorted; `*` does not match a slash.

        This takes one request for each thousand files that begin like the pattern up to its first
        `*`. The version of a file is its ETag, which stays if it is replaced by the same bytes.
        """
        entries = map(self._make_entry, self._list_objects(self._key(pattern.partition("*")[0])))
        matching = (entry for entry in entries if matches(entry.name, pattern))
        return sorted(matching, key=lambda entry: entry.name)

    def find_all(self) -> list[Entry]:
        """List all files, sorted; this takes one request for each thousand."""
        return sorted(
            map(self._make_entry, self._list_objects(self._key(""))), key=lambda entry: entry.name
        )

    def read_md5(self, name: str) -> str | None:
        """Return the MD5 of a file in hex digits, or None if its ETag is not an MD5.

        It is not if the file was uploaded in parts, or encrypted with other keys than the server's.
        """
        head = self._ask(name, "head_object", Key=self._key(name))
        etag = head["ETag"].strip('"')
        own_keys = head.get("ServerSideEncryption", "AES256") == "AES256"
        is_md5 = own_keys and "SSECustomerAlgorithm" not in head and "-" not in etag
        return etag if is_md5 else None

    def prefetch(self, names: Sequence[str]) -> None:
        """Copy many files to this machine at once; opening them next needs no request.

        Missing files are skipped.
        """
        self._prefetched = {}
        with translate_errors(self.locate("")):
            self._prefetched = self._requests.run(self._fetch, names)
        self._prefetched_until = time.monotonic() + _PREFETCHED_FOR_S
        self._cache.trim()

    def open(self, name: str) -> pa.NativeFile:
        """Open a local copy of the current version; make it if necessary."""
        etag = self._find_prefetched_etag(name) or self._read_etag(name)
        self._prefetched.pop(name, None)
        copy = self._cache.open(self._name_version(name, etag))
        if copy is not None:
            return copy
        etag, data = self._read(name)
        self._cache.put(self._name_version(name, etag), data)
        self._cache.trim()
        return pa.BufferReader(data)

    def open_end(self, name: str) -> pa.NativeFile:
        """Open a Parquet file of which only the end, with the whole footer, can be read.

        This takes one request for the last 64 KiB, and another if the footer is longer.
        """
        end, size = self._read_end(name, _END_BYTES)
        tail = _FOOTER_TAIL.search(end)
        footer_bytes = int.from_bytes(tail["length"], "little") + 8 if tail else 0
        if len(end) < footer_bytes <= size:
            # The file may have been replaced since; then all of this is of the new version.
            end, size = self._read_end(name, footer_bytes)
        return pa.PythonFile(_End(end, size), mode="r")

    def get(self, name: str) -> bytes:
        """Read the whole file; makes no local copy."""
        return self._read(name)[1]

    def fetch(self, name: str) -> Path:
        """Return the path of a copy on this machine, which stays until newer copies replace it."""
        path = self._cache.path(self._name_version(name, self._read_etag(name)))
        if path is not None:
            return path
        etag, data = self._read(name)
        path = self._cache.put(self._name_version(name, etag), data)
        self._cache.trim()
        return path

    def attach(self, connection: "duckdb.DuckDBPyConnection") -> Callable[[str], str]:
        """Let DuckDB read the files as long as the connection lasts.

        Returns:
            A function from a name to the path under which DuckDB finds that file and no other. The
            path is a glob pattern that ends with the name.
        """
        connection.register_filesystem(self._requests.file_system)
        root = glob.escape(self.locate("").removeprefix(SCHEME))
        return lambda name: f"{SCHEME}{root}{name}"

    def put(self, name: str, *parts: Part) -> None:
        """Write or replace a file in one request, so whole or not at all.

        S3 takes at most 5 GiB in one request.
        """
        self._prefetched.pop(name, None)
        body = b"".join(map(memoryview, parts))
        self._ask(name, "put_object", Key=self._key(name), Body=body)

    @contextlib.contextmanager
    def create(self, name: str, n_bytes: int) -> Iterator[BinaryIO]:
        """Open a file for writing piece by piece: it is sent in one request when the block ends.

        Until then it is on this machine's disk, in a file without a name.

        Raises:
            UnusableCache: there is no space for it.
        """
        with self._cache.open_scratch(n_bytes) as file:
            yield file
            file.seek(0)
            self._prefetched.pop(name, None)
            self._ask(name, "put_object", Key=self._key(name), Body=file)

    def delete(self, name: str) -> None:
        """Delete the file if it exists."""
        self._prefetched.pop(name, None)
        self._ask(name, "delete_object", Key=self._key(name))

    def sweep(self, *, dry_run: bool = False) -> list[str]:
        """Do nothing: S3 keeps nothing of an interrupted request."""
        return []

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name

    @functools.cached_property
    def _cache(self) -> Cache:
        return open_machine_cache()

    def _name_version(self, name: str, etag: str) -> str:
        return f"{self._requests.endpoint} {self.locate(name)} {etag}"

    def _find_prefetched_etag(self, name: str) -> str | None:
        return self._prefetched.get(name) if time.monotonic() < self._prefetched_until else None

    def _ask(self, name: str, method: str, **arguments: Any) -> dict[str, Any]:
        with translate_errors(self.locate(name), may_be_absent=method in _READS):
            return self._requests.run(self._requests.ask, method, **arguments)

    def _read_etag(self, name: str) -> str:
        return self._ask(name, "head_object", Key=self._key(name))["ETag"]

    def _read(self, name: str) -> tuple[str, bytes]:
        """Return the ETag and the bytes of a file, from one response."""
        response = self._ask(name, "get_object", Key=self._key(name))
        return response["ETag"], response["Body"]

    def _read_end(self, name: str, length: int) -> tuple[bytes, int]:
        """Return the last bytes of a file, and its size."""
        with translate_errors(self.locate(name)):
            return self._requests.run(self._request_end, name, length)

    async def _request_end(self, name: str, length: int) -> tuple[bytes, int]:
        try:
            response = await self._requests.ask(
                "get_object", Key=self._key(name), Range=f"bytes=-{length}"
            )
        except ClientError as error:
            if is_past_the_end(error):  # so is any range of an empty file
                return b"", 0
            raise
        return response["Body"], int(response["ContentRange"].rpartition("/")[2])

    async def _fetch(self, names: Sequence[str]) -> dict[str, str]:
        """Copy files; return the ETags of those that exist."""
        gate = asyncio.Semaphore(MAX_REQUESTS)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = {name: group.create_task(self._fetch_one(name, gate)) for name in names}
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        etags = {name: task.result() for name, task in tasks.items()}
        return {name: etag for name, etag in etags.items() if etag is not None}

    async def _fetch_one(self, name: str, gate: asyncio.Semaphore) -> str | None:
        """Copy a file unless this version is here; return its ETag, or None if it does not exist."""
        async with gate:
            try:
                etag = (await self._requests.ask("head_object", Key=self._key(name)))["ETag"]
                if self._cache.path(self._name_version(name, etag)) is not None:
                    return etag
                response = await self._requests.ask("get_object", Key=self._key(name))
            except ClientError as error:
                if is_absent(error):
                    return None
                raise
            version = self._name_version(name, response["ETag"])
            # In a thread, so that other responses do not wait for the disk.
            await asyncio.to_thread(self._cache.put, version, response["Body"])
            return response["ETag"]

    def _list_objects(self, prefix: str) -> Iterator[dict[str, Any]]:
        following: dict[str, str] = {}
        while True:
            page = self._ask("", "list_objects_v2", Prefix=prefix, **following)
            yield from page.get("Contents", ())
            if not page.get("IsTruncated"):
                return
            following = {"ContinuationToken": page["NextContinuationToken"]}

    def _make_entry(self, listed: dict[str, Any]) -> Entry:
        return Entry(
            name=listed["Key"].removeprefix(self._key("")),
            size=listed["Size"],
            written=listed["LastModified"].astimezone(UTC),
            version=listed["ETag"],
        )


class _End(io.RawIOBase):
    """A file of which only the last bytes have been read."""

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
