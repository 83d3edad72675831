"""Connects a job to a Ray cluster: the one that runs, or one of its own on this machine."""

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOKEN = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
OBJECT_STORE_BYTES = 256 * 1024**2
"""Of a cluster of our own: only names and figures go through it."""

# Ray reads these when it is imported. Merged log lines would hide progress. A task without GPU
# shall not warn that it still sees GPUs. Without a mode, a client does not look for its token.
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES", str(OBJECT_STORE_BYTES))
if "RAY_AUTH_TOKEN" in os.environ or TOKEN.is_file():
    os.environ.setdefault("RAY_AUTH_MODE", "token")

import psutil
import ray
import torch
from ray.exceptions import AuthenticationError

from jobs.command import UserError, is_uploaded
from training.provenance import COMMIT_VARIABLE, code_commit

ROOT = Path(__file__).resolve().parent.parent
MEMORY_SHARE = 0.4
"""Of the machine's memory, which the runs of a cluster of our own share; the rest is for Ray, the
page cache that holds the recordings, and the owner of the laptop."""
FORWARDED = ("MLFLOW_TRACKING_URI", "TUTTI_WEIGHTS", "TUTTI_CACHE")
"""Variables of the person who starts a job that its workers need as well."""
EXCLUDES = ["/.venv/", "/.git/", "/runs/", "/tests/", "/docs/", "__pycache__", "*.parquet"]


@contextmanager
def cluster() -> Iterator[None]:
    """A connection for the time of a job; a cluster that it had to start ends with it.

    Raises:
        UserError: the cluster does not answer, or refuses us.
    """
    address = os.environ.get("RAY_ADDRESS") or _running_here()
    # Ray warns of its own coming changes, at each start.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ray.init(
                address=address or "local",
                logging_level=logging.ERROR,
                runtime_env=_runtime_env(),
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


def gpus_in_cluster() -> float:
    """GPUs of all nodes that are there now."""
    return ray.cluster_resources().get("GPU", 0.0)


def memory_of_a_node() -> int:
    """Bytes that one task can reserve at most, on the largest node that is there now."""
    return int(max(node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]))


def reserved_device() -> torch.device:
    """Inside a task: the GPU that Ray reserved for it, the first that it sees; else the CPU.

    Of the GPU's memory the task can take the share that it reserved, and no more.
    """
    context = ray.get_runtime_context()
    if not context.get_accelerator_ids()["GPU"]:
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


def _runtime_env() -> dict[str, Any]:
    """What workers need: the code, once. `ray job submit --working-dir` brings it already."""
    environment: dict[str, Any] = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}
    told = {COMMIT_VARIABLE: code_commit()}
    told |= {name: os.environ.get(name) for name in FORWARDED}
    environment["env_vars"] |= {name: value for name, value in told.items() if value}
    if not is_uploaded():
        environment |= {"working_dir": str(ROOT), "excludes": EXCLUDES}
    return environment
