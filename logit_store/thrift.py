"""Values in Thrift's compact protocol, of which the footers and page headers of Parquet consist.

The protocol is `doc/specs/thrift-compact-protocol.md` of apache/thrift. Each value is its type's number and its bytes.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_INT32, _INT64, _TEXT, _LIST, _STRUCT = 5, 6, 8, 9, 12
_SHORT_LIST = 15
"""A list of fewer values has their number in its first byte."""
_END = b"\0"


class Value(NamedTuple):
    """An encoded value."""

    kind: int
    """Its type's number in the protocol."""
    content: bytes


@functools.lru_cache(256)
def encode_number(number: int) -> bytes:
    """Encode a number with its sign in the lowest bit; the headers of pages have mostly the same."""
    return encode_unsigned((number << 1) ^ (number >> 63))


def encode_int32(number: int) -> Value:
    """Encode a number, or a word of an enumeration."""
    return Value(_INT32, encode_number(number))


def encode_int64(number: int) -> Value:
    """Encode a number."""
    return Value(_INT64, encode_number(number))


def encode_text(text: str) -> Value:
    """Encode a text, as UTF-8."""
    content = text.encode()
    return Value(_TEXT, encode_unsigned(len(content)) + content)


def encode_list(values: Iterable[Value]) -> Value:
    """Encode values of one type, at least one."""
    kinds, contents = zip(*values, strict=True)
    n, kind = len(kinds), kinds[0]
    begin = bytes([n << 4 | kind]) if n < _SHORT_LIST else bytes([0xF0 | kind]) + encode_unsigned(n)
    return Value(_LIST, begin + b"".join(contents))


def encode_struct(fields: Mapping[int, Value]) -> Value:
    """Encode a structure.

    Args:
        fields: by their numbers, which rise, by at most 15 at a time.
    """
    parts, before = [], 0
    for number, (kind, content) in fields.items():
        parts += [bytes([number - before << 4 | kind]), content]
        before = number
    return Value(_STRUCT, b"".join(parts) + _END)


def encode_unsigned(rest: int) -> bytes:
    """Encode a number that is not negative: seven bits a byte, the lowest first."""
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)
