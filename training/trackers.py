"""Finished runs of a store, with their learning curves, where other programs show them.

Each function may be asked twice for the same run: what is there already is not written again.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logit_store import LogitKey, LogitStore
from logit_store.folder import Folder
from training.member import record_object
from training.mlflow_server import (
    METRICS_PER_REQUEST,
    TrackingError,
    begin_run,
    client_at,
    find_run,
    write_parameters,
)
from training.watch import curves, event_file

WHOLE = "tutti-whole"
"""Empty file in an offline run of Weights & Biases that was written to its end."""


@dataclass(frozen=True, eq=False, slots=True)
class FinishedRun:
    """A member that learnt here, and how that went."""

    key: LogitKey
    record: Mapping[str, Any]
    """What made it: recipe, seed, commit, machine..."""
    history: Sequence[Mapping[str, float]]
    """Figures of each epoch, in their order; "epoch" counts from 1."""
    worth: Mapping[str, float]
    """Of the weights that remained: log loss and accuracy on `select`."""


def finished_run(store: LogitStore, run: Mapping[str, Any]) -> FinishedRun | None:
    """A run with its learning curve; None if it has none, as logits that were imported.

    Args:
        store: has it.
        run: its row in `store.runs()`.
    """
    if run["kind"] not in ("teacher", "student"):
        return None
    name = record_object(run["kind"], run["member"])
    if not store.has_object(name):
        return None
    record = json.loads(store.read_object(name))
    history = record.pop("history", [])
    if not history:
        return None
    figures = ("log_loss_select", "accuracy_select")
    worth = {name: run[name] for name in figures if run[name] is not None}
    return FinishedRun(LogitKey(run["corpus"], run["split"], run["member"]), record, history, worth)


def to_tensorboard(folder: Path, run: FinishedRun) -> bool:
    """Write a run's curves as an event file below a folder; whether there was none yet.

    Args:
        folder: for all runs; `tensorboard --logdir` takes it.
        run: which; its file lies in CORPUS/SPLIT/MEMBER.
    """
    files = Folder(folder.expanduser())
    key = run.key
    name = f"{key.corpus}/{key.split}/{key.member}/events.out.tfevents.000001.tutti"
    if files.has(name):
        return False
    files.put(name, event_file(run.history))
    return True


def to_mlflow(address: str, run: FinishedRun) -> bool:
    """Give a run to MLflow, in the experiment that has the corpus's name; whether it had it not yet.

    A run that it followed while it learnt is the same one: it gets the epochs that it lacks.

    Args:
        address: of a server, or `sqlite:///FILE`.
        run: which.

    Raises:
        TrackingError: no MLflow is installed, or it cannot be reached there.
    """
    with client_at(address, "leave out --mlflow") as client:
        there = find_run(client, run.key.corpus, run.key.member)
        if there is not None and there.info.status == "FINISHED":
            return False
        run_id = begin_run(client, run.key.corpus, run.key.member)
        write_parameters(client, run_id, run.record)
        _send_curves(client, run_id, run)
        client.set_terminated(run_id, "FINISHED", end_time=_ended_ms(run.history[-1]))
    return True


def to_wandb(project: str, run: FinishedRun) -> bool:
    """Give a run to Weights & Biases, under its member's name as id; whether it had it not yet.

    Offline (`WANDB_MODE=offline`) it goes into a folder of its own below `WANDB_DIR`, which
    `wandb sync` sends later.

    Args:
        project: made if there is none of that name.
        run: which.

    Raises:
        TrackingError: it is not installed, nobody is logged in, or it cannot be reached.
    """
    try:
        import wandb
    except ImportError as error:
        raise TrackingError(
            f"no figures can be given to Weights & Biases: it is not here ({error}); pip install "
            "wandb, or leave out --wandb"
        ) from error
    offline = wandb.setup().settings.mode == "offline"
    if offline and _is_whole_offline(run.key.member):
        return False
    try:
        return _write_to_wandb(wandb, project, run, offline=offline)
    except wandb.Error as error:
        raise TrackingError(
            f"no figures can be given to Weights & Biases ({error}): run `wandb login`, set "
            "WANDB_MODE=offline, or leave out --wandb"
        ) from error


def _send_curves(client: Any, run_id: str, run: FinishedRun) -> None:
    from mlflow.entities import Metric

    names = curves(run.history[0])
    known = {
        (name, point.step) for name in names for point in client.get_metric_history(run_id, name)
    }
    points = [
        Metric(name, value, _ended_ms(figures), int(figures["epoch"]))
        for figures in run.history
        for name, value in curves(figures).items()
        if (name, int(figures["epoch"])) not in known
    ]
    last = run.history[-1]
    points += [
        Metric(name, value, _ended_ms(last), int(last["epoch"]))
        for name, value in run.worth.items()
    ]
    for first in range(0, len(points), METRICS_PER_REQUEST):
        client.log_batch(run_id, metrics=points[first : first + METRICS_PER_REQUEST])


def _ended_ms(figures: Mapping[str, float]) -> int:
    return round(1000 * figures.get("ended", 0.0))


def _write_to_wandb(wandb: Any, project: str, run: FinishedRun, *, offline: bool) -> bool:
    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
    )
    with wandb.init(
        project=project,
        id=run.key.member,
        name=run.key.member,
        group=f"{run.key.corpus} {run.key.split}",
        job_type=str(run.record.get("kind")),
        config=dict(run.record),
        # Offline nobody can be asked what there is.
        resume=None if offline else "allow",
        settings=settings,
    ) as written:
        is_new = written.step == 0
        for figures in run.history:
            if figures["epoch"] >= written.step:
                written.log(curves(figures), step=int(figures["epoch"]))
        written.summary.update(dict(run.worth))
        folder = Path(written.dir).parent
    if offline:
        (folder / WHOLE).touch()
    return is_new


def _is_whole_offline(member: str) -> bool:
    """Whether an earlier call has written that run to its end."""
    folder = Path(os.environ.get("WANDB_DIR", "."), "wandb")
    return any(folder.glob(f"offline-run-*-{member}/{WHOLE}"))
