"""Send the finished runs of a store to TensorBoard, MLflow or Weights & Biases."""

if not __package__:
    import _root  # noqa: F401

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from jobs.command import run
from jobs.plan.options import CorpusOptions
from terminal.console import UserError, console, progress_bar, say_next
from terminal.tables import format_count
from terminal.values import Line, NewFolder, match
from training.trackers import (
    FinishedRun,
    read_finished_run,
    send_to_mlflow,
    send_to_wandb,
    write_to_tensorboard,
)

SendRun = Callable[[FinishedRun], bool]
"""Sends a run to a tracker, and returns whether the run was new there."""


@dataclass(frozen=True, kw_only=True)
class TrackOptions(CorpusOptions):
    """Options of the command."""

    tensorboard: NewFolder | None = None
    """Folder for event files, in CORPUS/SPLIT/MEMBER below it."""
    mlflow: Line | None = None
    """Address of an MLflow server, or sqlite:///FILE; the corpus is the experiment."""
    wandb: Annotated[str, match("the name of a project", r"[^\x00-\x1f/\\#?%:]+")] | None = None
    """Project of Weights & Biases; with WANDB_MODE=offline a folder, for `wandb sync`."""


def main(options: TrackOptions) -> int:
    """Send the finished runs of a store to TensorBoard, MLflow or Weights & Biases.

    Each run is sent with its learning curve, its recipe, and its scores on the select clips. The
    next time, only new runs are sent.

    Example:
        python jobs/track.py --store runs/demo --tensorboard boards
    """
    trackers = find_trackers(options)
    store = options.open_store()
    store.read_clips(options.corpus)  # raises if the corpus is misspelt, and not empty
    n_new, n_runs, n_without_curve = Counter[str](), 0, 0
    with progress_bar() as bar:
        # One at a time: the learning curves of thousands of runs need much memory.
        for row in bar.track(store.runs(options.corpus).to_pylist(), description="runs"):
            finished = read_finished_run(store, row)
            if finished is None:
                n_without_curve += 1
                continue
            n_runs += 1
            n_new.update(name for name, send in trackers.items() if send(finished))
    for name in trackers:
        console.print(
            f"{name}: {format_count(n_new[name], 'new run')} of {options.corpus}, {n_runs - n_new[name]} there already",
            markup=False,
        )
    if n_without_curve:
        console.print(
            f"left out {format_count(n_without_curve, 'member')} without a learning curve, such as "
            "probes and imported logits"
        )
    say_next(find_viewer(options))
    return 0


def find_trackers(options: TrackOptions) -> dict[str, SendRun]:
    """Return the functions that send runs to the trackers of the options, by their names.

    Raises:
        UserError: the options name none.
    """
    trackers: dict[str, SendRun] = {}
    tensorboard, mlflow, wandb = options.tensorboard, options.mlflow, options.wandb
    if tensorboard is not None:
        trackers["TensorBoard"] = lambda each: write_to_tensorboard(tensorboard, each)
    if mlflow is not None:
        trackers["MLflow"] = lambda each: send_to_mlflow(mlflow, each)
    if wandb is not None:
        trackers["Weights & Biases"] = lambda each: send_to_wandb(wandb, each)
    if not trackers:
        raise UserError(
            "no tracker to send the runs to: name --tensorboard FOLDER, --mlflow ADDRESS or "
            "--wandb PROJECT, or several of them"
        )
    return trackers


def find_viewer(options: TrackOptions) -> list[str]:
    """Return the command that shows the first tracker of the options."""
    if options.tensorboard is not None:
        return ["tensorboard", "--logdir", str(options.tensorboard)]
    if options.mlflow is not None:
        return ["mlflow", "ui", "--backend-store-uri", options.mlflow]
    return ["wandb", "sync", "--include-offline", "--sync-all"]


if __name__ == "__main__":
    run(main, TrackOptions)
