"""Connects a job to workers: a running Ray cluster, one of its own, or this process itself."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from jobs import TOKEN
from jobs.schedule.find_cluster import find_cluster, find_local_cluster
from jobs.schedule.uploads import find_upload, is_uploaded
from jobs.schedule.workers import IN_PROCESS, PRETENDED_GPUS, InProcess, Workers
from redact import strip_secrets
from terminal.console import UserError, console
from terminal.stopping import take_signals
from training.provenance import COMMIT_VARIABLE, find_commit

ROOT = Path(__file__).resolve().parents[2]
MEMORY_SHARE = 0.4
"""Share of the machine's memory for the runs of a cluster that a job starts itself. The rest is for
Ray, the page cache that holds the recordings, and the owner of the laptop."""
FORWARDED = (
    "MLFLOW_TRACKING_URI",
    "TUTTI_WEIGHTS",
    "TUTTI_CACHE",
    "TUTTI_CACHE_GB",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)
"""Environment variables of this process that workers need as well. Keys are not among them, because
Ray shows them in its dashboard; machines of a cluster have keys of their own."""


def joins_cluster() -> bool:
    """Return whether a job would join a running cluster; one that RAY_ADDRESS names is not asked."""
    if os.environ.get(IN_PROCESS) == "1":
        return False
    named = os.environ.get("RAY_ADDRESS")
    return named != "local" if named else find_local_cluster() is not None


@contextmanager
def connect(*, needs_ray: bool = False) -> Iterator[Workers[Any]]:
    """Connect to the workers of a job; a cluster that it had to start ends with the block.

    Args:
        needs_ray: whether the job also uses Ray by itself, as searches use Ray Tune.

    Raises:
        UserError: the cluster does not answer, or refuses the connection, the upload is too big, or
            the job needs Ray and is to do without.
    """
    if os.environ.get(IN_PROCESS) == "1":
        if needs_ray:
            raise UserError(f"{IN_PROCESS}=1: this command needs Ray; run it without that variable")
        yield InProcess()
        return
    # Ray takes seconds to import, and a job that has nothing to do does not need it.
    import ray

    from jobs.schedule.ray_workers import RayWorkers

    address = find_cluster()
    # The nodes of a simulated cluster share a folder of this machine, and a node that unpacks an
    # upload removes the copy that the others use.
    is_elsewhere = address is not None and PRETENDED_GPUS not in os.environ
    if is_elsewhere:
        where = "this job runs in an uploaded copy of it"
        console.print(
            f"working folder, {find_upload(ROOT)}: "
            f"{where if is_uploaded() else 'uploaded to the cluster'}",
            markup=False,
        )
    if console.no_color or not console.is_terminal:
        # Otherwise Ray colours the names in front of what workers print, also in a pipe.
        os.environ["RAY_COLOR_PREFIX"] = "0"
    _start_ray(address, is_elsewhere=is_elsewhere)
    try:
        yield RayWorkers(is_shared=address is not None)
    finally:
        ray.shutdown()
        # Ray leaves the signals to nobody.
        take_signals()


def _start_ray(address: str | None, *, is_elsewhere: bool) -> None:
    """Connect this process to the cluster at an address, or start one on this machine.

    Args:
        address: of the cluster; None starts one.
        is_elsewhere: whether its nodes do not have this project's folder.
    """
    import psutil
    import ray

    from jobs.schedule.ray_private import keep_signals

    waiting = "connecting to the Ray cluster" if address else "starting Ray on this machine"
    on_loopback = address is None or _is_own_loopback(address)
    with (
        console.status(waiting),
        # Ray warns about its own future changes at each start.
        warnings.catch_warnings(),
        _keep_on_loopback() if on_loopback else nullcontext(),
        keep_signals(),
    ):
        warnings.simplefilter("ignore")
        try:
            ray.init(
                address=address or "local",
                logging_level=logging.ERROR,
                runtime_env=_make_runtime_env(elsewhere=is_elsewhere),
                _memory=None if address else int(MEMORY_SHARE * psutil.virtual_memory().total),
            )
        except Exception as error:
            known = _explain(error, address)
            if known is None:
                raise
            raise known from error


def _explain(error: Exception, address: str | None) -> UserError | None:
    """Return what Ray's error means to a user of a job; None if it is not known.

    Args:
        error: raised while connecting or starting.
        address: of the cluster; None is one that was to be started.
    """
    from ray.exceptions import RayError

    said = " ".join(str(error).split())
    # Ray starts nothing before it has tried the names of its sockets.
    if isinstance(error, OSError) and "AF_UNIX" in said:
        return UserError(
            "Ray cannot start: the path of its folder for temporary files is too long for sockets: set "
            f"RAY_TMPDIR to a short folder, such as /tmp ({said})"
        )
    if address is not None and isinstance(error, ConnectionError | RayError | RuntimeError):
        return UserError(
            f"no connection to the Ray cluster at {address}: {said}\nIs this machine one of its nodes, "
            "with its versions of Ray and Python? Is RAY_AUTH_MODE here what it was at `ray start` "
            f"(token or disabled), and the token in {TOKEN} the cluster's?"
        )
    # Ray raises a bare Exception when its processes do not come up in time, and a RuntimeError when
    # another process took its port.
    if address is None and (type(error) is Exception or isinstance(error, RuntimeError)):
        return UserError(
            f"Ray did not start on this machine: {said}\nThe machine may be very busy, or somebody "
            "ran `ray stop` meanwhile: try again, or start Ray with `ray start --head`"
        )
    return None


@contextmanager
def _keep_on_loopback() -> Iterator[None]:
    """Let what Ray starts in this block, and this process, listen on loopback only."""
    from jobs.schedule.ray_private import LOOPBACK_VARIABLE, keep_process_on_loopback

    before = os.environ.get(LOOPBACK_VARIABLE)
    # Ray has read the variable in this process; those that it starts have not.
    os.environ[LOOPBACK_VARIABLE] = "0"
    try:
        with keep_process_on_loopback():
            yield
    finally:
        del os.environ[LOOPBACK_VARIABLE]
        if before is not None:
            os.environ[LOOPBACK_VARIABLE] = before


def _is_own_loopback(address: str) -> bool:
    """Return whether a cluster is one that `ray start` made on this machine's loopback."""
    return address.startswith("127.") and address == find_local_cluster()


def _find_forwarded(*, elsewhere: bool) -> list[str]:
    """Return the variables of FORWARDED that Ray may show; workers of this machine inherit all."""
    public = [name for name in FORWARDED if _is_public(os.environ.get(name, ""))]
    secret = [name for name in FORWARDED if name not in public]
    if elsewhere and secret:
        raise UserError(
            f"{' and '.join(secret)}: the address holds a password or a query, and Ray shows variables "
            "in its dashboard: give the address without it; the machines of a cluster have their "
            "keys and passwords (MLFLOW_TRACKING_PASSWORD...) in their own variables"
        )
    return public


def _is_public(value: str) -> bool:
    return strip_secrets(value) == value


def _make_runtime_env(*, elsewhere: bool) -> dict[str, Any]:
    """Return what workers need: variables and, unless `ray job submit` has uploaded it, the code.

    .rayignore names what is not uploaded; Ray reads it in both cases. The locked requirements are
    not included: they are in the image, or installed when a node starts (cluster/), because
    otherwise each new node would install 6 GB for each job, which takes minutes.

    Raises:
        UserError: a variable that a cluster's machines need holds a password.
    """
    environment: dict[str, Any] = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}
    variables = {COMMIT_VARIABLE: find_commit()}
    variables |= {name: os.environ.get(name) for name in _find_forwarded(elsewhere=elsewhere)}
    if not elsewhere:
        # Workers of this machine import the project from its folder: nothing is copied, and the next
        # job finds what numba has compiled.
        paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        variables["PYTHONPATH"] = os.pathsep.join(paths)
    elif not is_uploaded():
        environment["working_dir"] = str(ROOT)
    environment["env_vars"] |= {name: value for name, value in variables.items() if value}
    return environment
