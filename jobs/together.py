"""One teacher on several GPUs: the same function in each worker of a Ray Train run."""

import contextlib
from typing import Any

from pyarrow.fs import FileSystem

# Its own modules: the package's names are those of two versions, chosen at import.
from ray.train.torch import get_device
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer

from jobs import units
from jobs.fanout import RETRIES


def teach_together(
    arguments: tuple[Any, ...], notes: str, *, n_workers: int, use_gpu: bool
) -> None:
    """Let several workers teach one teacher.

    The run's checkpoints are in the store, as always: workers that Ray starts again after a loss
    go on from there. Ray Train keeps its own notes only as long as it runs.

    Args:
        arguments: of `units.teach_on`, but for the device.
        notes: folder or s3:// address for these, where all nodes find it.
        n_workers: how many.
        use_gpu: a GPU for each; else a core for each.
    """
    trainer = TorchTrainer(
        _teach,
        train_loop_config={"arguments": arguments},
        scaling_config=ScalingConfig(num_workers=n_workers, use_gpu=use_gpu),
        run_config=RunConfig(
            storage_path=notes, failure_config=FailureConfig(max_failures=RETRIES)
        ),
    )
    try:
        trainer.fit()
    finally:
        filesystem, path = FileSystem.from_uri(notes)
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_dir(path)


def _teach(config: dict[str, Any]) -> None:
    units.teach_on(get_device(), *config["arguments"])
