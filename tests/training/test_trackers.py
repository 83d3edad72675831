"""Finished runs in TensorBoard, MLflow and Weights & Biases: each run completely, and only once."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.metadata import parse_session_start_info_plugin_data

from audio.clips import build_clips_table
from logit_store import LogitKey, LogitStore
from training.errors import TrackingError
from training.trackers import read_finished_run, send_to_mlflow, send_to_wandb, write_to_tensorboard
from training.watch import track_in_mlflow

HISTORY = [
    {"epoch": n, "loss": 1 / n, "select_accuracy": 0.1 * n, "ended": 1.7e9 + n} for n in range(1, 6)
]
RECORD = {"kind": "teacher", "seed": 3, "recipe": {"name": "cpr", "training": {"batch_size": 16}}}
MEMBER = "cpr-00000000000a"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return a store with a teacher that was trained here, and imported logits."""
    made = LogitStore(tmp_path_factory.mktemp("store"))
    names = [f"c{n}" for n in range(8)]
    folds = {100: ["fit", "fit", "select", "test"] * 2}
    clips = build_clips_table(names, names, ["bus", "park"] * 4, names, folds)
    made.write_clips("tau", clips.drop_columns(["file"]))
    logits_NK = np.random.default_rng(0).normal(size=(8, 2))
    made.write(LogitKey("tau", 100, MEMBER), logits_NK, RECORD)
    made.write(LogitKey("tau", 100, "theirs-00000000000b"), logits_NK, {"kind": "teacher"})
    with_history = json.dumps(RECORD | {"history": HISTORY}).encode()
    made.objects.write(f"teachers/v1/{MEMBER}/record.json", with_history)
    return made


@pytest.fixture(scope="module")
def run(store):
    return read_finished_run(store, store.runs().to_pylist()[0])


def test_a_finished_run_has_its_curve_and_its_scores(store, run):
    assert run.key == LogitKey("tau", 100, MEMBER)
    assert run.history == HISTORY
    assert run.record == RECORD
    select = store.read_footer(run.key).find_scores("select")
    assert run.scores == {"log_loss_select": select.log_loss, "accuracy_select": select.accuracy}


def test_imported_logits_have_no_curve(store):
    imported = store.runs().to_pylist()[1]
    assert imported["name"] == "theirs"
    assert read_finished_run(store, imported) is None


def test_tensorboard_reads_the_curve_and_a_second_time_adds_nothing(run, tmp_path):
    assert write_to_tensorboard(tmp_path, run)
    assert not write_to_tensorboard(tmp_path, run)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.parent == tmp_path / "tau" / "100" / MEMBER
    read = EventAccumulator(str(file.parent)).Reload()
    points = [(each.step, each.value) for each in read.Scalars("select_accuracy")]
    assert points == [(f["epoch"], pytest.approx(f["select_accuracy"])) for f in HISTORY]


def test_tensorboard_gets_the_recipe_and_the_scores_as_well(run, tmp_path):
    write_to_tensorboard(tmp_path, run)
    read = EventAccumulator(str(tmp_path / "tau" / "100" / MEMBER)).Reload()
    for name, score in run.scores.items():
        assert [(each.step, each.value) for each in read.Scalars(name)] == [
            (5, pytest.approx(score))
        ]
    (text,) = read.Tensors("record/text_summary")
    assert json.loads(text.tensor_proto.string_val[0].decode().strip("`json\n")) == RECORD
    start = parse_session_start_info_plugin_data(
        read.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    )
    assert start.hparams["recipe.training.batch_size"].number_value == 16
    assert start.hparams["recipe.name"].string_value == "cpr"


def steps(client, run_id, name):
    return [point.step for point in client.get_metric_history(run_id, name)]


def test_mlflow_gets_a_run_once_with_all_its_epochs(run, mlflow_address):
    from mlflow import MlflowClient

    assert send_to_mlflow(mlflow_address, run)
    assert not send_to_mlflow(mlflow_address, run)
    client = MlflowClient(mlflow_address)
    (stored,) = client.search_runs([client.get_experiment_by_name("tau").experiment_id])
    assert stored.info.run_name == MEMBER
    assert stored.info.status == "FINISHED"
    assert stored.data.params["recipe.training.batch_size"] == "16"
    assert stored.data.metrics["log_loss_select"] == run.scores["log_loss_select"]
    assert steps(client, stored.info.run_id, "loss") == [1, 2, 3, 4, 5]


def track_two_epochs_and_be_killed(key):
    with track_in_mlflow(key.corpus, key.member, RECORD) as note:
        for metrics in HISTORY[:2]:
            note(metrics)
        raise KeyboardInterrupt


def test_a_run_of_which_mlflow_missed_a_part_gets_the_missing_epochs(
    run, mlflow_address, monkeypatch
):
    from mlflow import MlflowClient

    other = replace(run, key=LogitKey("demo", 100, MEMBER))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_address)
    with pytest.raises(KeyboardInterrupt):
        track_two_epochs_and_be_killed(other.key)
    assert send_to_mlflow(mlflow_address, other)
    client = MlflowClient(mlflow_address)
    (stored,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert stored.info.status == "FINISHED"
    assert steps(client, stored.info.run_id, "loss") == [1, 2, 3, 4, 5]


def test_an_mlflow_that_does_not_answer_is_one_error_with_a_way_out(
    run, monkeypatch, mlflow_variables
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9 .* out --mlflow"):
        send_to_mlflow("http://127.0.0.1:9", run)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Set up Weights & Biases without an account, in a folder of the test."""
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")
    wandb = pytest.importorskip("wandb")
    wandb.teardown()
    return tmp_path / "wandb"


def read_logged_epochs(folder):
    """Return the epochs of an offline run, with their loss."""
    import wandb
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    wandb.teardown()  # after it, its process has written everything
    (file,) = folder.glob("offline-run-*/*.wandb")
    data = DataStore()
    data.open_for_scan(str(file))
    epochs = []
    while (record := data.scan_data()) is not None:
        entry = wandb_internal_pb2.Record()
        entry.ParseFromString(record)
        if entry.HasField("history"):
            items = {item.nested_key[0]: item.value_json for item in entry.history.item}
            epochs.append((json.loads(items["_step"]), json.loads(items["loss"])))
    data.close()
    return epochs


def test_weights_and_biases_gets_a_run_once_without_a_network(run, offline, capfd):
    assert send_to_wandb("tutti", run)
    assert not send_to_wandb("tutti", run)
    assert read_logged_epochs(offline) == [(f["epoch"], pytest.approx(f["loss"])) for f in HISTORY]
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


@pytest.mark.parametrize(
    ("library", "give"), [("mlflow", send_to_mlflow), ("wandb", send_to_wandb)]
)
def test_a_library_that_is_not_installed_is_named(
    run, monkeypatch, mlflow_variables, library, give
):
    monkeypatch.setitem(sys.modules, library, None)  # what makes its import fail
    with pytest.raises(TrackingError, match=f"pip install {library}.* leave out --{library}"):
        give("anything", run)
