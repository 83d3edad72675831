"""Digests after the content of a file whose format has no place for one; its readers ignore them."""

import hashlib

_MARK = b"\ntutti-blake2b:"
_DIGEST_BYTES = 32


def make_tail(content: bytes | memoryview) -> bytes:
    """Return the bytes that are written after a file's content: a mark, and a digest of the content."""
    return _MARK + _compute_digest(content)


def has_right_tail(data: bytes) -> bool | None:
    """Tell whether the tail of a file has the digest of its content; None if it has no tail."""
    end = len(data) - len(_MARK) - _DIGEST_BYTES
    if end <= 0 or data[end : end + len(_MARK)] != _MARK:
        return None
    return _compute_digest(memoryview(data)[:end]) == data[-_DIGEST_BYTES:]


def _compute_digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
