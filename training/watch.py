"""A run's figures while it learns, where others look at them: TensorBoard, MLflow."""

import io
import logging
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from training.mlflow_server import (
    METRICS_PER_REQUEST,
    begin_run,
    check_run_name,
    client_at,
    write_parameters,
)

logger = logging.getLogger(__name__)

NO_CURVES = ("epoch", "ended")
"""Figures that say when an epoch was, and not how it went."""
RETRY_AFTER_S = 300.0
"""A tracking server that did not answer is left alone for so long."""


def event_file(history: Sequence[Mapping[str, float]]) -> bytes:
    """A TensorBoard event file: a scalar per figure, at the step that its epoch is.

    Equal figures are equal bytes. TensorBoard joins the files of a folder in the order of their
    names, so a run may leave one for every few epochs, and go on with the next after it was killed.

    Args:
        history: figures of some epochs, in their order, one at least; "epoch" counts from 1, and
            "ended", if there is one, is when the epoch was over, in unix seconds.
    """
    # Slow to import, and only who learns writes figures. Protobuf makes its classes when it is
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
    for figures in history:
        values = [Summary.Value(tag=n, simple_value=v) for n, v in curves(figures).items()]
        event = Event(
            wall_time=figures.get("ended", 0.0),
            step=int(figures["epoch"]),
            summary=Summary(value=values),
        )
        records.write(event.SerializeToString())
    return file.getvalue()


@contextmanager
def mlflow_run(
    experiment: str, name: str, parameters: Mapping[str, object]
) -> Generator[Callable[[dict[str, float]], None]]:
    """What gives an epoch's figures to MLflow, where MLFLOW_TRACKING_URI says where that is.

    The run ends as FINISHED, or as FAILED where the block raises. One that has the name already is
    gone on with, since it was interrupted. Where the variable is not set, nothing is done.

    A server that stops answering does not stop the training: that is said once, and the figures
    wait until it answers again.

    Args:
        experiment: groups runs; made if there is none of that name.
        name: of the run, without quotation marks.
        parameters: what it learns with; dataclasses and mappings become `outer.inner`.

    Raises:
        TrackingError: no MLflow is installed, or there is none at that address.
        ValueError: the name holds a quotation mark.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        yield lambda figures: None
        return
    check_run_name(name)
    with client_at(address, "unset the variable (MLFLOW_TRACKING_URI)") as client:
        run_id = begin_run(client, experiment, name)
        write_parameters(client, run_id, parameters)
    run = _TrackedRun(client, run_id, address)
    try:
        yield run.note
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")


def curves(figures: Mapping[str, float]) -> dict[str, float]:
    """What of an epoch's figures is drawn over the epochs."""
    return {name: value for name, value in figures.items() if name not in NO_CURVES}


class _TrackedRun:
    """One run of an MLflow client; figures that could not be sent wait for the next time."""

    def __init__(self, client: Any, run_id: str, address: str) -> None:
        self._client, self._run_id, self._address = client, run_id, address
        self._waiting: list[tuple[str, float, int, int]] = []
        self._failed_at: float | None = None
        self._has_warned = False

    def note(self, figures: dict[str, float]) -> None:
        """Send an epoch's figures, and those that wait."""
        at_ms = round(1000 * figures.get("ended", time.time()))
        step = int(figures["epoch"])
        self._waiting += [(name, value, at_ms, step) for name, value in curves(figures).items()]
        if self._failed_at is None or time.monotonic() - self._failed_at > RETRY_AFTER_S:
            self._try(self._send)

    def end(self, status: str) -> None:
        """Send what waits, and say how the run ended."""
        self._try(self._send)
        if self._failed_at is None:
            self._try(lambda: self._client.set_terminated(self._run_id, status))
        if self._failed_at is not None:
            logger.warning(
                "MLflow at %s does not know that run %s is %s; figures that it did not get: %d",
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
        except Exception as error:  # noqa: BLE001 - no figure is worth the training
            self._failed_at = time.monotonic()
            if not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "MLflow at %s takes no figures of run %s for now, training goes on: %s",
                    self._address,
                    self._run_id,
                    error,
                )
        else:
            self._failed_at = None
