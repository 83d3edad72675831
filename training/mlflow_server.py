"""The client of an MLflow server, and its runs by name."""

import os
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

from training.errors import TrackingError

MAX_PARAMETER_LENGTH = 500
METRICS_PER_REQUEST = 1000
_PARAMETERS_PER_REQUEST = 100


@contextmanager
def open_client(address: str, way_out: str) -> Generator[Any]:
    """Yield the client of an MLflow server or of a file (`sqlite:///FILE`).

    Args:
        address: of the server or file.
        way_out: how to do without MLflow; ends the error's message.

    Raises:
        TrackingError: MLflow is not installed, or the block fails at that address.
    """
    # By default it tries 8 requests of two minutes each: too long before an epoch. It must not send
    # telemetry about our users to its makers.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    with warnings.catch_warnings():
        # About the next versions of its own libraries: the user can do nothing about them.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise TrackingError(
                f"no metrics can be sent to {address}: MLflow is not installed ({error}); "
                f"pip install mlflow-skinny, or {way_out}"
            ) from error
        try:
            yield MlflowClient(address)
        except Exception as error:
            raise TrackingError(
                f"no metrics can be sent to MLflow at {address} ({error}): start it, correct the "
                f"address, or {way_out}"
            ) from error


def check_run_name(name: str) -> None:
    """Check that MLflow can search for a name.

    Raises:
        ValueError: it contains a quotation mark.
    """
    if "'" in name or '"' in name:
        raise ValueError(
            f"run {name!r}: MLflow searches for it, so it must not contain a quotation mark"
        )


def begin_run(client: Any, experiment: str, name: str) -> str:
    """Return the id of the run of that name, created if there is none, and set it to running.

    Args:
        client: from `open_client`.
        experiment: groups runs; created if there is none of that name.
        name: of the run, which `check_run_name` has checked.
    """
    run = find_run(client, experiment, name)
    if run is None:
        return client.create_run(_find_experiment(client, experiment), run_name=name).info.run_id
    client.update_run(run.info.run_id, status="RUNNING")
    return run.info.run_id


def find_run(client: Any, experiment: str, name: str) -> Any | None:
    """Return the first run of that name, as MLflow describes it; None if there is none.

    Args:
        client: from `open_client`.
        experiment: created if there is none of that name.
        name: of the run, which `check_run_name` has checked.
    """
    runs = client.search_runs(
        [_find_experiment(client, experiment)],
        f"attributes.run_name = '{name}'",
        order_by=["attributes.start_time"],
    )
    return runs[0] if runs else None


def write_parameters(client: Any, run_id: str, parameters: Mapping[str, object]) -> None:
    """Give a run its parameters; dataclasses and mappings become `outer.inner`."""
    from mlflow.entities import Param

    # Existing ones stay: MLflow refuses a different value, such as a later commit.
    existing = client.get_run(run_id).data.params
    flat = flatten_parameters(parameters).items()
    new = [Param(k, str(value)[:MAX_PARAMETER_LENGTH]) for k, value in flat if k not in existing]
    for first in range(0, len(new), _PARAMETERS_PER_REQUEST):
        client.log_batch(run_id, params=new[first : first + _PARAMETERS_PER_REQUEST])


def flatten_parameters(parameters: Mapping[str, object], outer: str = "") -> dict[str, object]:
    """Return parameters whose dataclasses and mappings have become `outer.inner`."""
    flat: dict[str, object] = {}
    for key, value in parameters.items():
        inner = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        if isinstance(inner, Mapping):
            flat |= flatten_parameters(inner, f"{outer}{key}.")
        else:
            flat[f"{outer}{key}"] = inner
    return flat


def _find_experiment(client: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is not None:
        return experiment.experiment_id
    try:
        return client.create_experiment(name)
    except MlflowException:
        # Many tasks begin at once: another one may have created it just now.
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise
        return experiment.experiment_id
