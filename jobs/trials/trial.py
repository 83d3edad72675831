"""Runs a trial in a worker of Ray Tune."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from ray import tune

from jobs.log.task_log import TaskLog, keep_log, log_line
from jobs.schedule.workers import give_memory_back
from jobs.trials.journal import (
    Trial,
    TrialSettings,
    describe_point,
    find_checkpoint_object,
)
from jobs.worker.device import find_reserved_device
from jobs.worker.teacher_logits import read_teacher_logits
from jobs.worker.train import log_epoch
from students import check_views
from students.distill import prepare_run
from students.out_of_fold import trust_labels
from students.search_space import shorten
from training import EpochMetrics, fit
from training.checkpoint import Checkpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTrial:
    """Trains the student of one point, and reports its scores to Tune after each epoch."""

    settings: TrialSettings
    id: str
    point: dict[str, int | float]
    taught_by: str | None
    seed: int

    @classmethod
    def of(cls, trial: Trial, settings: TrialSettings) -> "RunTrial":
        """Return the work of a trial of the journal."""
        return cls(
            settings=settings,
            id=trial.id,
            point=trial.point,
            taught_by=trial.taught_by,
            seed=trial.seed,
        )

    def run(self) -> None:
        """Train, from the checkpoint if there is one; its earlier epochs are reported again."""
        settings = self.settings
        store, corpus = settings.where.open()
        recipe = shorten(settings.space.make_recipe(self.point), settings.epochs)
        point = describe_point(self.point) or recipe.name
        log_line(f"{point}, taught by {self.taught_by or 'labels'}")
        soft = None
        if recipe.distillation is not None and self.taught_by is not None:
            n_views = recipe.distillation.n_views
            soft = read_teacher_logits(store, corpus.name, settings.split, self.taught_by, n_views)
            check_views(recipe, soft.members, store, settings.responses)
            recipe = trust_labels(recipe, [store.read_record(key) for key in soft.members])
        run, _ = prepare_run(
            recipe,
            corpus,
            settings.split,
            self.seed,
            soft,
            responses=settings.responses,
            device=find_reserved_device(),
        )
        checkpoint = Checkpoint(store, find_checkpoint_object(settings.search, self.id))
        for metrics in checkpoint.read_history():
            _report(metrics)
        fit(run, checkpoint, _report_new)


def run_trial(config: dict[str, Any]) -> None:
    """Run a trial by its configuration for Tune: `work`, a `RunTrial`, and `log`, a `TaskLog`.

    An error of the trial is reported and not raised, because Tune would repeat the trial. Tune shall
    repeat it only if its worker is lost.
    """
    work: RunTrial = config["work"]
    log: TaskLog = config["log"]
    torch.set_num_threads(work.settings.cpus)
    try:
        with keep_log(log):
            work.run()
    except FloatingPointError as error:
        tune.report({"state": "diverged", "error": str(error)})
    except Exception as error:  # noqa: BLE001 - the other trials continue after any error
        tune.report({"state": "failed", "error": f"{type(error).__name__}: {error}"})
    finally:
        give_memory_back()


def _report_new(metrics: EpochMetrics) -> None:
    log_epoch(metrics)
    _report(metrics.to_dict())


def _report(metrics: Mapping[str, float]) -> None:
    loss = metrics["select_log_loss"]
    if not math.isfinite(loss):
        raise FloatingPointError(f"the log loss on select after epoch {metrics['epoch']} is {loss}")
    tune.report({name: metrics[name] for name in ("epoch", "select_log_loss", "select_accuracy")})
