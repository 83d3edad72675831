"""A run's metrics while it trains, where other programs show them: TensorBoard, MLflow."""

import io
import logging
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from redact import redact_secrets, strip_secrets
from training.mlflow_server import (
    METRICS_PER_REQUEST,
    begin_run,
    check_run_name,
    open_client,
    write_parameters,
)

logger = logging.getLogger(__name__)

NO_CURVES = ("epoch", "ended")
"""Metrics that say when an epoch was, not how it went."""
RETRY_AFTER_S = 300.0
"""Time until a tracking server that did not answer is tried again."""


def encode_events(history: Sequence[Mapping[str, float]], ending: Sequence[Any] = ()) -> bytes:
    """Return a TensorBoard event file with a scalar for each metric, at the step of its epoch.

    Equal metrics give equal bytes. TensorBoard joins the files of a folder in the order of their
    names, so a run may write a file every few epochs, and continue with the next after a kill.

    Args:
        history: metrics of one or more epochs, in order; "epoch" counts from 1, and "ended", if it
            is there, is when the epoch was over, in unix seconds.
        ending: TensorBoard's summaries of the run as a whole, which stand at its last epoch.
    """
    # Slow to import, and only training writes metrics. Protobuf makes its classes when it is
    # imported: no type checker sees them.
    from tensorboard.compat.proto.event_pb2 import (
        Event,  # pyrefly: ignore[missing-module-attribute]
    )
    from tensorboard.compat.proto.summary_pb2 import (
        Summary,  # pyrefly: ignore[missing-module-attribute]
    )
    from tensorboard.summary.writer.record_writer import RecordWriter

    file = io.BytesIO()
    records = RecordWriter(file)
    started_s = history[0].get("ended", 0.0)
    records.write(Event(wall_time=started_s, file_version="brain.Event:2").SerializeToString())

    def write(metrics: Mapping[str, float], summary: Any) -> None:
        ended_s, epoch = metrics.get("ended", 0.0), int(metrics["epoch"])
        event = Event(wall_time=ended_s, step=epoch, summary=summary)
        records.write(event.SerializeToString())

    for metrics in history:
        values = [Summary.Value(tag=n, simple_value=v) for n, v in select_curves(metrics).items()]
        write(metrics, Summary(value=values))
    for summary in ending:
        write(history[-1], summary)
    return file.getvalue()


@contextmanager
def track_in_mlflow(
    experiment: str, name: str, parameters: Mapping[str, object]
) -> Generator[Callable[[dict[str, float]], None]]:
    """Yield a function that sends an epoch's metrics to the MLflow at MLFLOW_TRACKING_URI.

    The run ends as FINISHED, or as FAILED if the block raises. If a run of that name exists, it was
    interrupted and is continued. If the variable is not set, the function does nothing.

    A server that stops answering does not stop the training: that is logged once, and the metrics
    wait until it answers again.

    Args:
        experiment: groups runs; created if there is none of that name.
        name: of the run, without quotation marks.
        parameters: of the run; dataclasses and mappings become `outer.inner`.

    Raises:
        TrackingError: MLflow is not installed, or there is none at that address.
        ValueError: the name holds a quotation mark.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        yield lambda metrics: None
        return
    check_run_name(name)
    with open_client(address, "unset the variable (MLFLOW_TRACKING_URI)") as client:
        run_id = begin_run(client, experiment, name)
        write_parameters(client, run_id, parameters)
    run = _TrackedRun(client, run_id, address)
    try:
        yield run.note
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")


def select_curves(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return those of an epoch's metrics that are drawn over the epochs."""
    return {name: value for name, value in metrics.items() if name not in NO_CURVES}


class _TrackedRun:
    """One run of an MLflow client; metrics that could not be sent wait for the next time."""

    def __init__(self, client: Any, run_id: str, address: str) -> None:
        self._client, self._run_id, self._address = client, run_id, strip_secrets(address)
        self._waiting: list[tuple[str, float, int, int]] = []
        self._failed_at: float | None = None
        self._has_warned = False

    def note(self, metrics: dict[str, float]) -> None:
        """Send an epoch's metrics, and those that wait."""
        at_ms = round(1000 * metrics.get("ended", time.time()))
        step = int(metrics["epoch"])
        self._waiting += [
            (name, value, at_ms, step) for name, value in select_curves(metrics).items()
        ]
        if self._failed_at is None or time.monotonic() - self._failed_at > RETRY_AFTER_S:
            self._try(self._send)

    def end(self, status: str) -> None:
        """Send the metrics that wait, and how the run ended."""
        self._try(self._send)
        if self._failed_at is None:
            self._try(lambda: self._client.set_terminated(self._run_id, status))
        if self._failed_at is not None:
            logger.warning(
                "MLflow at %s does not know that run %s is %s; metrics that it did not receive: %d",
                self._address,
                self._run_id,
                status,
                len(self._waiting),
            )

    def _send(self) -> None:
        from mlflow.entities import Metric

        while self._waiting:
            batch = self._waiting[:METRICS_PER_REQUEST]
            self._client.log_batch(self._run_id, metrics=[Metric(*each) for each in batch])
            del self._waiting[: len(batch)]

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - no metric is worth the training
            self._failed_at = time.monotonic()
            if not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "MLflow at %s does not accept metrics of run %s, training goes on without it: %s",
                    self._address,
                    self._run_id,
                    redact_secrets(str(error)),
                )
        else:
            self._failed_at = None
