"""The command that shows finished runs in TensorBoard, MLflow and W&B."""

import json

import numpy as np
import pytest

from audio.corpora import demo
from jobs import track
from logit_store import LogitKey, LogitStore

MEMBER = "demo_cpr-00000000000a"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = LogitStore(tmp_path_factory.mktemp("store"))
    corpus = demo.read()
    made.write_clips("demo", corpus.clips_table())
    logits_NK = np.zeros((len(corpus), len(corpus.scenes)))
    for member in (MEMBER, "imported-00000000000b"):
        made.write(LogitKey("demo", 25, member), logits_NK, {"kind": "teacher"})
    record = {"kind": "teacher", "history": [{"epoch": 1, "loss": 0.5}]}
    made.objects.write(f"teachers/v1/{MEMBER}/record.json", json.dumps(record).encode())
    return made.address


def test_finished_runs_go_to_tensorboard_once(called, store, tmp_path):
    command = ("jobs/track.py", "--store", store, "--tensorboard", tmp_path / "boards")
    printed = called(*command)
    assert "TensorBoard: 1 new run of demo, 0 there already" in printed
    assert "left out 1 member without a learning curve" in printed
    assert f"next: tensorboard --logdir {tmp_path / 'boards'}" in printed
    assert "0 new runs of demo, 1 there already" in called(*command)


def test_each_run_is_sent_before_the_next_is_read(store, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(track, "read_finished_run", lambda store, row: done.append("read") or row)
    monkeypatch.setattr(
        track, "write_to_tensorboard", lambda folder, run: done.append("sent") or True
    )
    assert track.main(track.TrackOptions(store=store, tensorboard=tmp_path)) == 0
    assert done == ["read", "sent"] * 2


def test_a_command_that_names_no_place_says_which_there_are(called, store):
    printed = called("jobs/track.py", "--store", store, code=1)
    assert "name --tensorboard FOLDER, --mlflow ADDRESS or --wandb PROJECT" in printed


def test_an_mlflow_that_does_not_answer_is_one_message(called, store, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", "WARNING")
    command = ("jobs/track.py", "--store", store, "--mlflow", "http://127.0.0.1:9")
    printed = called(*command, code=1)
    assert printed.startswith("error: no metrics can be sent to MLflow at http://127.0.0.1:9")
    assert "Traceback" not in printed
