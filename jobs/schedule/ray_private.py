"""All uses of Ray's private modules (Ray 2.60) by jobs, in one place, with the reasons.

- When Ray is imported, it reads the variable that keeps a cluster on loopback. A job knows only
  later whether it wants that, and so changes the value that was read.
- Ray takes SIGTERM away from the process, so that a job could not close what it has open.
- Ray's own walk decides which files of a working folder are uploaded. Another implementation could
  show a user other files or sizes than those of the upload.
- When processes of a cluster die that a job started, Ray waits a minute and then ends the job's process
  without a message. It keeps a list of those processes, which shows at once that they died.
- Ray Train asks whichever cluster it finds on the machine whether its run is alive. Of two clusters it
  knows none, and then never frees the cores and GPUs of a run that was killed.
- Ray waits a quarter of an hour for a head that is gone. Its channel, which is encrypted and has a
  token where the cluster wants that, shows at once whether one answers.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import ray
from ray._private import ray_constants, utils, worker
from ray._private.grpc_utils import init_grpc_channel
from ray._private.runtime_env.packaging import _dir_travel, _get_excludes
from ray.exceptions import AuthenticationError

from terminal.stopping import take_signals

LOOPBACK_VARIABLE = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
"""Environment variable: if it is 0, Ray listens on loopback only. It was made for systems whose
firewall asks about each port, and works on all."""

logger = logging.getLogger(__name__)


@contextmanager
def keep_process_on_loopback() -> Iterator[None]:
    """Have Ray listen on loopback only, in this process and in this block."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextmanager
def keep_signals() -> Iterator[None]:
    """Keep Ray from handling SIGTERM in this block, and handle it as before afterwards."""
    set_handler = utils.set_sigterm_handler
    utils.set_sigterm_handler = lambda sigterm_handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = set_handler
        # Ray's C++ code has a handler of its own, which can only be replaced.
        take_signals()


def walk_upload(root: Path, note: Callable[[Path], None]) -> None:
    """Call a function with each path below `root` that Ray would upload."""
    excludes = [_get_excludes(root, ray_constants.get_runtime_env_default_excludes())]
    _dir_travel(root, excludes, note, include_gitignore=True, logger=logger)


def has_ended() -> bool:
    """Return whether a process died without which the cluster that this process started cannot go on."""
    node = worker._global_node
    vital = {ray_constants.PROCESS_TYPE_RAYLET, ray_constants.PROCESS_TYPE_GCS_SERVER}
    return node is not None and any(kind in vital for kind, _ in node.dead_processes())


@contextmanager
def name_cluster_to_train() -> Iterator[None]:
    """Have the processes of Ray Train runs that this block starts ask the cluster that they belong to."""
    # Ray Train takes seconds to import.
    from ray.train.v2._internal import constants

    before = os.environ.get("RAY_ADDRESS")
    constants.ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    try:
        yield
    finally:
        del os.environ["RAY_ADDRESS"]
        if before is not None:
            os.environ["RAY_ADDRESS"] = before


def is_ray(address: str, *, as_head: bool, timeout_s: float) -> bool:
    """Return whether a server of Ray answers at HOST:PORT.

    Args:
        address: of the server.
        as_head: whether it is to be the head's; else any server that speaks gRPC will do, as that of
            Ray's clients (ray://) does.
        timeout_s: how long to wait for the answer.
    """
    no_answer = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    if as_head:
        no_answer.add(grpc.StatusCode.UNIMPLEMENTED)
    channel: Any = init_grpc_channel(address)
    with channel:
        try:
            # An empty request, in bytes.
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=timeout_s)
        except AuthenticationError:  # it is Ray's head, which says so again when a job connects
            return True
        except grpc.RpcError as error:
            return error.code() not in no_answer
    return True
