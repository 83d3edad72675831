"""Removes secrets from addresses, and from text that others can read."""

import json
import os
import re
import sys
from collections.abc import Iterator
from urllib.parse import unquote

MASK = "***"
_NAMES = re.compile(r"SECRET|TOKEN|PASSW|PASSPHRASE|ACCESS_KEY|API_KEY|CREDENTIAL", re.IGNORECASE)
_PLACES = ("_PATH", "_FILE", "_URI", "_URL")
"""Endings of variables that name the place of a secret, which is not secret itself."""
_SHORTEST = 8
"""A shorter value is not a secret, and masking it would hide ordinary words."""
_NOT = r"\s\"'\\<>\x1b"
"""What ends an address in a text: a space, a quotation mark, the escape of a colour..."""
_USER = re.compile(
    # An @ after the first slash is part of a path, unless user and password are before it: keys of
    # S3 may contain slashes. A number after the colon is a port.
    rf"(?<=://)(?P<user>[^/{_NOT}]+|[^/:@\[{_NOT}]+:(?!\d+/)[^@{_NOT}]+)@"
)
# urllib3 writes "with url: /path?query".
_QUERY = re.compile(rf"(?P<place>(?:://|\burl: )[^?{_NOT}]*)\?(?P<query>[^{_NOT}]+)")
_WITHOUT_SCHEME = re.compile(r"[^\s:/@]+:[^\s@]+@[^\s@]+")
"""The form of user, password and server in which proxies are often named."""
_SPACE = r"(?:[ \u2500-\u257f|]|\x1b\[[0-9;]*m)*"
_BREAK = re.compile(rf"{_SPACE}\n{_SPACE}")
"""Where the width of a terminal has broken a word, perhaps in a box."""
_PARAMETER = re.compile(
    r"(?P<name>(?:token|sig|signature|secret|passw(?:or)?d|credential|(?:api|access|secret)[-_]?key"
    rf"(?:[-_]?id)?|X-(?:Amz|Goog)-[\w-]+)=)[^&;,#{_NOT}]+",
    re.IGNORECASE,
)


def strip_secrets(address: str) -> str:
    """Return an address without its user, its password, its query and other signatures.

    Text that is no address, such as a path, stays as it is. The whole query is left out, because
    nobody can list the names under which servers take keys.
    """
    if "://" not in address:
        return address
    without_user = _USER.sub("", address, count=1)
    return _PARAMETER.sub(rf"\g<name>{MASK}", without_user.partition("?")[0])


def redact_secrets(text: str, *addresses: str) -> str:
    """Return the text, or the JSON, with a mask in place of each secret.

    Secrets are the values of this process's environment variables whose names say so
    (AWS_SECRET_ACCESS_KEY, RAY_AUTH_TOKEN...), and users, passwords and queries of addresses.

    Args:
        text: what others can read.
        addresses: those that the text is about: their secrets are found in any form, as are those
            of the addresses in this process's command line and environment.
    """
    secrets = _find_secrets(addresses)
    for secret in secrets:
        text = text.replace(secret, MASK)
    joined = _BREAK.sub("", text)
    for secret in secrets:
        if secret in joined:
            text = re.sub(f"(?:{_BREAK.pattern})?".join(map(re.escape, secret)), MASK, text)
    # Tables of millions of numbers have none of these, and the patterns take half a second for a megabyte.
    if "@" in text:
        text = _USER.sub(f"{MASK}@", text)
    if "?" in text:
        text = _QUERY.sub(rf"\g<place>?{MASK}", text)
    return _PARAMETER.sub(rf"\g<name>{MASK}", text) if "=" in text else text


def _find_secrets(addresses: tuple[str, ...]) -> list[str]:
    """Return the secrets, the longest first, because one may be the beginning of another."""
    found = {value for name, value in os.environ.items() if _is_secret(name)}
    for text in (*os.environ.values(), *sys.argv, *addresses):
        if "://" in text or _WITHOUT_SCHEME.fullmatch(text):
            found |= set(_find_in_address(text))
    found = {value for value in found if len(value) >= _SHORTEST}
    # In JSON, a quotation mark in a secret is escaped by a backslash.
    return sorted(found | {json.dumps(value)[1:-1] for value in found}, key=len, reverse=True)


def _is_secret(variable: str) -> bool:
    return bool(_NAMES.search(variable)) and not variable.upper().endswith(_PLACES)


def _find_in_address(address: str) -> Iterator[str]:
    """Yield the user with the password, the password and the query, also as libraries decode them."""
    rest = address.partition("://")[2] or address
    server, has_user, _ = rest.partition("/")[0].rpartition("@")
    with_slash = None if has_user else _USER.search(address)
    user = server if with_slash is None else with_slash["user"]
    password, query = user.partition(":")[2], rest.partition("?")[2]
    yield from (user, password, unquote(password), query, unquote(query))
