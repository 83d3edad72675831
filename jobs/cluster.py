"""Connects a job to a Ray cluster: the one that runs, or one of its own on this machine."""

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
from ray._private import ray_constants
from ray.exceptions import AuthenticationError

from jobs import TOKEN
from jobs.autoscaling import node_types
from jobs.command import UserError, console, is_uploaded
from jobs.uploads import upload_of
from training.provenance import COMMIT_VARIABLE, code_commit

ROOT = Path(__file__).resolve().parent.parent
MEMORY_SHARE = 0.4
"""Of the machine's memory, which the runs of a cluster of our own share; the rest is for Ray, the
page cache that holds the recordings, and the owner of the laptop."""
ON_LOOPBACK = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
"""Variable by which, if it is 0, Ray listens on loopback only: made for systems whose firewall would
ask about each port, and obeyed on all."""
PRETENDED_GPUS = "TUTTI_PRETENDED_GPUS"
"""Set where nodes only pretend to have GPUs, as those of cluster/simulated.py."""
FORWARDED = (
    "MLFLOW_TRACKING_URI",
    "TUTTI_WEIGHTS",
    "TUTTI_CACHE",
    "TUTTI_CACHE_GB",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)
"""Variables of the person who starts a job that its workers need as well. Keys are not among them:
Ray shows these in its dashboard; machines of a cluster have keys of their own."""


@contextmanager
def cluster() -> Iterator[None]:
    """A connection for the time of a job; a cluster that it had to start ends with it.

    Raises:
        UserError: the cluster does not answer, or refuses us, or what it is to be sent is too much.
    """
    address = running_address()
    if address is not None:
        how = (
            "this job runs in an uploaded copy of it"
            if is_uploaded()
            else "uploaded to the cluster"
        )
        console.print(f"working folder, {upload_of(ROOT)}: {how}", markup=False)
    if console.no_color or not console.is_terminal:
        # Else Ray paints the names before what workers say, also in a pipe.
        os.environ["RAY_COLOR_PREFIX"] = "0"
    waiting = "connecting to the Ray cluster" if address else "starting Ray on this machine"
    # Ray warns of its own coming changes, at each start.
    with (
        console.status(waiting),
        warnings.catch_warnings(),
        _loopback(only=_is_on_loopback(address)),
    ):
        warnings.simplefilter("ignore")
        try:
            ray.init(
                address=address or "local",
                logging_level=logging.ERROR,
                runtime_env=_runtime_env(elsewhere=address is not None),
                _memory=None if address else int(MEMORY_SHARE * psutil.virtual_memory().total),
            )
        except (ConnectionError, AuthenticationError) as error:
            raise UserError(
                f"no Ray cluster answers at {address}: {error}\nIs it running? Is RAY_AUTH_MODE "
                "here what it was at `ray start` (token or disabled), and the token in "
                f"{TOKEN} the cluster's?"
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _loopback(*, only: bool) -> Iterator[None]:
    """Let what Ray starts meanwhile, and this process, listen on loopback only, if asked to."""
    if not only:
        yield
        return
    before = os.environ.get(ON_LOOPBACK), ray_constants.ENABLE_RAY_CLUSTER
    # Ray has read the variable in this process; those that it starts have not.
    os.environ[ON_LOOPBACK], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        del os.environ[ON_LOOPBACK]
        if before[0] is not None:
            os.environ[ON_LOOPBACK] = before[0]
        ray_constants.ENABLE_RAY_CLUSTER = before[1]


def running_address() -> str | None:
    """Of the cluster that a job would use; None: it would start one of its own on this machine."""
    return os.environ.get("RAY_ADDRESS") or _running_here()


def gpus_in_cluster() -> float:
    """GPUs of all nodes that are there now, or that the autoscaler may let there be."""
    to_come = sum(each.n_most * each.resources.get("GPU", 0.0) for each in node_types())
    return max(ray.cluster_resources().get("GPU", 0.0), to_come)


def memory_of_a_node() -> int:
    """Bytes that one task can reserve at most, on the largest node that is there or may come.

    0 if that is not known: of a cluster whose nodes are all still to come.
    """
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    to_come = [each.resources for each in node_types() if each.n_most]
    # A head that takes no tasks has memory, but not for them.
    with_cpus = [each for each in [*there, *to_come] if each.get("CPU")]
    return int(max((each.get("memory", 0) for each in with_cpus), default=0))


def reserved_device() -> torch.device:
    """Inside a task: the GPU that Ray reserved for it, the first that it sees; else the CPU.

    Of the GPU's memory the task can take the share that it reserved, and no more.
    """
    context = ray.get_runtime_context()
    if PRETENDED_GPUS in os.environ or not context.get_accelerator_ids()["GPU"]:
        return torch.device("cpu")
    # What a task reserved is all that it gets: a neighbour on the same GPU is never in want.
    share = context.get_assigned_resources().get("GPU", 1.0)
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))
    return torch.device("cuda")


def _running_here() -> str | None:
    """Address of the cluster that `ray start` made on this machine, if it still answers.

    Ray keeps the address in a file. A cluster that was killed leaves it behind, and connecting to
    it would take minutes to fail.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        address = (Path(folder) / "ray" / "ray_current_cluster").read_text().strip()
        host, port = address.rsplit(":", 1)
        socket.create_connection((host, int(port)), timeout=2).close()
    except (OSError, ValueError):
        return None
    return address


def _is_on_loopback(address: str | None) -> bool:
    """Whether a cluster is, or is to be, one of our own or one that `ray start` made for loopback."""
    return address is None or (address.startswith("127.") and address == _running_here())


def _runtime_env(*, elsewhere: bool) -> dict[str, Any]:
    """What workers need: the code, once. `ray job submit --working-dir` brings it already.

    What is not uploaded stands in .rayignore, which Ray reads in either case. The locked
    requirements are not in here: they are in the image, or installed when a node starts (cluster/),
    since to install 6 GB a job would make each new node wait for minutes.
    """
    environment: dict[str, Any] = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}
    told = {COMMIT_VARIABLE: code_commit()}
    told |= {name: os.environ.get(name) for name in FORWARDED}
    if not elsewhere:
        # Workers of this machine import the project where it is: nothing to copy, and what numba
        # has compiled is found again the next time.
        told["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        )
    elif not is_uploaded():
        environment["working_dir"] = str(ROOT)
    environment["env_vars"] |= {name: value for name, value in told.items() if value}
    return environment
