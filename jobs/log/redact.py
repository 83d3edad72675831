"""Removes secrets from text that others can read."""

import json
import os
import re

MASK = "***"
_NAMES = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|API_KEY|CREDENTIAL", re.IGNORECASE)
_PLACES = ("_PATH", "_FILE", "_URI", "_URL")
"""Endings of variables that name the place of a secret, which is not secret itself."""
_SHORTEST = 8
"""A shorter value is not a secret, and masking it would hide ordinary words."""
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@\"'\\]+(?=@)")
_IN_SIGNATURE = re.compile(
    r"(?<=X-Amz-)(Signature|Credential|Security-Token)=[^&\s\"'\\]+", re.IGNORECASE
)


def redact_secrets(text: str) -> str:
    """Return the text, or the JSON, with a mask in place of each secret.

    Secrets are the values of this process's environment variables whose names say so
    (AWS_SECRET_ACCESS_KEY, RAY_AUTH_TOKEN...), and the credentials and signatures in addresses.
    """
    for secret in _find_secrets():
        text = text.replace(secret, MASK)
    text = _IN_ADDRESS.sub(MASK, text)
    return _IN_SIGNATURE.sub(rf"\1={MASK}", text)


def _find_secrets() -> list[str]:
    """Return the secrets, the longest first, because one may be the beginning of another."""
    found = {
        value
        for name, value in os.environ.items()
        if _NAMES.search(name) and not name.upper().endswith(_PLACES) and len(value) >= _SHORTEST
    }
    # In JSON, a quotation mark in a secret is escaped by a backslash.
    return sorted(found | {json.dumps(value)[1:-1] for value in found}, key=len, reverse=True)
