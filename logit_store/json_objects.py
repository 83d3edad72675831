"""JSON objects of a store: each holds a digest of itself, and its values are checked when read."""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from logit_store.errors import DamagedFile
from logit_store.seal import DIGEST_KEY, UNSEALED, check_seal, seal

T = TypeVar("T")

READING_ERRORS = (LookupError, TypeError, ValueError, OverflowError, RecursionError)
"""What reading JSON raises that is damaged or of another form: also for numbers that are too large,
text that is no UTF-8, and lists nested too deeply."""


def encode_json(document: Mapping[str, Any], redact: Callable[[str], str] = str) -> bytes:
    """Return the bytes of an object, with a digest of them as its last value.

    Args:
        document: what JSON can hold.
        redact: applied to the text before the digest.

    Raises:
        TypeError, ValueError: the document is no JSON.
    """
    text = json.dumps({**document, DIGEST_KEY: UNSEALED}, indent=1)
    return bytes(seal(f"{redact(text)}\n".encode()))


def decode_json(data: bytes, path: str) -> dict[str, Any]:
    """Return the document in the bytes of an object; those of earlier versions have no digest.

    Args:
        data: of the object.
        path: of the object, for the error message.

    Raises:
        DamagedFile: it is not what was written.
    """
    sealed = check_seal(data, path)
    try:
        document = check_type(json.loads(data), dict)
    except READING_ERRORS as error:
        raise DamagedFile(path, f"no JSON object: {error}") from error
    if document.pop(DIGEST_KEY, None) is not None and not sealed:
        raise DamagedFile(path, "its digest is none")
    return document


def check_type(value: object, kind: type[T]) -> T:
    """Return a value if it has exactly this type.

    Raises:
        TypeError: it has another.
    """
    if type(value) is not kind:
        raise TypeError(f"{_shorten(value)}, expected {kind.__name__}")
    return value


def check_text(value: object) -> str:
    """Return a text that can be written as UTF-8: JSON may hold half a character.

    Raises:
        TypeError: it is no text.
        ValueError: it cannot be written.
    """
    check_type(value, str).encode()
    return str(value)


def fits_column(value: object) -> bool:
    """Tell whether a value fits in a column of a table: numbers of 64 bits, text of UTF-8."""
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    if isinstance(value, str):
        return not any("\ud800" <= each <= "\udfff" for each in value)
    return True


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
