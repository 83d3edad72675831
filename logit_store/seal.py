"""Digests within the bytes of a file, by which a reader finds that a bit of it has changed.

A file of text or of Parquet is written with `UNSEALED` in it; `seal` puts the digest of its bytes, with zeros in place of the
digits, where these zeros are. Other formats get a tail, which their readers ignore. What has neither was written by an earlier
version.
"""

import hashlib
import io
import re
import zipfile

from disk.tail import has_right_tail
from logit_store.errors import DamagedFile

UNSEALED = "tutti-blake2b:" + 32 * "0"
"""Marks the place of the digest: the last such text of a file, because a record may hold one too."""
DIGEST_KEY = "tutti.digest"
"""Name of the value in which a file holds this text."""

_ZEROS = 32 * b"0"
_MARK = b"tutti-blake2b:"
_SEAL = re.compile(_MARK + rb"([0-9a-f]{32})")


def seal(data: bytes | bytearray | memoryview, begin: int = 0) -> bytearray:
    """Return a file with its digest.

    Args:
        data: its bytes, with `UNSEALED` in them.
        begin: where the part begins that the digest stands for; it ends with the file.
    """
    sealed = bytearray(data)
    place = sealed.rindex(UNSEALED.encode(), begin) + len(UNSEALED) - len(_ZEROS)
    digest = hashlib.blake2b(memoryview(sealed)[begin:], digest_size=16).hexdigest()
    sealed[place : place + len(_ZEROS)] = digest.encode()
    return sealed


def check_seal(part: bytes, path: str) -> bool:
    """Compare a part of a file with the digest in it, and tell whether there is one.

    Args:
        part: the bytes that the digest stands for.
        path: of the file, for the error message.

    Raises:
        DamagedFile: the digest is that of other bytes.
    """
    found = _SEAL.match(part, max(0, part.rfind(_MARK)))
    if found is None:
        return False
    hashed = hashlib.blake2b(digest_size=16)
    for each in (part[: found.start(1)], _ZEROS, part[found.end(1) :]):
        hashed.update(each)
    if hashed.hexdigest().encode() != found[1]:
        raise DamagedFile(path, "its digest does not match")
    return True


def find_damage(data: bytes) -> str | None:
    """Return how a zip file with a tail, or an old one without, has changed; None if it has not."""
    right = has_right_tail(data)
    if right is not None:
        return None if right else "its digest does not match"
    try:
        _check_parts(data)
    except ValueError as error:
        return str(error)
    return None


def _check_parts(data: bytes) -> None:
    """Compare the parts of a zip file with their check sums, because torch does not.

    Raises:
        ValueError: a part differs, or it is not a zip file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            damaged = opened.testzip()
    except MemoryError:
        raise
    except Exception as error:  # damage raises many kinds of errors
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    if damaged is not None:
        raise ValueError(f"the check sum of {damaged} does not match")
