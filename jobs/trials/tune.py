"""Carries out trials by Ray Tune, which starts, compares and stops them; the journal keeps them."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from ray import tune
from ray.tune import Callback, TuneError
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from jobs.schedule.fanout import RETRIES
from jobs.schedule.job_log import JobLog
from jobs.schedule.ray_workers import kill_process
from jobs.schedule.silence import Silence
from jobs.schedule.spending import Spending
from jobs.schedule.task import Needs, Outcome, Task
from jobs.trials.journal import ENDED, Journal, Trial, TrialSettings
from jobs.trials.trial import RunTrial, run_trial
from logit_store import LogitStoreError
from terminal.console import console, error_console, progress_bar
from terminal.stopping import raise_if_stopped
from terminal.tables import format_count, format_duration

_HALVING_SETTINGS = {"grace_period": 1, "reduction_factor": 3}
"""Trials are judged after epochs 1, 3, 9..., and each time the best third continues (Li et al. 2018,
arXiv:1810.05934)."""
_SETTINGS = {
    # The journal keeps the metrics and the state.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # A trial that failed reports no log loss.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Of the two kinds of output, `verbose=0` silences this one.
    "RAY_AIR_NEW_OUTPUT": "0",
    # Ctrl-C ends this command like all others.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


def carry_out_trials(
    trials: Iterator[Trial],
    n_trials: int,
    settings: TrialSettings,
    journal: Journal,
    needs: Needs,
    log: JobLog,
    *,
    halving: bool,
    timeout_s: float | None = None,
    spending: Spending | None = None,
    on_end: Callable[[Trial], None] = lambda trial: None,
) -> bool:
    """Train students, as many at once as the cluster has room for, and print a line for each.

    Args:
        trials: asked for the next trial when there is room, so that it can use earlier results.
        n_trials: their largest number.
        settings: what they have in common.
        journal: notes each trial when it begins and when it ends.
        needs: needs of one trial.
        log: the job's log, in which each trial is a task.
        halving: whether trials stop that are worse than others of this run and of the journal (ASHA).
        timeout_s: a trial that has reported nothing for so long is stopped, and counts as lost.
        spending: the budget, if there is one.
        on_end: called with each trial that has ended.

    Returns:
        Whether the budget, if there is one, was enough for all.

    Raises:
        LogitStoreError: the journal cannot be written.
    """
    journal.sweep()
    scheduler = _make_halving(settings.epochs, journal) if halving else FIFOScheduler()
    with progress_bar() as bar:
        shown = bar.add_task("trials", total=n_trials)
        searcher = _TrialSearcher(trials, settings, journal, log, spending)
        silence, show = log.watch_silence(timeout_s), partial(bar.update, shown)
        keeper = _JournalKeeper(journal, log, settings, n_trials, on_end, show, spending, silence)
        _run_tune(n_trials, needs, searcher, scheduler, keeper)
    if spending is not None:
        n_left = n_trials - keeper.n_ended if searcher.was_stopped else 0
        spending.say_end([f"{n_left} of {n_trials} trials"] if n_left else [])
    return not searcher.was_stopped


def _run_tune(
    n_trials: int,
    needs: Needs,
    searcher: "_TrialSearcher",
    scheduler: TrialScheduler,
    keeper: "_JournalKeeper",
) -> None:
    os.environ.update(_SETTINGS)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="tune") as scratch:
        try:
            # Not a Tuner, which would pickle the journal and everything else to restore it later.
            tune.run(
                tune.with_resources(run_trial, {"cpu": needs.cpus, "gpu": needs.gpus}),
                num_samples=n_trials,
                search_alg=searcher,
                scheduler=scheduler,
                storage_path=scratch,
                trial_dirname_creator=_name_folder,
                max_failures=RETRIES,
                reuse_actors=True,
                raise_on_failed_trial=False,
                callbacks=[keeper],
                verbose=0,
            )
        except TuneError:
            # Tune has turned the callback's error into text.
            if keeper.store_error is not None:
                raise keeper.store_error from None
            raise


def _make_halving(epochs: int, journal: Journal) -> TrialScheduler:
    """Return asynchronous successive halving that knows the results of the journal's trials."""
    scheduler = ASHAScheduler(
        time_attr="epoch", metric="select_log_loss", mode="min", max_t=epochs, **_HALVING_SETTINGS
    )
    for trial in journal.find_trials(*ENDED):
        # The scheduler uses no other attribute of a trial.
        known = cast("Any", SimpleNamespace(trial_id=trial.id))
        scheduler.on_trial_add(cast("Any", None), known)
        for epoch, loss in enumerate(trial.losses, start=1):
            result = {"epoch": epoch, "select_log_loss": loss}
            scheduler.on_trial_result(cast("Any", None), known, result)
    return scheduler


def _name_folder(trial: tune.experiment.Trial) -> str:
    return trial.config["id"]


class _TrialSearcher(Searcher):
    """Gives Tune the trials of an iterator, one after the other, as long as the budget allows."""

    def __init__(
        self,
        trials: Iterator[Trial],
        settings: TrialSettings,
        journal: Journal,
        log: JobLog,
        spending: Spending | None,
    ) -> None:
        super().__init__()
        self._trials, self._settings, self._journal = trials, settings, journal
        self._log, self._spending = log, spending
        self.was_stopped = False
        """Whether the budget ended the search."""

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next trial, which is noted as running."""
        if self._spending is not None and not self._spending.may_start():
            self.was_stopped = True
            return Searcher.FINISHED
        trial = next(self._trials, None)
        if trial is None:
            return Searcher.FINISHED
        trial.state, trial.error = "running", None
        self._journal.add(trial)
        task = _make_task(trial, self._settings)
        if self._spending is not None:
            self._spending.start(task)
        self._log.plan([task], [False])
        return {"id": trial.id, "work": task.work, "log": self._log.find_task_log(task)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Do nothing: the callback notes it."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the journal keeps the state."""


class _JournalKeeper(Callback):
    """Notes the results of trials in the journal, and prints them."""

    def __init__(
        self,
        journal: Journal,
        log: JobLog,
        settings: TrialSettings,
        n_trials: int,
        on_end: Callable[[Trial], None],
        on_progress: Callable[..., None],
        spending: Spending | None,
        silence: Silence,
    ) -> None:
        self._journal, self._log, self._silence = journal, log, silence
        self._settings, self._n_trials = settings, n_trials
        self._on_end, self._on_progress, self._spending = on_end, on_progress, spending
        self.n_ended = 0
        self.store_error: LogitStoreError | None = None
        """The error by which the journal could not be written."""

    def on_step_begin(
        self, iteration: int, trials: list[tune.experiment.Trial], **info: Any
    ) -> None:
        """Stop silent trials; end the search if this process was told to, and Tune has swallowed it."""
        raise_if_stopped()
        running = [
            self._log.find_task_log(
                _make_task(self._journal.trials[trial.config["id"]], self._settings)
            )
            for trial in trials
            if trial.status == tune.experiment.Trial.RUNNING
        ]
        for log, silent_s in self._silence.look(running).items():
            silent = format_duration(silent_s)
            error_console.print(
                f"{log.name}: stopped after it had reported nothing for {silent} (--unit-timeout)",
                markup=False,
            )
            kill_process(self._silence.find_process(log))

    def on_trial_result(
        self,
        iteration: int,
        trials: list[tune.experiment.Trial],
        trial: tune.experiment.Trial,
        result: dict[str, Any],
        **info: Any,
    ) -> None:
        """Note an epoch, unless it was noted before."""
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
        """Note that a trial ended: after all its epochs, or stopped because others were better."""
        noted = self._journal.trials[trial.config["id"]]
        if noted.state == "running":
            noted.state = "done" if len(noted.losses) == self._settings.epochs else "stopped"
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

    def _end(self, trial: Trial, tune_trial: tune.experiment.Trial) -> None:
        try:
            self._journal.end(trial)
        except LogitStoreError as error:
            self.store_error = error
            raise
        task = _make_task(trial, self._settings)
        self._log.note_end(task, trial.error if trial.state == "failed" else None)
        if self._spending is not None:
            # The duration of a trial without a report is not known: it counts like a lost one.
            took_s = (tune_trial.last_result or {}).get("time_total_s")
            error = "lost" if took_s is None else None
            self._spending.end(Outcome(task, error=error, took_s=took_s or 0.0))
        self._on_end(trial)
        self.n_ended += 1
        self._on_progress(completed=self.n_ended)
        console.print(f"[{self.n_ended}/{self._n_trials}] {_describe_trial(trial)}", markup=False)
        if trial.state == "failed":
            error_console.print(f"failed: {trial.id}: {trial.error}", markup=False)


def _make_task(trial: Trial, settings: TrialSettings) -> Task[RunTrial]:
    return Task(f"{settings.search} trial {trial.id}", RunTrial.of(trial, settings))


def _describe_trial(trial: Trial) -> str:
    """Return a line for people."""
    if not trial.losses:
        return f"{trial.id}: {trial.state}"
    return (
        f"{trial.id}: {trial.state} after {format_count(len(trial.losses), 'epoch')}, on select: log loss "
        f"{trial.loss:.3f}, macro accuracy {100 * trial.accuracies[-1]:.1f} %"
    )
