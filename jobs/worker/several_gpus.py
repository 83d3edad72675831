"""One run on several GPUs: the same function in each worker of a Ray Train run."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from pyarrow.fs import FileSystem

# From the modules of version 2: the package's own names are of version 1 or 2, chosen at import.
from ray.train.torch import get_device
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer

from jobs.schedule.fanout import RETRIES
from jobs.schedule.ray_private import name_cluster_to_train


def run_on_workers(
    function: Callable[[torch.device], Any], notes: str, *, n_workers: int, use_gpu: bool
) -> None:
    """Call a function on several workers, which form a process group and share its work.

    The run's checkpoints are in the store, as always: workers that Ray starts again after a loss
    continue from there. Ray Train's own notes are removed at the end.

    Args:
        function: called in each worker with its device.
        notes: folder or s3:// address for Ray Train's notes, which all nodes can reach.
        n_workers: number of workers.
        use_gpu: whether each has a GPU, or else a core.
    """
    trainer = TorchTrainer(
        _run,
        train_loop_config={"function": function},
        scaling_config=ScalingConfig(num_workers=n_workers, use_gpu=use_gpu),
        run_config=RunConfig(
            storage_path=notes, failure_config=FailureConfig(max_failures=RETRIES)
        ),
    )
    try:
        with name_cluster_to_train():
            trainer.fit()
    finally:
        filesystem, path = FileSystem.from_uri(notes)
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_dir(path)


def _run(config: dict[str, Any]) -> None:
    config["function"](get_device())
