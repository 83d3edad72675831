"""Requests to an S3 server: one connection per process, retries, and clear errors."""

import asyncio
import errno
import os
import random
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from aiohttp import ClientPayloadError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
    SSOError,
)
from s3fs import S3FileSystem

from logit_store.errors import UnreachableStore

MAX_REQUESTS = 16
"""Requests at the same time; each may hold a file in memory."""

_ATTEMPTS = 7
_PATIENCE_S = 30
"""So long do the attempts at one request wait in all, in pauses that double and for a server that is
silent: enough for a server to restart. The time in which bytes come or go does not count."""
_LONGEST_PAUSE_S = 20
_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 15

_INTERRUPTED = (
    ClientPayloadError,
    FlexibleChecksumError,
    ReadTimeoutError,
    ResponseStreamingError,
)
"""A body that broke off, or is not what the server says it is."""
_BUSY = (429, 500, 502, 503, 504)
"""HTTP's statuses of a server that may answer the next time."""
_BUSY_CODES = ("BadDigest", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch")
_ABSENT = ("404", "NoSuchKey")
_ALWAYS_THERE = {
    "get_object": "ETag",
    "head_object": "ETag",
    "list_objects_v2": "IsTruncated",
    "put_object": "ETag",
}
"""What each answer of an S3 server holds, by the request."""

_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and their right to the bucket"
_NEW_KEYS = (
    "the keys have expired: log in again, or set new ones (AWS_SESSION_TOKEN belongs to them)"
)
_REGION = "the bucket lies in another region: set AWS_DEFAULT_REGION to it"
_WAYS_OUT = {
    "301": _REGION,
    "307": _REGION,
    # The answer to a HEAD has no more than a status.
    "400": "check that the keys have not expired, and that AWS_DEFAULT_REGION is the bucket's region",
    "401": _KEYS,
    "403": f"{_KEYS}; and this machine's clock",
    "AccessDenied": _KEYS,
    "AuthorizationHeaderMalformed": _REGION,
    "ExpiredToken": _NEW_KEYS,
    "ExpiredTokenException": _NEW_KEYS,
    "IllegalLocationConstraintException": _REGION,
    "InvalidAccessKeyId": _KEYS,
    "InvalidToken": _NEW_KEYS,
    "NoSuchBucket": "make the bucket, or name another one",
    "PermanentRedirect": _REGION,
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it, and start the same command again",
    "SignatureDoesNotMatch": _KEYS,
}
"""What to do, by the code of the server's answer."""

Response = TypeVar("Response")


class GaveUp(BotoCoreError):
    """A request failed again and again, each time in a way that might have passed.

    It is an error of its own because s3fs would begin anew with botocore's errors.
    """

    fmt = "{reason}, in {attempts} attempts"


@dataclass(slots=True)
class Patience:
    """How often a request was tried, and how long that took without a byte."""

    attempts: int = 0
    waited_s: float = 0.0

    def find_pause(self, fault: Exception | str) -> float:
        """Count a failed attempt; return the seconds to wait before the next one.

        Raises:
            GaveUp: there is to be none.
        """
        self.attempts += 1
        if isinstance(fault, ConnectTimeoutError):
            self.waited_s += _CONNECT_TIMEOUT_S
        elif isinstance(fault, ReadTimeoutError):
            self.waited_s += _READ_TIMEOUT_S
        if self.attempts >= _ATTEMPTS or self.waited_s >= _PATIENCE_S:
            cause = fault if isinstance(fault, Exception) else None
            raise GaveUp(reason=str(fault), attempts=self.attempts) from cause
        pause_s = random.uniform(0, min(2 ** (self.attempts - 1), _LONGEST_PAUSE_S))
        self.waited_s += pause_s
        return pause_s


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
            self._check_endpoint()
            connection = self._connections[os.getpid()] = connect()
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
        loop = cast("asyncio.AbstractEventLoop", self.file_system.loop)
        running = asyncio.run_coroutine_threadsafe(function(*args, **kwargs), loop)
        try:
            return running.result()
        finally:
            # A request that goes on when this thread is interrupted prints errors when Python exits.
            running.cancel()

    async def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Make one request, and return the response with the bytes of its body.

        Raises botocore's errors.
        """
        client, patience = await self.file_system.set_session(), Patience()
        while True:
            response = await getattr(client, method)(Bucket=self.bucket, **arguments)
            if _ALWAYS_THERE.get(method, "ResponseMetadata") not in response:
                raise _NoS3(method=method)
            if "Body" not in response:
                return response
            # `connect` retries if no response begins; a body that breaks off is asked for again here.
            try:
                async with response["Body"] as body:
                    return response | {"Body": await body.read()}
            except _INTERRUPTED as error:
                await asyncio.sleep(patience.find_pause(error))

    def _check_endpoint(self) -> None:
        endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL", ""))
        if endpoint.path.rstrip("/").endswith(f"/{self.bucket}"):
            raise _BucketInEndpoint(bucket=self.bucket)


class _BucketInEndpoint(BotoCoreError):
    """Reads and writes would go to a folder of that name in the bucket, and listings nowhere."""

    fmt = "no bucket there: AWS_ENDPOINT_URL ends with /{bucket}"


class _NoS3(BotoCoreError):
    """A login page, for example, answers every request with success, and keeps nothing."""

    fmt = "the server's answer to {method} is none of S3"


@contextmanager
def translate_errors(address: str, *, may_be_absent: bool = True) -> Generator[None]:
    """Turn errors of the S3 libraries into errors of this package.

    Args:
        address: what is asked about.
        may_be_absent: whether there may be nothing. A bucket always has a listing, and takes files.

    Raises:
        FileNotFoundError: there is nothing at the address.
        UnreachableStore: anything else. It has no cause, because Ray shows causes to everybody who sees
            its dashboard, and they quote AWS_ENDPOINT_URL with a password in it.
    """
    try:
        yield
    # A wrong endpoint is a ValueError, a missing certificate an OSError.
    except (BotoCoreError, ClientError, ClientPayloadError, OSError, ValueError) as error:
        if is_absent(error) and may_be_absent:
            raise FileNotFoundError(errno.ENOENT, "no such object", address) from error
        reason = "no such bucket or endpoint" if is_absent(error) else " ".join(str(error).split())
        raise UnreachableStore(address, reason=reason, way_out=_find_way_out(error)) from None


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
    if isinstance(error, ProfileNotFound):
        return "name another profile in AWS_PROFILE"
    if isinstance(error, (CredentialRetrievalError, SSOError)):
        return _NEW_KEYS
    if isinstance(error, _BucketInEndpoint) or is_absent(error):
        return "AWS_ENDPOINT_URL is the server's address without a bucket"
    if way_out := _WAYS_OUT.get(_find_code(error)):
        return way_out
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "not set, so Amazon's server")
    return f"check that the server is up and AWS_ENDPOINT_URL names it ({endpoint})"


def connect() -> S3FileSystem:
    """Return the files of the server that the AWS variables name; every request is retried."""
    connection = S3FileSystem(
        # Not shared with other users of s3fs and their settings; no cached listings.
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": _CONNECT_TIMEOUT_S,
            "read_timeout": _READ_TIMEOUT_S,
            "max_pool_connections": MAX_REQUESTS,
            # botocore's retries know no time, and no 429.
            "retries": {"mode": "standard", "total_max_attempts": 1},
        },
    )
    client: Any = connection.s3
    client.meta.events.register_first("needs-retry.s3", _find_pause)
    return connection


def _find_pause(
    response: tuple[Any, dict[str, Any]] | None,
    caught_exception: Exception | None,
    request_dict: dict[str, Any],
    operation: Any,
    **_: Any,
) -> float | None:
    """Return the seconds before another attempt at a request; None if it is over.

    botocore calls this after each attempt, also for the requests of s3fs itself.

    Raises:
        GaveUp: it failed in a way that might have passed, and was tried long enough.
        ClientError: the bucket is in a region that the server does not name.
    """
    fault: Exception | str | None = None
    if isinstance(caught_exception, (ConnectionError, HTTPClientError)):
        fault = caught_exception
    elif response is not None:
        status, error = response[0].status_code, response[1].get("Error", {})
        if status == 301 and "x-amz-bucket-region" not in response[0].headers:
            # botocore would ask for the region, get this answer again, and never end.
            raise ClientError(cast(Any, response[1]), operation.name)
        if status in _BUSY or error.get("Code") in _BUSY_CODES:
            fault = f"HTTP {status} {error.get('Code', '')}: {error.get('Message', '')}"
    if fault is None:
        return None
    patience: Patience = request_dict["context"].setdefault("patience", Patience())
    return patience.find_pause(fault)
