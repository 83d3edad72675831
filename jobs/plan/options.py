"""Options that commands share: corpus and store, cost and budget, runs and their needs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from audio.clips import SPLITS, Corpus
from audio.corpora import CorpusName
from jobs.schedule.task import Needs
from jobs.schedule.uploads import is_uploaded
from jobs.schedule.workers import Workers
from jobs.worker.where import Where, make_absolute, read_corpus
from logit_store import LogitStore
from terminal.console import UserError
from training import TrainingRecipe

if TYPE_CHECKING:
    from jobs.schedule.prices import Price


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """Options of all commands: the corpus, its audio, and the store."""

    corpus: CorpusName = "demo"
    """demo: the recordings that come with the project; tau: TAU 2022 Mobile or its layout;
    cochlscene: as published; folder: your own, a folder of audio files per class or a clips.csv."""
    root: str | None = None
    """Folder of the corpus (demo: needs none): for tau with meta.csv and audio/, for folder a folder
    per class or a clips.csv; or s3://BUCKET/PREFIX with the same in it, which each node copies
    once."""
    store: str | None = None
    """The logit store: a folder, or s3://BUCKET/PREFIX with endpoint, region and keys in the AWS_*
    variables; runs/CORPUS if not given."""
    debug: bool = False
    """Show the traceback of an error."""

    def list_data_options(self) -> list[str]:
        """Return the options that give another command the same corpus and the same store."""
        root = ["--root", self.root] if self.root else []
        return ["--corpus", self.corpus, *root, "--store", self.store or f"runs/{self.corpus}"]

    def open_store(self) -> LogitStore:
        """Open the store, at an address that is valid on every worker."""
        if self.store is not None and "://" in self.store:
            return LogitStore(self.store)
        address = Path(self.store or f"runs/{self.corpus}").expanduser()
        if not address.is_absolute() and is_uploaded():
            raise UserError(
                f"--store {address}: this job runs in an uploaded copy of the project, which is "
                "thrown away; give a folder that stays, as an absolute path, or s3://BUCKET/PREFIX"
            )
        return LogitStore(str(address.absolute()))

    def open_corpus(self, store: LogitStore) -> Corpus:
        """Read the corpus without the clips that the store leaves out, and print their number."""
        return read_corpus(self.corpus, self.root, store)

    def make_where(self, store: LogitStore) -> "Where":
        """Return the corpus and the store, as tasks can open them."""
        return Where.of(self.corpus, self.root, store)


@dataclass(frozen=True, kw_only=True)
class CostOptions(CorpusOptions):
    """Options of commands that estimate their cost."""

    machine: str | None = None
    """The machine that runs use, for their cost: a name in cluster/prices.toml; laptop, a machine of
    your own that costs nothing, if not given."""
    spot: bool = False
    """Use spot prices, not those on demand."""
    dry_run: bool = False
    """Print what would run, need and cost, and run nothing."""

    def find_price(self) -> "Price":
        """Return the price of the machine.

        Raises:
            UserError: there is no such price, or prices.toml is malformed.
        """
        # The check of prices.toml takes longer to import than --help may take.
        from jobs.schedule.prices import OWN, find_price

        return find_price(self.machine or OWN)


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(CostOptions):
    """Options of commands that stop when a budget is spent."""

    budget: float | None = None
    """Start no more runs once those that ended or run cost about this much, at the price of
    --machine; running ones finish. Each command has its own budget."""

    def find_budget(self, *, on_cluster: bool) -> float | None:
        """Return the budget, if there is one.

        Args:
            on_cluster: whether runs go to a cluster whose machines this process does not know.

        Raises:
            UserError: the budget is not above 0, or the machines of a cluster are not named.
        """
        if self.budget is None:
            return None
        if self.budget <= 0:
            raise UserError(f"--budget {self.budget:g}: expected an amount above 0")
        if self.machine is None and on_cluster:
            raise UserError(
                f"--budget {self.budget:g}: the runs go to a cluster; say what its machines are "
                "with --machine NAME, a name in cluster/prices.toml (laptop if they are your own)"
            )
        return self.budget


@dataclass(frozen=True, kw_only=True)
class LearningOptions(BudgetOptions):
    """Options of commands that train models."""

    splits: tuple[int | Literal["all"], ...] = ("all",)
    """Percent of the training clips to train on: 5, 10, 25, 50, 100, or all of these."""
    seeds: tuple[int, ...] = (0,)
    """One run per seed."""
    epochs: int | None = None
    """Largest number of epochs, whatever the recipe says."""
    max_steps: int | None = None
    """Largest number of optimiser steps, to try things out."""
    impulse_responses: Path | None = None
    """Folder of recording devices' impulse responses (.wav) for augmentation; a synthetic set
    if not given."""
    cpus_per_run: int = 1
    """Cores of one run, and threads of its torch."""
    gpus_per_run: float | None = None
    """Share of a GPU for one run, enforced; if not given, 0 where the cluster has no GPU, else
    1, and for teachers what a dry step on a GPU shows that each recipe needs. A cluster whose nodes
    are all still to come needs it."""

    def find_needs(self, workers: Workers[Any]) -> Needs:
        """Return what one run needs of the workers.

        Raises:
            UserError: it is not known whether the nodes of a cluster, which are all still to come,
                have GPUs.
        """
        gpus = self.gpus_per_run
        if gpus is None:
            if workers.is_shared and not workers.find_largest_memory_bytes():
                raise UserError(
                    "the cluster has no node yet that takes runs, so whether its nodes have GPUs is "
                    "not known: say --gpus-per-run 1 if they have (or a share, such as 0.5), else 0"
                )
            gpus = 1.0 if workers.count_gpus() else 0.0
        return Needs(cpus=self.cpus_per_run, gpus=gpus)

    def limit_training(self, training: TrainingRecipe) -> TrainingRecipe:
        """Return a recipe with no more epochs and steps than the options allow.

        Raises:
            UserError: they allow fewer than one.
        """
        check_counts(epochs=self.epochs, max_steps=self.max_steps)
        if self.epochs is not None:
            training = replace(training, max_epochs=self.epochs)
        if self.max_steps is not None:
            training = replace(training, max_steps=self.max_steps)
        return training

    def find_responses(self) -> Path | None:
        """Return the absolute folder of impulse responses; None is the synthetic set."""
        return make_absolute(self.impulse_responses)


def check_counts(**options: int | None) -> None:
    """Make sure that options, by the names of their fields, are None or at least 1.

    Raises:
        UserError: one is not; the message names the first.
    """
    for name, value in options.items():
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: expected 1 or more")


def find_recipes(recipes: Sequence[str], known: dict[str, Any], what: str) -> list[Any]:
    """Return the recipes of these names.

    Raises:
        UserError: one is not known.
    """
    unknown = [name for name in recipes if name not in known]
    if unknown:
        raise UserError(f"no {what} recipe {', '.join(unknown)}; there are: {', '.join(known)}")
    return [known[name] for name in recipes]


def parse_splits(splits: Sequence[int | str]) -> tuple[int, ...]:
    """Return the splits that these words mean, each once.

    Raises:
        UserError: one does not exist.
    """
    unknown = [split for split in splits if split not in (*SPLITS, "all")]
    if unknown:
        raise UserError(f"no split {unknown}; there are: {', '.join(map(str, SPLITS))}, all")
    found = SPLITS if "all" in splits else splits
    return tuple(int(split) for split in dict.fromkeys(found))
