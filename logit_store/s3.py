"""Requests to an S3 server: connected once a process, asked again, refused in words."""

import asyncio
import errno
import itertools
import os
import random
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from aiohttp import ClientPayloadError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from fsspec.asyn import sync
from s3fs import S3FileSystem

from logit_store.errors import UnreachableStore

AT_ONCE = 16
"""Requests in flight, each of which may hold a file in memory."""

_ATTEMPTS = 7
"""Half a minute on the average, as the pauses double: a server may be started anew meanwhile."""
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30

_BROKEN_OFF = (ClientPayloadError, ReadTimeoutError, ResponseStreamingError)
_ABSENT = ("404", "NoSuchKey")
_DENIED = (
    "401",
    "403",
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
)

Answer = TypeVar("Answer")


class Requests:
    """Requests about one bucket, to the server and with the keys that the AWS variables name."""

    def __init__(self, bucket: str) -> None:
        """Name a bucket; touches nothing."""
        self.bucket = bucket
        # Connections do not survive a fork. Those of the parent are kept as they are: to close
        # them here would wait for a thread that the fork did not copy.
        self._connections: dict[int, S3FileSystem] = {}

    @property
    def file_system(self) -> S3FileSystem:
        """This process's connection."""
        connection = self._connections.get(os.getpid())
        if connection is None:
            connection = self._connections[os.getpid()] = _connection()
        return connection

    @property
    def endpoint(self) -> str:
        """The server's address; Amazon's if no variable names one."""
        client: Any = self.file_system.s3
        return client.meta.endpoint_url

    def run(
        self, function: Callable[..., Coroutine[Any, Any, Answer]], *args: Any, **kwargs: Any
    ) -> Answer:
        """What a coroutine function gives, in the thread where the connection lives."""
        return cast("Answer", sync(self.file_system.loop, function, *args, **kwargs))

    async def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        """The answer to one request, with the bytes of its body; botocore's errors."""
        client = await self.file_system.set_session()
        for attempt in itertools.count(1):
            answer = await getattr(client, method)(Bucket=self.bucket, **arguments)
            if "Body" not in answer:
                return answer
            # botocore asks again where no answer begins; one that breaks off is left to us.
            try:
                async with answer["Body"] as body:
                    return answer | {"Body": await body.read()}
            except _BROKEN_OFF:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0, 2**attempt))
        raise AssertionError("the loop ends by return or raise")


@contextmanager
def in_words(address: str) -> Generator[None]:
    """Turn what the server refuses into errors of ours.

    Raises:
        FileNotFoundError: nothing lies at the address.
        UnreachableStore: all else.
    """
    try:
        yield
    # A wrong endpoint is a ValueError, a certificate that is not there an OSError.
    except (BotoCoreError, ClientError, ClientPayloadError, OSError, ValueError) as error:
        if is_absent(error):
            raise FileNotFoundError(errno.ENOENT, "no such object", address) from error
        reason = " ".join(str(error).split())
        raise UnreachableStore(address, reason=reason, way_out=_way_out(error)) from error


def is_absent(error: Exception) -> bool:
    """Whether the server says that it holds no such object."""
    return _code(error) in _ABSENT


def is_past_the_end(error: Exception) -> bool:
    """Whether the server says that a range lies outside of the object."""
    return _code(error) in ("416", "InvalidRange")


def _code(error: Exception) -> str:
    if not isinstance(error, ClientError):
        return ""
    return error.response.get("Error", {}).get("Code", "")


def _way_out(error: Exception) -> str:
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if _code(error) in _DENIED:
        return "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and their right to the bucket"
    if _code(error) == "NoSuchBucket":
        return "make the bucket, or name another one"
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "not set, so Amazon's server")
    return f"check that the server is up and AWS_ENDPOINT_URL names it ({endpoint})"


def _connection() -> S3FileSystem:
    return S3FileSystem(
        # Not one that others share with settings of their own, and no listing from memory.
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "read_timeout": _READ_TIMEOUT_S,
            "max_pool_connections": AT_ONCE,
            "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
        },
    )
