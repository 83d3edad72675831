"""Finished runs of a store, sent to other programs that show their learning curves.

Each function may be called twice for the same run: what is there already is not written again.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logit_store import LogitKey, LogitStore
from logit_store.folder import Folder
from redact import redact_secrets
from training.errors import TrackingError
from training.keys import locate_record
from training.mlflow_server import (
    METRICS_PER_REQUEST,
    begin_run,
    find_run,
    flatten_parameters,
    open_client,
    write_parameters,
)
from training.watch import encode_events, select_curves

WHOLE = "tutti-whole"
"""Name of an empty file that marks a complete offline run of Weights & Biases."""


@dataclass(frozen=True, eq=False, slots=True)
class FinishedRun:
    """A member that was trained here, and how its training went."""

    key: LogitKey
    record: Mapping[str, Any]
    """What it was made with: recipe, seed, commit, machine..."""
    history: Sequence[Mapping[str, float]]
    """Metrics of each epoch, in order; "epoch" counts from 1."""
    scores: Mapping[str, float]
    """Log loss and accuracy on `select` of the weights that were kept."""


def read_finished_run(store: LogitStore, run: Mapping[str, Any]) -> FinishedRun | None:
    """Return a run with its learning curve; None if it has none, such as imported logits.

    Args:
        store: holds it.
        run: its row in `store.runs()`.

    Raises:
        DamagedFile: its record is not what was written.
    """
    if run["kind"] not in ("teacher", "student"):
        return None
    name = locate_record(run["kind"], run["member"])
    if name not in store.objects:
        return None
    # Records of earlier versions may hold the signature of the address of weights.
    record = json.loads(redact_secrets(json.dumps(store.objects.read_json(name))))
    history = record.pop("history", [])
    if not history:
        return None
    names = ("log_loss_select", "accuracy_select")
    scores = {name: run[name] for name in names if run[name] is not None}
    return FinishedRun(
        LogitKey(run["corpus"], run["split"], run["member"]), record, history, scores
    )


def write_to_tensorboard(folder: Path, run: FinishedRun) -> bool:
    """Write a run as an event file below a folder; return whether there was none yet.

    It has the curves, the scores as scalars at the last epoch, the recipe and the rest of the record
    as hyperparameters, and the record as a text.

    Args:
        folder: for all runs; `tensorboard --logdir` takes it.
        run: its file goes into CORPUS/SPLIT/MEMBER.
    """
    files = Folder(folder.expanduser())
    key = run.key
    name = f"{key.corpus}/{key.split}/{key.member}/events.out.tfevents.000001.tutti"
    if files.has(name):
        return False
    files.put(name, encode_events(run.history, _summarize(run)))
    return True


def send_to_mlflow(address: str, run: FinishedRun) -> bool:
    """Send a run to the MLflow experiment with the corpus's name; return whether it was new.

    A run that MLflow has followed during training is the same one: it gets the missing epochs.

    Args:
        address: of a server, or `sqlite:///FILE`.
        run: what to send.

    Raises:
        TrackingError: MLflow is not installed, or cannot be reached there.
    """
    with open_client(address, "leave out --mlflow") as client:
        existing = find_run(client, run.key.corpus, run.key.member)
        if existing is not None and existing.info.status == "FINISHED":
            return False
        run_id = begin_run(client, run.key.corpus, run.key.member)
        write_parameters(client, run_id, run.record)
        _send_curves(client, run_id, run)
        client.set_terminated(run_id, "FINISHED", end_time=_find_end_ms(run.history[-1]))
    return True


def send_to_wandb(project: str, run: FinishedRun) -> bool:
    """Send a run to Weights & Biases, with its member's name as id; return whether it was new.

    Offline (`WANDB_MODE=offline`) it is written to its own folder below `WANDB_DIR`, which
    `wandb sync` sends later.

    Args:
        project: created if there is none of that name.
        run: what to send.

    Raises:
        TrackingError: it is not installed, nobody is logged in, or it cannot be reached.
    """
    try:
        import wandb
    except ImportError as error:
        raise TrackingError(
            f"no metrics can be sent to Weights & Biases: it is not installed ({error}); pip install "
            "wandb, or leave out --wandb"
        ) from error
    offline = wandb.setup().settings.mode == "offline"
    if offline and _is_complete_offline(run.key.member):
        return False
    try:
        return _write_to_wandb(wandb, project, run, offline=offline)
    except wandb.Error as error:
        raise TrackingError(
            f"no metrics can be sent to Weights & Biases ({error}): run `wandb login`, set "
            "WANDB_MODE=offline, or leave out --wandb"
        ) from error


def _summarize(run: FinishedRun) -> list[Any]:
    """Return TensorBoard's summaries of a run's record and scores."""
    # Imports torch, which only a run that TensorBoard lacks needs.
    from torch.utils.tensorboard.summary import hparams, scalar, text

    settings = {
        name: value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
        for name, value in flatten_parameters(run.record).items()
    }
    # The first part lists the settings of one run: without it, TensorBoard compares those of all.
    _, start, end = hparams(settings, {})
    record = f"```json\n{json.dumps(run.record, indent=1)}\n```"
    scores = [scalar(name, value) for name, value in run.scores.items()]
    return [start, text("record", record), *scores, end]


def _send_curves(client: Any, run_id: str, run: FinishedRun) -> None:
    from mlflow.entities import Metric

    names = select_curves(run.history[0])
    known = {
        (name, point.step) for name in names for point in client.get_metric_history(run_id, name)
    }
    points = [
        Metric(name, value, _find_end_ms(metrics), int(metrics["epoch"]))
        for metrics in run.history
        for name, value in select_curves(metrics).items()
        if (name, int(metrics["epoch"])) not in known
    ]
    last = run.history[-1]
    points += [
        Metric(name, value, _find_end_ms(last), int(last["epoch"]))
        for name, value in run.scores.items()
    ]
    for first in range(0, len(points), METRICS_PER_REQUEST):
        client.log_batch(run_id, metrics=points[first : first + METRICS_PER_REQUEST])


def _find_end_ms(metrics: Mapping[str, float]) -> int:
    return round(1000 * metrics.get("ended", 0.0))


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
        # Offline there is no server to ask for existing runs.
        resume=None if offline else "allow",
        settings=settings,
    ) as wandb_run:
        is_new = wandb_run.step == 0
        for metrics in run.history:
            if metrics["epoch"] >= wandb_run.step:
                wandb_run.log(select_curves(metrics), step=int(metrics["epoch"]))
        wandb_run.summary.update(dict(run.scores))
        folder = Path(wandb_run.dir).parent
    if offline:
        (folder / WHOLE).touch()
    return is_new


def _is_complete_offline(member: str) -> bool:
    """Return whether an earlier call has written this run completely."""
    folder = Path(os.environ.get("WANDB_DIR", "."), "wandb")
    return any(folder.glob(f"offline-run-*-{member}/{WHOLE}"))
