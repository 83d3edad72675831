"""An MLflow to talk to: its client, and a run of it by the run's name."""

import os
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

MAX_PARAMETER_LENGTH = 500
METRICS_PER_REQUEST = 1000
_PARAMETERS_PER_REQUEST = 100


class TrackingError(OSError):
    """Figures are asked for elsewhere, but cannot be given there; the message says what to do."""


@contextmanager
def client_at(address: str, way_out: str) -> Generator[Any]:
    """The client of an MLflow server or of a file of its own (`sqlite:///FILE`).

    Args:
        address: where it is.
        way_out: what a person can do who does not want it any more; ends the error's message.

    Raises:
        TrackingError: no MLflow is installed, or the block fails at that address.
    """
    # Its own patience is 8 requests of two minutes each: too long before an epoch. What it sends
    # about its use to its makers is not ours to give.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    with warnings.catch_warnings():
        # Of its own libraries' next versions: nothing that whoever trains can do about.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise TrackingError(
                f"no figures can be given to {address}: there is no MLflow here ({error}); "
                f"pip install mlflow-skinny, or {way_out}"
            ) from error
        try:
            yield MlflowClient(address)
        except Exception as error:
            raise TrackingError(
                f"no figures can be given to MLflow at {address} ({error}): start it, mend the "
                f"address, or {way_out}"
            ) from error


def check_run_name(name: str) -> None:
    """Refuse a name that MLflow could not search for.

    Raises:
        ValueError: it holds a quotation mark.
    """
    if "'" in name or '"' in name:
        raise ValueError(f"run {name!r}: a name that is searched for may hold no quotation mark")


def begin_run(client: Any, experiment: str, name: str) -> str:
    """The id of the run of that name, which is made if there is none, and is running from now on.

    Args:
        client: of `client_at`.
        experiment: groups runs; made if there is none of that name.
        name: of the run, as `check_run_name` has it.
    """
    found = find_run(client, experiment, name)
    if found is None:
        return client.create_run(_experiment_id(client, experiment), run_name=name).info.run_id
    client.update_run(found.info.run_id, status="RUNNING")
    return found.info.run_id


def find_run(client: Any, experiment: str, name: str) -> Any | None:
    """The first run of that name, as MLflow describes it; None if there is none.

    Args:
        client: of `client_at`.
        experiment: made if there is none of that name.
        name: of the run, as `check_run_name` has it.
    """
    found = client.search_runs(
        [_experiment_id(client, experiment)],
        f"attributes.run_name = '{name}'",
        order_by=["attributes.start_time"],
    )
    return found[0] if found else None


def write_parameters(client: Any, run_id: str, parameters: Mapping[str, object]) -> None:
    """Give a run its parameters; dataclasses and mappings become `outer.inner`."""
    from mlflow.entities import Param

    # What is there stays: MLflow refuses another value, as a later commit would be.
    there = client.get_run(run_id).data.params
    told = _flat(parameters).items()
    new = [Param(key, value) for key, value in told if key not in there]
    for first in range(0, len(new), _PARAMETERS_PER_REQUEST):
        client.log_batch(run_id, params=new[first : first + _PARAMETERS_PER_REQUEST])


def _experiment_id(client: Any, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return found.experiment_id
    try:
        return client.create_experiment(name)
    except MlflowException:
        # Many tasks begin at once: another one may have made it just now.
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


def _flat(parameters: Mapping[str, object], outer: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in parameters.items():
        inner = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
        if isinstance(inner, Mapping):
            flat |= _flat(inner, f"{outer}{key}.")
        else:
            flat[f"{outer}{key}"] = str(inner)[:MAX_PARAMETER_LENGTH]
    return flat
