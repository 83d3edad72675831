"""Carries out trials by Ray Tune, which starts, compares and stops them; the journal remembers."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

from ray import tune
from ray.tune import Callback, TuneError
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from jobs.command import console, errors, progress_bar
from jobs.costs import Spending
from jobs.fanout import RETRIES, Needs, Outcome, Task
from jobs.job_log import JobLog
from jobs.journal import ENDED, Journal, Lesson, Trial
from jobs.trial import attempt
from logit_store import LogitStoreError

_HALVING = {"grace_period": 1, "reduction_factor": 3}
"""Judged after epochs 1, 3, 9...: each time the best third goes on (Li et al. 2018,
arXiv:1810.05934)."""
_SETTINGS = {
    # The journal keeps the figures, and the state.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # A trial that failed has no log loss to report.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Of two kinds of output, the one that `verbose=0` silences.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ctrl-C ends this command as it ends all others.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


def carry_out_trials(
    trials: Iterator[Trial],
    n_trials: int,
    lesson: Lesson,
    journal: Journal,
    needs: Needs,
    log: JobLog,
    *,
    halving: bool,
    spending: Spending | None = None,
    on_end: Callable[[Trial], None] = lambda trial: None,
) -> bool:
    """Teach students, as many at once as the connected cluster has room for; a line for each.

    Whether the budget, if there is one, was enough for all.

    Args:
        trials: asked for the next one when there is room, so that it can know of those that ended.
        n_trials: how many there are at most.
        lesson: what they have in common.
        journal: takes down each trial when it begins and when it ends.
        needs: of one trial.
        log: of the job, in which each trial is a unit.
        halving: whether trials stop that fall behind the others and those of the journal (ASHA).
        spending: the budget, if there is one.
        on_end: called with each trial that has ended.

    Raises:
        LogitStoreError: the journal cannot be written.
    """
    os.environ.update(_SETTINGS)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    journal.sweep()
    scheduler = _halving(lesson.epochs, journal) if halving else FIFOScheduler()
    trainable = tune.with_resources(
        tune.with_parameters(attempt, lesson=lesson), {"cpu": needs.cpus, "gpu": needs.gpus}
    )
    with progress_bar() as bar, tempfile.TemporaryDirectory(prefix="tune") as scratch:
        shown = bar.add_task("trials", total=n_trials)
        following = _Following(trials, journal, log, spending)
        scribe = _Scribe(
            journal,
            log,
            lesson.epochs,
            n_trials,
            on_end,
            lambda done: bar.update(shown, completed=done),
            spending,
        )
        try:
            # Not a Tuner, which would pickle the journal and all the rest, to restore it later.
            tune.run(
                trainable,
                num_samples=n_trials,
                search_alg=following,
                scheduler=scheduler,
                storage_path=scratch,
                trial_dirname_creator=_folder_name,
                max_failures=RETRIES,
                reuse_actors=True,
                raise_on_failed_trial=False,
                callbacks=[scribe],
                verbose=0,
            )
        except TuneError:
            # It has become text in there.
            if scribe.trouble is not None:
                raise scribe.trouble from None
            raise
    if spending is not None:
        n_left = n_trials - scribe.n_ended if following.was_stopped else 0
        spending.say_end([f"{n_left} of {n_trials} trials"] if n_left else [])
    return not following.was_stopped


def _halving(epochs: int, journal: Journal) -> TrialScheduler:
    """Asynchronous successive halving that knows what the journal's trials came to."""
    scheduler = ASHAScheduler(
        time_attr="epoch", metric="select_log_loss", mode="min", max_t=epochs, **_HALVING
    )
    for trial in journal.in_state(*ENDED):
        # All that it asks of a trial.
        known = cast("Any", SimpleNamespace(trial_id=trial.id))
        scheduler.on_trial_add(cast("Any", None), known)
        for epoch, loss in enumerate(trial.losses, start=1):
            result = {"epoch": epoch, "select_log_loss": loss}
            scheduler.on_trial_result(cast("Any", None), known, result)
    return scheduler


def _folder_name(trial: tune.experiment.Trial) -> str:
    return trial.config["id"]


class _Following(Searcher):
    """Gives Tune the trials of an iterator, one after the other, as far as the budget goes."""

    def __init__(
        self, trials: Iterator[Trial], journal: Journal, log: JobLog, spending: Spending | None
    ) -> None:
        super().__init__()
        self._trials, self._journal, self._log, self._spending = trials, journal, log, spending
        self.was_stopped = False
        """Whether the budget ended it."""

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration, taken down as running."""
        if self._spending is not None and not self._spending.allows():
            self.was_stopped = True
            return Searcher.FINISHED
        trial = next(self._trials, None)
        if trial is None:
            return Searcher.FINISHED
        trial.state, trial.error = "running", None
        self._journal.add(trial)
        task = _as_task(trial, self._journal)
        if self._spending is not None:
            self._spending.start(task)
        self._log.plan([task], [False])
        return {
            "unit": self._log.unit(task),
            "id": trial.id,
            "point": trial.point,
            "taught_by": trial.taught_by,
            "seed": trial.seed,
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing to do: the scribe tells."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to do: the journal is what is kept."""


class _Scribe(Callback):
    """Takes down what becomes of trials, and says it."""

    def __init__(
        self,
        journal: Journal,
        log: JobLog,
        epochs: int,
        n_trials: int,
        on_end: Callable[[Trial], None],
        on_progress: Callable[[int], None],
        spending: Spending | None,
    ) -> None:
        self._journal, self._log = journal, log
        self._epochs, self._n_trials = epochs, n_trials
        self._on_end, self._on_progress, self._spending = on_end, on_progress, spending
        self.n_ended = 0
        self.trouble: LogitStoreError | None = None
        """Why the journal could not be written."""

    def on_trial_result(
        self,
        iteration: int,
        trials: list[tune.experiment.Trial],
        trial: tune.experiment.Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Note an epoch, unless it was told before."""
        noted = self._journal.trials[trial.config["id"]]
        if "error" in result:
            noted.state, noted.error = result["state"], result["error"]
        elif result["epoch"] == len(noted.losses) + 1:
            noted.losses.append(result["select_log_loss"])
            noted.accuracies.append(result["select_accuracy"])

    def on_trial_complete(
        self,
        iteration: int,
        trials: list[tune.experiment.Trial],
        trial: tune.experiment.Trial,
        **info: Any,
    ) -> None:
        """Note how a trial ended: by itself, or stopped because it fell behind."""
        noted = self._journal.trials[trial.config["id"]]
        if noted.state == "running":
            noted.state = "done" if len(noted.losses) == self._epochs else "stopped"
        self._end(noted, trial)

    def on_trial_error(
        self,
        iteration: int,
        trials: list[tune.experiment.Trial],
        trial: tune.experiment.Trial,
        **info: Any,
    ) -> None:
        """Note that a trial's worker was lost too often."""
        noted = self._journal.trials[trial.config["id"]]
        noted.state, noted.error = "failed", f"its worker was lost {RETRIES + 1} times"
        self._end(noted, trial)

    def _end(self, trial: Trial, tunes: tune.experiment.Trial) -> None:
        try:
            self._journal.end(trial)
        except LogitStoreError as error:
            self.trouble = error
            raise
        task = _as_task(trial, self._journal)
        self._log.ended(task, trial.error if trial.state == "failed" else None)
        if self._spending is not None:
            # What was never told took nobody knows how long: as any other.
            took_s = (tunes.last_result or {}).get("time_total_s")
            error = "lost" if took_s is None else None
            self._spending.end(Outcome(task, error=error, took_s=took_s or 0.0))
        self._on_end(trial)
        self.n_ended += 1
        self._on_progress(self.n_ended)
        console.print(f"[{self.n_ended}/{self._n_trials}] {_said(trial)}", markup=False)
        if trial.state == "failed":
            errors.print(f"failed: {trial.id}: {trial.error}", markup=False)


def _as_task(trial: Trial, journal: Journal) -> Task:
    """What a budget counts, and a log names."""
    return Task(f"{journal.name} trial {trial.id}", attempt, {})


def _said(trial: Trial) -> str:
    """A line for people."""
    if not trial.losses:
        return f"{trial.id}: {trial.state}"
    return (
        f"{trial.id}: {trial.state} after {len(trial.losses)} epochs, on select: log loss "
        f"{trial.loss:.3f}, macro accuracy {100 * trial.accuracies[-1]:.1f} %"
    )
