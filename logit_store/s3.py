"""Requests to an S3 server: one connection per process, retries, and clear errors."""

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

MAX_REQUESTS = 16
"""Requests at the same time; each may hold a file in memory."""

_ATTEMPTS = 7
"""The pauses double, half a minute in total on average: enough for a server to restart."""
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30

_INTERRUPTED = (ClientPayloadError, ReadTimeoutError, ResponseStreamingError)
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

Response = TypeVar("Response")


class Requests:
    """Requests about one bucket, to the server and with the keys in the AWS variables."""

    def __init__(self, bucket: str) -> None:
        """Name a bucket; no request is made."""
        self.bucket = bucket
        # Connections do not survive a fork. Those of the parent process are left open: closing
        # them here would wait for a thread that the fork did not copy.
        self._connections: dict[int, S3FileSystem] = {}

    @property
    def file_system(self) -> S3FileSystem:
        """The connection of this process."""
        connection = self._connections.get(os.getpid())
        if connection is None:
            connection = self._connections[os.getpid()] = _connect()
        return connection

    @property
    def endpoint(self) -> str:
        """The address of the server; Amazon's if no variable names one."""
        client: Any = self.file_system.s3
        return client.meta.endpoint_url

    def run(
        self, function: Callable[..., Coroutine[Any, Any, Response]], *args: Any, **kwargs: Any
    ) -> Response:
        """Run a coroutine function in the thread of the connection, and return its result."""
        return cast("Response", sync(self.file_system.loop, function, *args, **kwargs))

    async def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Make one request, and return the response with the bytes of its body.

        Raises botocore's errors.
        """
        client = await self.file_system.set_session()
        for attempt in itertools.count(1):
            response = await getattr(client, method)(Bucket=self.bucket, **arguments)
            if "Body" not in response:
                return response
            # botocore retries if no response begins; a response that breaks off is retried here.
            try:
                async with response["Body"] as body:
                    return response | {"Body": await body.read()}
            except _INTERRUPTED:
                if attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(random.uniform(0, 2**attempt))
        raise AssertionError("the loop ends by return or raise")


@contextmanager
def translate_errors(address: str) -> Generator[None]:
    """Turn errors of the S3 libraries into errors of this package.

    Raises:
        FileNotFoundError: there is nothing at the address.
        UnreachableStore: anything else.
    """
    try:
        yield
    # A wrong endpoint is a ValueError, a missing certificate an OSError.
    except (BotoCoreError, ClientError, ClientPayloadError, OSError, ValueError) as error:
        if is_absent(error):
            raise FileNotFoundError(errno.ENOENT, "no such object", address) from error
        reason = " ".join(str(error).split())
        raise UnreachableStore(address, reason=reason, way_out=_find_way_out(error)) from error


def is_absent(error: Exception) -> bool:
    """Tell whether the server says that there is no such object."""
    return _find_code(error) in _ABSENT


def is_past_the_end(error: Exception) -> bool:
    """Tell whether the server says that a range lies outside the object."""
    return _find_code(error) in ("416", "InvalidRange")


def _find_code(error: Exception) -> str:
    if not isinstance(error, ClientError):
        return ""
    return error.response.get("Error", {}).get("Code", "")


def _find_way_out(error: Exception) -> str:
    if isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if _find_code(error) in _DENIED:
        return "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and their right to the bucket"
    if _find_code(error) == "NoSuchBucket":
        return "make the bucket, or name another one"
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "not set, so Amazon's server")
    return f"check that the server is up and AWS_ENDPOINT_URL names it ({endpoint})"


def _connect() -> S3FileSystem:
    return S3FileSystem(
        # Not shared with other users of s3fs and their settings; no cached listings.
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "read_timeout": _READ_TIMEOUT_S,
            "max_pool_connections": MAX_REQUESTS,
            "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
        },
    )
