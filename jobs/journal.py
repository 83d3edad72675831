"""What became of each trial of a search: one document of the store, written by the driver alone.

It is all that a search needs to go on: what Ray knows of it may be lost at any time.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from jobs.command import UserError, Where
from logit_store import LogitStore, fingerprint
from students.search_space import Space

State = Literal["running", "done", "stopped", "diverged", "failed", "over_budget"]
ENDED: tuple[State, ...] = ("done", "stopped", "diverged")
"""Of trials that were taught, and need not be taught again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """What all trials of a search have in common."""

    where: Where
    search: str
    """Its name."""
    space: Space
    split: int
    epochs: int
    """Of each trial, unless it is stopped."""
    responses: Path | None
    """Folder of impulse responses; None for the synthetic set."""
    cpus: int


@dataclass(kw_only=True, slots=True)
class Trial:
    """One student, taught for a while."""

    point: dict[str, int | float]
    taught_by: str | None
    seed: int
    macs: int
    parameter_bytes: int
    state: State = "running"
    losses: list[float] = field(default_factory=list)
    """On `select` after each epoch, in nats."""
    accuracies: list[float] = field(default_factory=list)
    """Macro accuracy on `select` after each epoch, 0...1."""
    error: str | None = None

    @property
    def id(self) -> str:
        """Equal for trials that teach the same in the same search."""
        return fingerprint({"point": self.point, "taught_by": self.taught_by, "seed": self.seed})

    @property
    def is_judged(self) -> bool:
        """Whether its last log loss says what its point is worth."""
        return self.state in ("done", "stopped")

    @property
    def loss(self) -> float:
        """After its last epoch; infinite before the first."""
        return self.losses[-1] if self.losses else math.inf

    @property
    def order(self) -> tuple[bool, int, float]:
        """The best first; of trials of different length, those that came further."""
        return not self.is_judged, -len(self.losses), self.loss


class Journal:
    """The trials of a search, and the document of the store that keeps them.

    Args:
        store: where it lies.
        name: of the search.
        search: all that decides what its trials become; JSON.

    Raises:
        UserError: a search of that name is there, and it is another one.
    """

    def __init__(self, store: LogitStore, name: str, search: Mapping[str, Any]) -> None:
        self._store, self.name = store, name
        self._search: dict[str, Any] = json.loads(json.dumps(search))
        self.trials: dict[str, Trial] = {}
        if store.has_object(self.document):
            self._load(json.loads(store.read_object(self.document)))

    @property
    def document(self) -> str:
        """The object that holds it."""
        return f"search/v1/{self.name}/result.json"

    def checkpoint(self, trial: Trial) -> str:
        """The object that holds a trial's checkpoint while it runs."""
        return checkpoint_object(self.name, trial.id)

    def in_state(self, *states: State) -> list[Trial]:
        """The trials in one of these states."""
        return [trial for trial in self.trials.values() if trial.state in states]

    def ranked(self) -> list[Trial]:
        """All trials, the best first."""
        return sorted(self.trials.values(), key=lambda trial: trial.order)

    def note(self, trial: Trial) -> None:
        """Take down a trial, to be kept with whatever is kept next."""
        self.trials[trial.id] = trial

    def add(self, *trials: Trial) -> None:
        """Take down trials, and keep all in their present state."""
        for trial in trials:
            self.note(trial)
        self._save()

    def end(self, trial: Trial) -> None:
        """Take down that a trial has ended, and remove its checkpoint."""
        self._save()
        self._store.delete_object(self.checkpoint(trial))

    def sweep(self) -> None:
        """Remove the checkpoints that a killed driver left of trials that do not go on."""
        going_on = {self.checkpoint(trial) for trial in self.in_state("running")}
        for entry in self._store.files.entries(checkpoint_object(self.name, "*")):
            if entry.name not in going_on:
                self._store.delete_object(entry.name)

    def _save(self) -> None:
        trials = [
            {
                "id": trial.id,
                "epochs": len(trial.losses),
                "select_log_loss": trial.losses[-1] if trial.losses else None,
                "select_accuracy": trial.accuracies[-1] if trial.accuracies else None,
                **asdict(trial),
            }
            for trial in self.ranked()
        ]
        text = json.dumps({"search": self._search, "trials": trials}, indent=1, allow_nan=False)
        self._store.write_object(self.document, text.encode())

    def _load(self, document: dict[str, Any]) -> None:
        there = document["search"]
        for option in sorted({*there, *self._search}):
            if there.get(option) != self._search.get(option):
                raise UserError(
                    f"search {self.name} is in the store with {option} {there.get(option)}, and "
                    f"{self._search.get(option)} was asked for: give another --name, or none"
                )
        named = Trial.__dataclass_fields__
        trials = [
            Trial(**{k: v for k, v in each.items() if k in named}) for each in document["trials"]
        ]
        self.trials = {trial.id: trial for trial in trials}


def checkpoint_object(search: str, trial: str) -> str:
    """The object that holds the checkpoint of a trial, by its id."""
    return f"search/v1/{search}/checkpoints/{trial}.pt"


def in_words(point: Mapping[str, int | float]) -> str:
    """A point: of each name the last part, of each value three digits."""
    return ", ".join(f"{name.rpartition('.')[2]} {value:.3g}" for name, value in point.items())
