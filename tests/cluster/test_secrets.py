"""Nothing in cluster/ is a key, a token or a private address."""

import re

import pytest

SECRETS = {
    "key of AWS": r"\b(AKIA|ASIA)[A-Z0-9]{16}\b",
    "secret of AWS": r"(?i)secret_?(access_?)?key\W{1,4}[A-Za-z0-9/+]{40}\b",
    "key of Google": r"\bGOOG1?[A-Z0-9]{20,}\b|\bAIza[\w-]{35}\b",
    "account of Google": r'"private_key(_id)?"\s*:',
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "token of GitHub": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "token of Ray": r"\b[0-9a-f]{64}\b",
    "token in a header": r"(?i)bearer\s+[a-z0-9._-]{16,}",
    "key in a variable": r"(?m)^\s*(export )?AWS_(SECRET_ACCESS_KEY|SESSION_TOKEN)=[^\s.$<]+",
    "number of an account of AWS": r"arn:aws:iam::\d{12}",
}


def found_in(text):
    return [what for what, pattern in SECRETS.items() if re.search(pattern, text)]


def test_no_file_of_the_cluster_holds_a_secret(root):
    files = [path for path in (root / "cluster").rglob("*") if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    assert len(files) > 5
    found = {path.name: found_in(path.read_text()) for path in [*files, root / ".dockerignore"]}
    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("key of AWS", ("AKIA", "ABCDEFGHIJKLMNOP")),
        ("private key", ("-----BEGIN RSA ", "PRIVATE KEY-----")),
        ("token of Ray", ("0123456789abcdef" * 4,)),
        ("key in a variable", ("AWS_SECRET_ACCESS_KEY", "=abcdef")),
        ("token in a header", ("Authorization: Bearer ", "0123456789abcdef" * 2)),
    ],
)
def test_a_secret_would_be_found(what, parts):
    assert what in found_in("".join(parts))
