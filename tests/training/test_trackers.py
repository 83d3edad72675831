"""Finished runs in TensorBoard, MLflow and Weights & Biases: all of each run, and once."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from audio.clips import plain_table
from logit_store import LogitKey, LogitStore
from training.mlflow_server import TrackingError
from training.trackers import finished_run, to_mlflow, to_tensorboard, to_wandb
from training.watch import mlflow_run

HISTORY = [
    {"epoch": n, "loss": 1 / n, "select_accuracy": 0.1 * n, "ended": 1.7e9 + n} for n in range(1, 6)
]
RECORD = {"kind": "teacher", "seed": 3, "recipe": {"name": "cpr", "training": {"batch_size": 16}}}
MEMBER = "cpr-00000000000a"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A teacher that learnt here, and logits that came from elsewhere."""
    made = LogitStore(tmp_path_factory.mktemp("store"))
    names = [f"c{n}" for n in range(8)]
    folds = {100: ["fit", "fit", "select", "test"] * 2}
    clips = plain_table(names, names, ["bus", "park"] * 4, names, folds)
    made.write_clips("tau", clips.drop_columns(["file"]))
    logits_NK = np.random.default_rng(0).normal(size=(8, 2))
    made.write(LogitKey("tau", 100, MEMBER), logits_NK, RECORD)
    made.write(LogitKey("tau", 100, "theirs-00000000000b"), logits_NK, {"kind": "teacher"})
    with_history = json.dumps(RECORD | {"history": HISTORY}).encode()
    made.write_object(f"teachers/v1/{MEMBER}/record.json", with_history)
    return made


@pytest.fixture(scope="module")
def run(store):
    return finished_run(store, store.runs().to_pylist()[0])


@pytest.fixture(scope="module")
def mlflow_file(tmp_path_factory):
    """Made once: its hundred tables take seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def own_variables(monkeypatch):
    """What clients set for themselves does not outlive the test."""
    for name in ("HTTP_REQUEST_MAX_RETRIES", "HTTP_REQUEST_TIMEOUT", "LOGGING_LEVEL"):
        monkeypatch.setenv(f"MLFLOW_{name}", {"HTTP_REQUEST_TIMEOUT": "2"}.get(name, "0"))
    monkeypatch.setenv("MLFLOW_LOGGING_LEVEL", "WARNING")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


def test_a_finished_run_is_its_curve_and_what_remained_of_it(store, run):
    assert run.key == LogitKey("tau", 100, MEMBER)
    assert run.history == HISTORY
    assert run.record == RECORD
    select = store.footer(run.key).figure("select")
    assert run.worth == {"log_loss_select": select.log_loss, "accuracy_select": select.accuracy}


def test_logits_from_elsewhere_have_no_curve(store):
    theirs = store.runs().to_pylist()[1]
    assert theirs["name"] == "theirs"
    assert finished_run(store, theirs) is None


def test_tensorboard_reads_the_curve_and_a_second_time_adds_nothing(run, tmp_path):
    assert to_tensorboard(tmp_path, run)
    assert not to_tensorboard(tmp_path, run)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.parent == tmp_path / "tau" / "100" / MEMBER
    read = EventAccumulator(str(file.parent)).Reload()
    points = [(each.step, each.value) for each in read.Scalars("select_accuracy")]
    assert points == [(f["epoch"], pytest.approx(f["select_accuracy"])) for f in HISTORY]


def steps(client, run_id, name):
    return [point.step for point in client.get_metric_history(run_id, name)]


def test_mlflow_gets_a_run_once_with_all_its_epochs(run, mlflow_file, own_variables):
    from mlflow import MlflowClient

    assert to_mlflow(mlflow_file, run)
    assert not to_mlflow(mlflow_file, run)
    client = MlflowClient(mlflow_file)
    (there,) = client.search_runs([client.get_experiment_by_name("tau").experiment_id])
    assert there.info.run_name == MEMBER
    assert there.info.status == "FINISHED"
    assert there.data.params["recipe.training.batch_size"] == "16"
    assert there.data.metrics["log_loss_select"] == run.worth["log_loss_select"]
    assert steps(client, there.info.run_id, "loss") == [1, 2, 3, 4, 5]


def track_two_epochs_and_be_killed(key):
    with mlflow_run(key.corpus, key.member, RECORD) as note:
        for figures in HISTORY[:2]:
            note(figures)
        raise KeyboardInterrupt


def test_a_run_that_mlflow_lost_sight_of_gets_the_epochs_that_it_lacks(
    run, mlflow_file, monkeypatch, own_variables
):
    from mlflow import MlflowClient

    other = replace(run, key=LogitKey("demo", 100, MEMBER))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_file)
    with pytest.raises(KeyboardInterrupt):
        track_two_epochs_and_be_killed(other.key)
    assert to_mlflow(mlflow_file, other)
    client = MlflowClient(mlflow_file)
    (there,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert there.info.status == "FINISHED"
    assert steps(client, there.info.run_id, "loss") == [1, 2, 3, 4, 5]


def test_an_mlflow_that_does_not_answer_is_one_error_with_a_way_out(
    run, monkeypatch, own_variables
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9 .* out --mlflow"):
        to_mlflow("http://127.0.0.1:9", run)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Weights & Biases without an account, all of it in a folder of the test."""
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb = pytest.importorskip("wandb")
    wandb.teardown()
    return tmp_path / "wandb"


def logged(folder):
    """The epochs that an offline run holds, with their loss."""
    import wandb
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    wandb.teardown()  # its own process has written all then
    (file,) = folder.glob("offline-run-*/*.wandb")
    data = DataStore()
    data.open_for_scan(str(file))
    found = []
    while (record := data.scan_data()) is not None:
        told = wandb_internal_pb2.Record()
        told.ParseFromString(record)
        if told.HasField("history"):
            items = {item.nested_key[0]: item.value_json for item in told.history.item}
            found.append((json.loads(items["_step"]), json.loads(items["loss"])))
    data.close()
    return found


def test_weights_and_biases_gets_a_run_once_without_a_network(run, offline, capfd):
    assert to_wandb("tutti", run)
    assert not to_wandb("tutti", run)
    assert logged(offline) == [(f["epoch"], pytest.approx(f["loss"])) for f in HISTORY]
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


@pytest.mark.parametrize(("library", "give"), [("mlflow", to_mlflow), ("wandb", to_wandb)])
def test_a_library_that_is_not_installed_is_named(run, monkeypatch, own_variables, library, give):
    monkeypatch.setitem(sys.modules, library, None)  # what makes its import fail
    with pytest.raises(TrackingError, match=f"pip install {library}.* leave out --{library}"):
        give("anything", run)
