"""All uses of Ray's private modules (Ray 2.60) by jobs, in one place, with the reasons.

- When Ray is imported, it reads the variable that keeps a cluster on loopback. A job knows only
  later whether it wants that, and so changes the value that was read.
- Ray's own walk decides which files of a working folder are uploaded. Another implementation could
  show a user other files or sizes than those of the upload.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._private import ray_constants
from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

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


def walk_upload(root: Path, note: Callable[[Path], None]) -> None:
    """Call a function with each path below `root` that Ray would upload."""
    excludes = [_get_excludes(root, ray_constants.get_runtime_env_default_excludes())]
    _dir_travel(root, excludes, note, include_gitignore=True, logger=logger)
