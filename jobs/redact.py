"""Keeps secrets out of what is written down for others to read."""

import json
import os
import re

MASK = "***"
_NAMES = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|API_KEY|CREDENTIAL", re.IGNORECASE)
_PLACES = ("_PATH", "_FILE", "_URI", "_URL")
"""Endings of variables that tell where a secret lies, which is none."""
_SHORTEST = 8
"""A shorter value is no secret, and would blot out words that happen to be alike."""
_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@\"'\\]+(?=@)")
_IN_SIGNATURE = re.compile(
    r"(?<=X-Amz-)(Signature|Credential|Security-Token)=[^&\s\"'\\]+", re.IGNORECASE
)


def without_secrets(text: str) -> str:
    """The text, or the JSON, with a mask for each secret in it.

    Secrets are the values of this process's variables that are called so (AWS_SECRET_ACCESS_KEY,
    RAY_AUTH_TOKEN...), and in addresses the user's part and the signature.
    """
    for secret in _secrets():
        text = text.replace(secret, MASK)
    text = _IN_ADDRESS.sub(MASK, text)
    return _IN_SIGNATURE.sub(rf"\1={MASK}", text)


def _secrets() -> list[str]:
    """The longest first: one may begin as another does."""
    found = {
        value
        for name, value in os.environ.items()
        if _NAMES.search(name) and not name.upper().endswith(_PLACES) and len(value) >= _SHORTEST
    }
    # In JSON a quotation mark of a secret has a backslash before it.
    return sorted(found | {json.dumps(value)[1:-1] for value in found}, key=len, reverse=True)
