"""Files from HTTP servers and from S3, from any byte on."""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import requests

from redact import redact_secrets
from teachers.transfer import Body, Interrupted, Refused

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
CHUNK_BYTES = 2**16
"""At most this much is lost when a connection breaks."""
S3_CHUNK_BYTES = 2**23
LONGEST_WAIT_S = 60


@contextmanager
def open_http(address: str, n_bytes: int, tag: str | None) -> Generator[Body]:
    """Open a file at http:// or https://; an `OpenBody` once the address is given.

    Raises:
        Interrupted: the connection broke, or the server asks to be tried again.
        Refused: the server will not give the file.
    """
    # If the server compressed the file, its length would not be the Content-Length.
    headers = {"Accept-Encoding": "identity"}
    if n_bytes and tag is not None:
        headers |= {"Range": f"bytes={n_bytes}-", "If-Range": tag}
    has_answered = False
    timeouts_s = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    try:
        with requests.get(address, headers=headers, stream=True, timeout=timeouts_s) as response:
            has_answered = True
            yield _read_response(response, n_bytes)
    except (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    ) as error:
        reason = _describe(error, address)
        # Without its cause: its text has the whole address, and Ray shows it.
        raise Interrupted(reason, is_unreachable=not has_answered) from None
    except requests.RequestException as error:
        raise Refused(_describe(error, address)) from None


@contextmanager
def open_s3(address: str, n_bytes: int, tag: str | None) -> Generator[Body]:
    """Open a file at s3://; an `OpenBody` once the address is given.

    Raises:
        Interrupted: the connection broke.
        Refused: there is no such file, or no right to read it.
    """
    # Half a second to import, and most downloads are by HTTP.
    from logit_store.s3 import connect

    with _translate_s3_errors(address):
        files = connect()
        details: Any = files.info(address)
        source = files.open(address, "rb", block_size=S3_CHUNK_BYTES, cache_type="none")
        is_same = tag == details["ETag"] and n_bytes <= details["size"]
        start = n_bytes if is_same else 0
        source.seek(start)
    with source:
        yield Body(start, details["size"], details["ETag"], _read_s3(source, address))


def _read_response(response: requests.Response, n_bytes: int) -> Body:
    status = f"HTTP {response.status_code} {response.reason}"
    if response.status_code == 416:
        raise Interrupted(f"{status}: the {n_bytes} bytes here are not of it", is_stale=True)
    if response.status_code in (408, 429) or response.status_code >= 500:
        wait = response.headers.get("Retry-After", "")
        raise Interrupted(status, wait_s=min(int(wait), LONGEST_WAIT_S) if wait.isdecimal() else 0)
    if response.status_code not in (200, 206):
        raise Refused(status)
    chunks = response.iter_content(CHUNK_BYTES)
    if response.status_code == 206:
        return Body(n_bytes, _read_total(response, n_bytes), None, chunks)
    length = response.headers.get("Content-Length")
    return Body(0, None if length is None else int(length), _read_tag(response), chunks)


def _read_total(response: requests.Response, n_bytes: int) -> int | None:
    """Return the bytes of the whole file from a partial answer; None if the server does not know."""
    content_range = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", content_range)
    if match is None or int(match[1]) != n_bytes:
        raise Interrupted(
            f"asked from byte {n_bytes} on, answered {content_range!r}", is_stale=True
        )
    return None if match[2] == "*" else int(match[2])


def _read_tag(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag", "")
    # A weak one (W/) covers files that may differ in their bytes.
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _read_s3(source: Any, address: str) -> Iterator[bytes]:
    while True:
        with _translate_s3_errors(address):
            chunk = source.read(S3_CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


@contextmanager
def _translate_s3_errors(address: str) -> Generator[None]:
    from aiohttp import ClientError as HttpError
    from botocore.exceptions import BotoCoreError, NoCredentialsError

    from logit_store.s3 import GaveUp

    try:
        yield
    except NoCredentialsError as error:
        reason = "no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        raise Refused(reason) from error
    except (FileNotFoundError, PermissionError, ValueError) as error:
        raise Refused(_describe(error, address)) from None
    except (BotoCoreError, HttpError, OSError) as error:
        # After `GaveUp` the server was tried for half a minute already.
        is_unreachable = isinstance(error, GaveUp)
        raise Interrupted(_describe(error, address), is_unreachable=is_unreachable) from None


def _describe(error: Exception, address: str) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return redact_secrets(text, address)
