"""What is secret in addresses, and how it is masked in text."""

import json
import textwrap

import pytest

from redact import redact_secrets, strip_secrets

PUBLIC = [
    "https://host.org/v1/mn.pt",
    "https://host.org:8080/@v1/a:b@c.pt#part",
    "http://[::1]:9000/x@y",
    "s3://bucket/corpus=tau/split=100/mn@1.pt",
    "sqlite:////home/anna@work/mlflow.db",
    "clip.wav?download=1",
    "none",
]
SECRET = {
    "https://anna:pl-ant@host.org/mn.pt": "https://host.org/mn.pt",
    "https://anna:pl@nt@host.org/mn.pt": "https://host.org/mn.pt",
    "https://pl-ant@host.org:81/mn.pt": "https://host.org:81/mn.pt",
    "s3://AKIA:pl/ant+x@bucket/mn.pt": "s3://bucket/mn.pt",
    "https://b.org/mn.pt?X-Amz-Date=1&X-Amz-Signature=pl-ant": "https://b.org/mn.pt",
    "https://b.org/mn.pt?sv=2024&sig=pl%2Fant%3D": "https://b.org/mn.pt",
    "https://b.org/mn.pt?pl-ant": "https://b.org/mn.pt",
    "https://b.org/mn.pt#access_token=pl-ant": "https://b.org/mn.pt#access_token=***",
    "https://b.org/mn.pt;api-key=pl-ant/x": "https://b.org/mn.pt;api-key=***",
}


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_without_secrets_stays_as_it_is(address):
    assert strip_secrets(address) == address
    text = f"no file at {address}: look"
    assert redact_secrets(text) == text


@pytest.mark.parametrize(("address", "public"), SECRET.items())
def test_an_address_loses_user_password_query_and_signatures(address, public):
    assert strip_secrets(address) == public
    assert strip_secrets(public) == public


@pytest.mark.parametrize("address", SECRET)
def test_text_and_json_that_quote_an_address_lose_its_secrets(address):
    document = {"command": f"job --weights '{address}' --x", "error": f"at {address} (refused)"}
    masked = redact_secrets(json.dumps(document))
    assert "pl" not in masked
    assert "***" in masked
    kept = json.loads(masked)
    assert kept["command"].endswith("' --x") == ("'" not in address)
    assert kept["error"].endswith(" (refused)")


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("https://anna:pass word@host", "Failed to parse: anna:pass word@host, label too long"),
        ("https://anna:pass%2Fword@host", "user anna, key pass/word"),
        ("https://host/mn.pt?key=pass-word", "no such object: mn.pt, key=pass-word"),
        ("s3://AKIA:pass/word@bucket/mn.pt", 'Invalid bucket name "AKIA:pass/word@bucket"'),
        ("anna:pass-word@host:9", "Invalid endpoint: anna:pass-word@host:9"),
    ],
    # pytest puts what it calls a test into the environment.
    ids=["with a space", "decoded", "a query", "a slash", "no scheme"],
)
def test_secrets_are_found_in_the_forms_that_libraries_give_them(address, text, monkeypatch):
    assert "word" not in redact_secrets(text, address)
    monkeypatch.setattr("sys.argv", ["job", f"--weights={address}"])
    assert "word" not in redact_secrets(text)
    monkeypatch.setattr("sys.argv", ["job"])
    assert redact_secrets(text) == text
    monkeypatch.setenv("SOME_SERVER", address)
    assert "word" not in redact_secrets(text)


def test_a_request_that_urllib3_quotes_without_its_server_loses_its_query():
    error = (
        "HTTPSConnectionPool(host='b.org'): Max retries exceeded with url: /mn.pt?k=plant (Cause"
    )
    assert redact_secrets(error) == error.replace("k=plant", "***")


def test_a_secret_is_found_where_the_width_of_a_terminal_has_broken_it():
    address = f"https://anna:{'plant-' * 20}@host.org/x"
    framed = "\n".join(f"\x1b[31m│\x1b[0m {line:<40} │" for line in textwrap.wrap(address, 40))
    for text in (framed, "\n".join(textwrap.wrap(address, 40))):
        assert "plant" not in redact_secrets(text, address)


def test_a_command_line_can_be_read_after_its_colours_are_masked():
    assert (
        redact_secrets("\x1b[1mhttps://b.org/x?k=plant\x1b[0m")
        == "\x1b[1mhttps://b.org/x?***\x1b[0m"
    )
