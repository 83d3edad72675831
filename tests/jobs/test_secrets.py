"""Secrets that commands are given stay out of all that they keep and print.

Each secret is another text. A test fails if a secret was not used, or if what replaces it is absent.
"""

import base64
import io
import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from http_servers import QuietHandler, serve
from s3_servers import BUCKET, moto

from audio.corpora import demo
from jobs.schedule.cluster import _make_runtime_env
from logit_store import LogitKey, LogitStore
from logit_store import __main__ as logit_store_command
from teachers import RECIPES, build
from terminal import run_program
from terminal.console import UserError
from training.trackers import read_finished_run

ROOT = Path(__file__).resolve().parents[2]

IN_ADDRESS = {
    "user": "plant-user-5d1c",
    "password": "plant-password-7e2a",
    "signature": "plant-signature-91b0",
    "token": "plant-token-c44f",
}
IN_ENVIRONMENT = {
    "AWS_SECRET_ACCESS_KEY": "plant-aws-secret-08d7",
    "AWS_SESSION_TOKEN": "plant-aws-session-f3a9",
    "HF_TOKEN": "plant-hf-token-62e5",
    "MLFLOW_TRACKING_PASSWORD": "plant-mlflow-password-b81c",
    "RAY_AUTH_TOKEN": "plant-ray-token-2d46",
    "WANDB_API_KEY": "plant-wandb-key-97fa",
}
PLANTS = (*IN_ADDRESS.values(), *IN_ENVIRONMENT.values(), "plant-s3-key", "plant/s3/secret")


def sign(place: str, *, signature: str = IN_ADDRESS["signature"]) -> str:
    """Return an address with a user, a password, a signature and a token."""
    scheme, _, rest = place.partition("://")
    user = f"{IN_ADDRESS['user']}:{IN_ADDRESS['password']}@"
    query = f"X-Amz-Expires=604800&X-Amz-Signature={signature}&token={IN_ADDRESS['token']}"
    return f"{scheme}://{user}{rest}?{query}"


class Handler(QuietHandler):
    site: Any

    def do_GET(self) -> None:
        self.site.asked.append((self.path, self.headers["Authorization"]))
        if not self.path.startswith("/mn.pt?"):
            # Some servers quote what they were given.
            reason = " ".join(IN_ENVIRONMENT.values())
            self.send_response(403, reason)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.site.weights)))
        self.end_headers()
        self.wfile.write(self.site.weights)
        return None


@pytest.fixture(scope="module")
def site():
    """Serve weights of `demo_mn` to everybody who asks for them with a query."""
    recipe = RECIPES["demo_mn"]
    model = build(recipe.model, n_classes=3, weights="none", **recipe.arguments)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    served = SimpleNamespace(weights=file.getvalue(), asked=[])
    with serve(type("Here", (Handler,), {"site": served})) as address:
        served.address = address
        yield served


@pytest.fixture(scope="module")
def closed() -> str:
    """Return the address of a server that is not there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(autouse=True)
def planted(monkeypatch, tmp_path):
    for name, value in IN_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("TUTTI_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def train(called, commands, tmp_path):
    """Train the smallest teacher from weights at an address."""

    def call(address, *, code=0, store=tmp_path / "store"):
        options = ("--corpus", "tau", "--root", commands.corpus, "--store", store)
        short = ("--recipes", "demo_mn", "--splits", "25", "--max-steps", "1", "--debug")
        short = short if code == 0 else short[:-1]
        return called("jobs/teachers.py", *options, *short, "--weights", address, code=code)

    return call


def find_plants(*texts: str) -> list[str]:
    return [plant for plant in PLANTS for text in texts if plant in text]


def read_all(folder: Path) -> str:
    """Return all that files, and their names, hold; Parquet is decoded."""
    found = []
    for file in filter(Path.is_file, folder.rglob("*")):
        found += [str(file), file.read_bytes().decode(errors="replace")]
        if file.suffix == ".parquet":
            found.append(str(pq.read_table(file).to_pylist()))
    return "\n".join(found)


def test_weights_at_a_signed_address_are_named_by_their_hash_and_leave_no_secret(
    called, commands, train, site, tmp_path, capsys
):
    site.asked.clear()
    printed = [train(sign(f"{site.address}/mn.pt"))]
    # All secrets of the address came to the server, so they were used.
    path, authorization = site.asked[0]
    given = path + base64.b64decode(authorization.split()[1]).decode()
    assert set(find_plants(given)) == set(IN_ADDRESS.values())

    again = train(sign(f"{site.address}/mn.pt", signature="another"))
    assert "1 of 1 run is in the store already" in again
    store = LogitStore(tmp_path / "store")
    (key,) = store.keys("tau")
    record = store.read_record(key)
    assert record["recipe"]["weights"] == f"{site.address}/mn.pt"
    assert re.fullmatch("[0-9a-f]{64}", record["start_weights_sha256"])

    corpus = ("--corpus", "tau", "--root", commands.corpus, "--store", store.address)
    printed += [again, called("jobs/status.py", *corpus)]
    printed.append(called("jobs/status.py", *corpus, "--log", "*"))
    printed.append(called("jobs/track.py", *corpus, "--tensorboard", tmp_path / "boards"))
    page = tmp_path / "report.html"
    printed.append(called("jobs/report.py", *corpus, "--to", page))
    for words in (["show", key.member, "--json"], ["ls"], ["sql", "select * from runs"]):
        assert ask_store(*words, "--store", store.address) == 0
        printed.append(capsys.readouterr().out)
    kept = read_all(tmp_path / "store") + read_all(tmp_path / "boards") + page.read_text()
    assert f"--weights 'http://***@127.0.0.1:{site.address.rpartition(':')[2]}/mn.pt?***'" in kept
    assert find_plants(*printed, kept, read_all(commands.folder)) == []


def ask_store(*words: str) -> int | str | None:
    """Run `python -m logit_store` in this process; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        run_program(logit_store_command.PROGRAM, lambda: logit_store_command.main(words))
    return ended.value.code


def test_a_command_that_fails_says_no_secret_of_its_addresses(
    train, called, commands, site, closed, tmp_path, monkeypatch, capsys
):
    masked = "***@127.0.0.1"
    refused = train(sign(f"{site.address}/none.pt"), code=1)
    assert "HTTP 403 *** *** *** *** *** ***" in refused
    unreachable = train(sign(f"{closed}/mn.pt"), code=1)
    for text in (refused, unreachable):
        assert masked in text
    odd = train(sign("ftp://127.0.0.1/mn.pt"), code=1)
    assert f"--weights: address 'ftp://{masked}/mn.pt?***'" in odd

    here = ("--corpus", "tau", "--store", tmp_path / "store")
    root = called("jobs/prepare.py", *here, "--root", sign("https://127.0.0.1/tau"), code=2)
    assert f"--root https://{masked}/tau?***" in root
    keys = f"s3://plant-s3-key:plant/s3/secret@{BUCKET}/x"
    for command in ("jobs/prepare.py", "jobs/report.py"):
        store = called(command, "--corpus", "demo", "--store", keys, code=2)
        assert f"s3://***@{BUCKET}/x" in store
    assert ask_store("ls", "--store", keys) == 2
    store += capsys.readouterr().err
    # An option that does not exist is quoted.
    assert ask_store("ls", "--stroe", sign("https://127.0.0.1/x")) == 2
    store += capsys.readouterr().err
    assert masked in store
    monkeypatch.setenv("AWS_ENDPOINT_URL", sign(closed))
    monkeypatch.setattr("logit_store.s3._ATTEMPTS", 1)
    assert ask_store("ls", "--store", f"s3://{BUCKET}/x") == 1
    server = capsys.readouterr().err
    assert f"AWS_ENDPOINT_URL names it (http://{masked}" in server
    printed = (refused, unreachable, odd, root, store, server)
    assert find_plants(*printed, read_all(tmp_path), read_all(commands.folder)) == []


@pytest.mark.parametrize("words", [("--stroe",), ("--store", "x", "--csv"), ("--store",)])
def test_a_long_address_that_is_refused_is_masked_before_it_is_broken_or_shortened(words, capsys):
    address = f"https://anna:{'plant-' * 60}@host.org/x"
    assert ask_store("ls", *words, address) != 0
    said = capsys.readouterr().err
    assert "https://***@host.org/x" in said
    assert "plant" not in said


def test_a_tracking_server_that_does_not_answer_leaves_no_secret_in_the_log(
    train, called, commands, site, closed, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sign(closed))
    printed = train(sign(f"{site.address}/mn.pt"), code=1)
    assert "no metrics can be sent to MLflow at http://***@127.0.0.1" in printed
    corpus = ("--corpus", "tau", "--root", commands.corpus, "--store", tmp_path / "store")
    log = called("jobs/status.py", *corpus, "--log", "*")
    assert "no metrics can be sent to MLflow at http://***@127.0.0.1" in log
    assert find_plants(printed, log, read_all(tmp_path / "store")) == []


def test_keys_of_a_bucket_stay_out_of_the_bucket(train, site, tmp_path, monkeypatch):
    with moto() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("TUTTI_CACHE", str(tmp_path / "cache"))
        address = f"s3://{BUCKET}/store"
        printed = train(sign(f"{site.address}/mn.pt"), store=address)
        store = LogitStore(address)
        kept = [
            store.files.get(entry.name).decode(errors="replace") for entry in store.files.find_all()
        ]
    assert len(kept) >= 5
    assert find_plants(printed, *kept, read_all(tmp_path / "cache")) == []


def test_a_record_of_an_earlier_version_is_shown_without_its_secrets(called, capsys, tmp_path):
    store, corpus = LogitStore(tmp_path / "store"), demo.read()
    store.write_clips("demo", corpus.clips_table())
    key = LogitKey("demo", 25, "demo_mn-00000000000a")
    record = {"kind": "teacher", "recipe": {"weights": sign("https://b.org/mn.pt")}}
    store.write(key, np.zeros((len(corpus), len(corpus.scenes))), record)
    history = {"history": [{"epoch": 1, "loss": 0.5}]}
    store.objects.write(
        f"teachers/v1/{key.member}/record.json", json.dumps(record | history).encode()
    )
    shown = []
    for words in (["show", key.member, "--json"], ["sql", "select * from members", "--csv"]):
        assert ask_store(*words, "--store", store.address) == 0
        shown.append(capsys.readouterr().out)
    assert "https://***@b.org/mn.pt?***" in shown[0]
    (row,) = store.runs("demo").to_pylist()
    sent = read_finished_run(store, row)
    assert sent.record["recipe"] == {"weights": "https://***@b.org/mn.pt?***"}
    assert find_plants(*shown) == []


def test_the_traceback_of_a_fault_holds_no_secret():
    lines = (
        "from terminal.masked import mask_secrets",
        "with mask_secrets():",
        f"    raise KeyError({sign('https://b.org/mn.pt')!r})",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "KeyError: 'https://***@b.org/mn.pt?***'" in done.stderr
    assert find_plants(done.stderr) == []


def test_an_address_with_a_password_is_not_shown_to_a_cluster(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sign("https://mlflow.org"))
    assert find_plants(str(_make_runtime_env(elsewhere=False))) == []
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI: the address holds a password"):
        _make_runtime_env(elsewhere=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.org")
    shown = _make_runtime_env(elsewhere=True)["env_vars"]
    assert shown["MLFLOW_TRACKING_URI"] == "https://mlflow.org"
    assert find_plants(str(shown)) == []
