"""The journal of a search: one document of the store with the state and result of each trial.

Only the driver writes it. A search needs nothing else to continue: what Ray knows may be lost at any
time.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from jobs.worker.where import Where
from logit_store import LogitStore, fingerprint
from students.search_space import SearchSpace
from terminal.console import UserError

TrialState = Literal["running", "done", "stopped", "diverged", "failed", "over_budget"]
ENDED: tuple[TrialState, ...] = ("done", "stopped", "diverged")
"""States of trials that were trained, and need not be trained again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSettings:
    """What all trials of a search have in common."""

    where: Where
    search: str
    """Name of the search."""
    space: SearchSpace
    split: int
    epochs: int
    """Epochs of each trial, unless it is stopped."""
    responses: Path | None
    """Folder of impulse responses; None is the synthetic set."""
    cpus: int


@dataclass(kw_only=True, slots=True)
class Trial:
    """One student, trained for a limited number of epochs."""

    point: dict[str, int | float]
    taught_by: str | None
    seed: int
    macs: int
    parameter_bytes: int
    ram: int | None = None
    """Bytes of RAM on a device in int8; None if the search has no limit of it."""
    state: TrialState = "running"
    losses: list[float] = field(default_factory=list)
    """Log loss on `select` after each epoch, in nats."""
    accuracies: list[float] = field(default_factory=list)
    """Macro accuracy on `select` after each epoch, 0...1."""
    error: str | None = None

    @property
    def id(self) -> str:
        """Equal for trials of a search with the same point, teacher and seed."""
        return fingerprint({"point": self.point, "taught_by": self.taught_by, "seed": self.seed})

    @property
    def is_judged(self) -> bool:
        """Whether its last log loss is a result of its point."""
        return self.state in ("done", "stopped")

    @property
    def loss(self) -> float:
        """Log loss after its last epoch; infinite before the first."""
        return self.losses[-1] if self.losses else math.inf

    @property
    def order(self) -> tuple[bool, int, float]:
        """A key that sorts the best first; trials of more epochs come before shorter ones."""
        return not self.is_judged, -len(self.losses), self.loss


class Journal:
    """The trials of a search, and the document of the store that keeps them.

    Args:
        store: the store that keeps it.
        name: name of the search.
        search: everything that decides the results of its trials, as JSON.

    Raises:
        UserError: the store has another search of that name.
    """

    def __init__(self, store: LogitStore, name: str, search: Mapping[str, Any]) -> None:
        self._store, self.name = store, name
        self._search: dict[str, Any] = json.loads(json.dumps(search))
        self.trials: dict[str, Trial] = {}
        if self.document in store.objects:
            self._load(store.objects.read_json(self.document))

    @property
    def document(self) -> str:
        """The object that holds the journal."""
        return f"search/v1/{self.name}/result.json"

    def find_checkpoint(self, trial: Trial) -> str:
        """Return the object that holds a trial's checkpoint while it runs."""
        return find_checkpoint_object(self.name, trial.id)

    def find_trials(self, *states: TrialState) -> list[Trial]:
        """Return the trials in these states."""
        return [trial for trial in self.trials.values() if trial.state in states]

    def rank(self) -> list[Trial]:
        """Return all trials, the best first."""
        return sorted(self.trials.values(), key=lambda trial: trial.order)

    def note(self, trial: Trial) -> None:
        """Note a trial, which is written with the next write."""
        self.trials[trial.id] = trial

    def add(self, *trials: Trial) -> None:
        """Note trials, and write all in their present state."""
        for trial in trials:
            self.note(trial)
        self._save()

    def end(self, trial: Trial) -> None:
        """Write that a trial has ended, and remove its checkpoint."""
        self._save()
        self._store.objects.delete(self.find_checkpoint(trial))

    def sweep(self) -> None:
        """Remove the checkpoints that a killed driver left, except those of trials that continue."""
        continuing = {self.find_checkpoint(trial) for trial in self.find_trials("running")}
        for entry in self._store.files.find(find_checkpoint_object(self.name, "*")):
            if entry.name not in continuing:
                self._store.objects.delete(entry.name)

    def _save(self) -> None:
        trials = [
            {
                "id": trial.id,
                "epochs": len(trial.losses),
                "select_log_loss": trial.losses[-1] if trial.losses else None,
                "select_accuracy": trial.accuracies[-1] if trial.accuracies else None,
                **asdict(trial),
            }
            for trial in self.rank()
        ]
        self._store.objects.write_json(self.document, {"search": self._search, "trials": trials})

    def _load(self, document: dict[str, Any]) -> None:
        stored = document["search"]
        for option in sorted({*stored, *self._search}):
            if stored.get(option) != self._search.get(option):
                raise UserError(
                    f"search {self.name} is in the store with {option} {stored.get(option)}, and "
                    f"{self._search.get(option)} was asked for: give another --name, or none"
                )
        fields = Trial.__dataclass_fields__
        trials = [
            Trial(**{k: v for k, v in each.items() if k in fields}) for each in document["trials"]
        ]
        self.trials = {trial.id: trial for trial in trials}


def find_checkpoint_object(search: str, trial: str) -> str:
    """Return the object that holds the checkpoint of a trial, by its id."""
    return f"search/v1/{search}/checkpoints/{trial}.pt"


def describe_point(point: Mapping[str, int | float]) -> str:
    """Describe a point by the last part of each name, and three digits of each value."""
    return ", ".join(f"{name.rpartition('.')[2]} {value:.3g}" for name, value in point.items())
