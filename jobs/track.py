"""Give the finished runs of a store to TensorBoard, MLflow or Weights & Biases."""

if not __package__:
    import _root  # noqa: F401

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.command import CorpusOptions, UserError, console, progress_bar, run, say_next
from logit_store import LogitStore
from training.trackers import FinishedRun, finished_run, to_mlflow, to_tensorboard, to_wandb

Give = Callable[[FinishedRun], bool]
"""Gives a run somewhere; whether it was not there yet."""


@dataclass(frozen=True, kw_only=True)
class TrackOptions(CorpusOptions):
    """Options of the command."""

    tensorboard: Path | None = None
    """Folder for event files: CORPUS/SPLIT/MEMBER in it."""
    mlflow: str | None = None
    """Address of an MLflow server, or sqlite:///FILE; the corpus is the experiment."""
    wandb: str | None = None
    """Project of Weights & Biases; with WANDB_MODE=offline into a folder, for `wandb sync`."""


def main(options: TrackOptions) -> int:
    """Give the finished runs of a store to TensorBoard, MLflow or Weights & Biases.

    Each goes with its learning curve, its recipe, and what it is worth on the select clips. Asked
    again, only what is new goes there.

    Example:
        python jobs/track.py --store runs/demo --tensorboard boards
    """
    places = places_of(options)
    store = options.open_store()
    runs, untold = finished(store, options.corpus)
    for place, give in places.items():
        with progress_bar() as bar:
            n_new = sum(give(each) for each in bar.track(runs, description=place))
        console.print(
            f"{place}: {n_new} new runs of {options.corpus}, {len(runs) - n_new} were there",
            markup=False,
        )
    if untold:
        console.print(f"{untold} members have no learning curve (imported logits): left out")
    say_next(next_step(options))
    return 0


def places_of(options: TrackOptions) -> dict[str, Give]:
    """What gives a run to each of the places that were asked for, by what people call it.

    Raises:
        UserError: none was.
    """
    places: dict[str, Give] = {}
    tensorboard, mlflow, wandb = options.tensorboard, options.mlflow, options.wandb
    if tensorboard is not None:
        places["TensorBoard"] = lambda each: to_tensorboard(tensorboard, each)
    if mlflow is not None:
        places["MLflow"] = lambda each: to_mlflow(mlflow, each)
    if wandb is not None:
        places["Weights & Biases"] = lambda each: to_wandb(wandb, each)
    if not places:
        raise UserError(
            "nowhere to give the runs to: name --tensorboard FOLDER, --mlflow ADDRESS or "
            "--wandb PROJECT, or several of them"
        )
    return places


def finished(store: LogitStore, corpus: str) -> tuple[list[FinishedRun], int]:
    """The runs of a corpus that have a learning curve, and how many members have none."""
    store.clips(corpus)  # a corpus that is misspelt is no empty one
    rows = store.runs(corpus).to_pylist()
    found = [each for row in rows if (each := finished_run(store, row)) is not None]
    return found, len(rows) - len(found)


def next_step(options: TrackOptions) -> list[str]:
    """What shows the first of the places that were asked for."""
    if options.tensorboard is not None:
        return ["tensorboard", "--logdir", str(options.tensorboard)]
    if options.mlflow is not None:
        return ["mlflow", "ui", "--backend-store-uri", options.mlflow]
    return ["wandb", "sync", "--include-offline", "--sync-all"]


if __name__ == "__main__":
    run(main, TrackOptions)
