import logging
import os
import sys
from dataclasses import dataclass

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training import watch
from training.errors import TrackingError
from training.watch import encode_events, track_in_mlflow

HISTORY = [
    {"epoch": n, "loss": 1 / n, "select_accuracy": 0.1 * n, "ended": 1.7e9 + n} for n in range(1, 6)
]


def test_the_event_files_of_a_killed_run_continue_each_other(tmp_path):
    for first, last in ((0, 3), (3, 5)):
        name = f"events.out.tfevents.{first + 1:06d}.tutti"
        (tmp_path / name).write_bytes(encode_events(HISTORY[first:last]))
    read = EventAccumulator(str(tmp_path)).Reload()
    assert sorted(read.Tags()["scalars"]) == ["loss", "select_accuracy"]
    for tag in ("loss", "select_accuracy"):
        points = [(each.step, each.wall_time, each.value) for each in read.Scalars(tag)]
        # An event file holds float32.
        expected = [(f["epoch"], f["ended"], pytest.approx(f[tag], rel=1e-7)) for f in HISTORY]
        assert points == expected


def test_equal_metrics_give_equal_bytes_with_and_without_a_time():
    timeless = [{"epoch": 1, "loss": 0.5}]
    assert encode_events(HISTORY) == encode_events(HISTORY)
    assert encode_events(timeless) == encode_events(timeless)
    assert encode_events(HISTORY) != encode_events(HISTORY[:4])


@dataclass(frozen=True)
class Recipe:
    peak: float
    note: str


PARAMETERS = {"seed": 3, "recipe": Recipe(0.01, "x" * 600), "needs": {"gpus": 0.5}}


@pytest.fixture
def no_mlflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)  # what makes `import mlflow` fail


def test_without_a_tracking_address_mlflow_is_not_even_imported(monkeypatch, no_mlflow):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with track_in_mlflow("tau", "cpr-1", PARAMETERS) as note:
        note(HISTORY[0])


def test_an_address_without_mlflow_is_an_error_that_names_what_to_install(
    monkeypatch, no_mlflow, mlflow_variables
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    with (
        pytest.raises(TrackingError, match=r"http://tracking.*pip install mlflow-skinny"),
        track_in_mlflow("tau", "cpr-1", {}),
    ):
        pass


def test_an_address_where_nothing_answers_is_an_error_at_the_start(monkeypatch, mlflow_variables):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with (
        pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9 .*unset the variable"),
        track_in_mlflow("tau", "cpr-1", {}),
    ):
        pass


def test_timeouts_that_the_user_has_set_are_kept(monkeypatch, mlflow_variables, no_mlflow):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    with pytest.raises(TrackingError), track_in_mlflow("tau", "cpr-1", {}):
        pass
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert int(os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]) <= 3


def train_one_epoch_and_be_killed():
    with track_in_mlflow("tau", "cpr-1", PARAMETERS) as note:
        note(HISTORY[0])
        raise KeyboardInterrupt


def test_a_killed_run_is_continued_and_ends_finished(monkeypatch, mlflow_address):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_address)
    with pytest.raises(KeyboardInterrupt):
        train_one_epoch_and_be_killed()
    client = MlflowClient(mlflow_address)
    experiment = client.get_experiment_by_name("tau").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["FAILED"]
    # A later commit, perhaps: what the run began with stays.
    with track_in_mlflow("tau", "cpr-1", PARAMETERS | {"seed": 4, "commit": "f00"}) as note:
        assert client.search_runs([experiment])[0].info.status == "RUNNING"
        for metrics in HISTORY[1:]:
            note(metrics)
    with track_in_mlflow("tau", "cpr-10", {}) as note:
        note(HISTORY[0])
    other, run = client.search_runs([experiment])
    assert (other.info.run_name, run.info.run_name) == ("cpr-10", "cpr-1")
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "seed": "3",
        "recipe.peak": "0.01",
        "recipe.note": "x" * 500,
        "needs.gpus": "0.5",
        "commit": "f00",
    }
    points = client.get_metric_history(run.info.run_id, "loss")
    assert [(p.step, p.timestamp, p.value) for p in points] == [
        (f["epoch"], 1000 * f["ended"], f["loss"]) for f in HISTORY
    ]
    assert set(run.data.metrics) == {"loss", "select_accuracy"}


class Flaky:
    """A tracking client that answers while `up`."""

    def __init__(self):
        self.up, self.asked, self.steps, self.status = False, 0, [], None

    def log_batch(self, run_id, metrics):
        self.asked += 1
        if not self.up:
            raise ConnectionError("no route")
        self.steps += [metric.step for metric in metrics if metric.key == "loss"]

    def set_terminated(self, run_id, status):
        self.status = status


def test_metrics_wait_for_an_unreachable_server_which_is_logged_once(monkeypatch, caplog):
    client = Flaky()
    run = watch._TrackedRun(client, "r1", "http://tracking")
    with caplog.at_level(logging.WARNING):
        run.note(HISTORY[0])
        run.note(HISTORY[1])
        assert client.asked == 1  # not tried again for a while
        monkeypatch.setattr(watch, "RETRY_AFTER_S", 0.0)
        run.note(HISTORY[2])
        client.up = True
        run.note(HISTORY[3])
        run.end("FINISHED")
    assert client.steps == [1, 2, 3, 4]
    assert client.status == "FINISHED"
    assert [record.message for record in caplog.records] == [
        "MLflow at http://tracking does not accept metrics of run r1, training goes on without it: no route"
    ]


def test_metrics_that_never_arrived_are_logged_at_the_end(caplog):
    run = watch._TrackedRun(Flaky(), "r1", "http://tracking")
    with caplog.at_level(logging.WARNING):
        run.note(HISTORY[0])
        run.end("FINISHED")
    assert caplog.messages[-1].endswith(
        "does not know that run r1 is FINISHED; metrics that it did not receive: 2"
    )


def test_a_name_that_cannot_be_searched_for_is_refused(monkeypatch, mlflow_variables):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking")
    with pytest.raises(ValueError, match="quotation mark"), track_in_mlflow("tau", "it's", {}):
        pass
