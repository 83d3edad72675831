"""Options that commands share: corpus and store, cost and budget, runs and their needs."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from audio.clips import SPLITS, Corpus
from audio.corpora import CorpusName
from audio.micirp import UNSEEN_DEVICES, check_micirp, find_unseen_microphones
from audio.pools import OWN_UNLABELLED, REST
from jobs.schedule.cluster import joins_cluster
from jobs.schedule.task import Needs
from jobs.schedule.uploads import is_uploaded
from jobs.schedule.workers import IN_PROCESS, InProcess, Workers
from jobs.worker.where import Where, make_absolute, parse_pool_word, read_corpus
from logit_store import LogitStore
from terminal.console import UserError, console
from terminal.tables import format_count
from terminal.values import (
    Address,
    Check,
    Count,
    Folder,
    Line,
    Name,
    Root,
    Seeds,
    Steps,
    above,
    each_once,
    expect,
    find_fault_of_path,
    find_fault_of_root,
    whole,
)
from training import TrainingRecipe

if TYPE_CHECKING:
    from jobs.schedule.prices import Price


def _find_price(machine: str | None) -> "Price":
    # The check of prices.toml takes longer to import than --help may take.
    from jobs.schedule.prices import OWN, find_price

    return find_price(machine or OWN)


def _find_fault_of_machine(name: str) -> str | None:
    try:
        _find_price(name)
    except UserError as error:
        return str(error)
    return None


def _find_fault_of_pool(word: str) -> str | None:
    try:
        named = parse_pool_word(word)
    except ValueError as error:
        return str(error)
    return None if named is None else find_fault_of_root(named[1])


def _find_fault_of_foreign_pool(word: str) -> str | None:
    if word in (REST, OWN_UNLABELLED):
        return "expected CORPUS:ROOT: the logits of all clips of --corpus are stored in any case"
    return _find_fault_of_pool(word)


def _is_gpu_share(gpus: float) -> bool:
    # Ray counts in ten-thousandths, and takes no part of a GPU beside whole ones.
    return 1e-4 <= gpus <= 1 or (0 <= gpus <= MOST_GPUS and gpus == int(gpus))


MOST_GPUS = 1_024

Machine = Annotated[Name, Check(_find_fault_of_machine)]
Cores = Annotated[int, whole(1, 4096)]
Gpus = Annotated[int, whole(1, MOST_GPUS)]
GpuShare = Annotated[
    float,
    expect(
        f"0, a share of a GPU such as 0.25, or a whole number of GPUs up to {MOST_GPUS:,}",
        _is_gpu_share,
    ),
]
Views = Annotated[int, whole(1, 1_000)]
PoolWords = Annotated[
    tuple[Annotated[Line, Check(_find_fault_of_pool)], ...],
    Check(each_once),
]
"""`rest`, `unlabelled`, CORPUS:ROOT."""
PoolRoots = Annotated[
    tuple[Annotated[Line, Check(_find_fault_of_foreign_pool)], ...],
    Check(each_once),
]
"""CORPUS:ROOT."""
Split = Annotated[
    int, expect(f"one of {', '.join(map(str, SPLITS))}", lambda value: value in SPLITS)
]
Splits = tuple[
    Annotated[
        int | Literal["all"],
        expect(
            f"one of {', '.join(map(str, SPLITS))}, all", lambda value: value in (*SPLITS, "all")
        ),
    ],
    ...,
]


@dataclass(frozen=True, kw_only=True)
class CorpusOptions:
    """Options of all commands: the corpus, its audio, and the store."""

    WRITES: ClassVar[bool] = False
    """Whether the command writes to the store."""

    corpus: CorpusName = "demo"
    """demo: the recordings that come with the project; tau: TAU 2022 Mobile or its layout;
    cochlscene: as published; folder: your own, a folder of audio files per class or a clips.csv."""
    root: Root | None = None
    """Folder of the corpus (demo: needs none): for tau with meta.csv and audio/, for folder a folder
    per class or a clips.csv; or s3://BUCKET/PREFIX with the same in it, which each node copies
    once."""
    store: Address | None = None
    """The logit store: a folder, or s3://BUCKET/PREFIX with endpoint, region and keys in the AWS_*
    variables; runs/CORPUS if not given."""
    debug: bool = False
    """Show the traceback of an error."""

    def list_data_options(self) -> list[str]:
        """Return the options that give another command the same corpus and the same store."""
        root = ["--root", self.root] if self.root else []
        return ["--corpus", self.corpus, *root, "--store", self.store or f"runs/{self.corpus}"]

    def open_store(self) -> LogitStore:
        """Open the store, at an address that is valid on every worker.

        Raises:
            UserError: the folder cannot be used, or stays on this machine only.
        """
        if self.store is not None and "://" in self.store:
            return LogitStore(self.store)
        address = Path(self.store or f"runs/{self.corpus}").expanduser()
        if not address.is_absolute() and is_uploaded():
            raise UserError(
                f"--store {address}: this job runs in an uploaded copy of the project, which is "
                "thrown away; give a folder that stays, as an absolute path, or s3://BUCKET/PREFIX"
            )
        fault = find_fault_of_path(address, is_folder=True, is_written=self.WRITES)
        if fault is not None:
            raise UserError(f"--store {address}: {fault}")
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

    WRITES = True

    machine: Machine | None = None
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
        return _find_price(self.machine)


@dataclass(frozen=True, kw_only=True)
class AttemptOptions(CostOptions):
    """Options of commands whose tasks are tried again when their workers are lost."""

    unit_timeout: Annotated[float, above(0, to=1e6)] | None = None
    """Minutes for which an attempt at a task may report nothing (no epoch, no warning): one that is silent
    for longer is stopped, and tried again as if its worker were lost, 3 times at most. It must be
    longer than an epoch, what comes before the first, and the predictions after the last. If not
    given, attempts may take for ever."""

    def find_timeout_s(self, workers: Workers[Any]) -> float | None:
        """Return the seconds for which an attempt may report nothing; None is without end.

        Raises:
            UserError: the workers cannot keep it.
        """
        if self.unit_timeout is None:
            return None
        if isinstance(workers, InProcess):
            raise UserError(
                f"--unit-timeout {self.unit_timeout:g}: with {IN_PROCESS}=1 tasks run in the process of "
                "the command, which cannot stop them: leave one of the two out"
            )
        return 60 * self.unit_timeout


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(CostOptions):
    """Options of commands that stop when a budget is spent."""

    budget: Annotated[float, above(0, to=1e9)] | None = None
    """Start no more runs once those that ended or run cost about this much, at the price of
    --machine; running ones finish. Each command has its own budget."""

    def find_budget(self, *, on_cluster: bool) -> float | None:
        """Return the budget, if there is one.

        Args:
            on_cluster: whether runs go to a cluster whose machines this process does not know.

        Raises:
            UserError: the machines of a cluster are not named.
        """
        if self.budget is None:
            return None
        if self.machine is None and on_cluster:
            raise UserError(
                f"--budget {self.budget:g}: the runs go to a cluster; say what its machines are "
                "with --machine NAME, a name in cluster/prices.toml (laptop if they are your own)"
            )
        return self.budget


@dataclass(frozen=True, kw_only=True)
class LearningOptions(BudgetOptions, AttemptOptions):
    """Options of commands that train models."""

    splits: Splits = ("all",)
    """Percent of the training clips to train on: 5, 10, 25, 50, 100, or all of these."""
    seeds: Seeds = (0,)
    """One run per seed."""
    epochs: Count | None = None
    """Largest number of epochs, whatever the recipe says."""
    max_steps: Steps | None = None
    """Largest number of optimiser steps, to try things out."""
    impulse_responses: Folder | None = None
    """Folder of recording devices' impulse responses (.wav) for augmentation; a synthetic set
    if not given."""
    cpus_per_run: Cores = 1
    """Cores of one run, and threads of its torch."""
    gpus_per_run: GpuShare | None = None
    """Share of a GPU for one run, enforced; if not given, 0 where the cluster has no GPU, else
    1, and for teachers what a dry step on a GPU shows that each recipe needs. A cluster whose nodes
    are all still to come needs it."""

    def check_fit_here(self) -> None:
        """Make sure that one run fits on this machine, unless the job would join a cluster.

        Raises:
            UserError: it does not.
        """
        if not joins_cluster():
            self.check_fit(InProcess())

    def check_fit(self, workers: Workers[Any]) -> None:
        """Make sure that one run fits on the workers, unless their cluster was there and may grow.

        Raises:
            UserError: it does not, and would wait for ever.
        """
        if workers.is_shared:
            return
        refuse_beyond("--cpus-per-run", self.cpus_per_run, workers.count_cpus(), "core")
        if self.gpus_per_run:
            refuse_beyond("--gpus-per-run", self.gpus_per_run, workers.count_gpus(), "GPU")

    def find_needs(self, workers: Workers[Any]) -> Needs:
        """Return what one run needs of the workers.

        Raises:
            UserError: a run does not fit on them, or it is not known whether the nodes of a cluster,
                which are all still to come, have GPUs.
        """
        self.check_fit(workers)
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
        """Return a recipe with no more epochs and steps than the options allow."""
        if self.epochs is not None:
            training = replace(training, max_epochs=self.epochs)
        if self.max_steps is not None:
            training = replace(training, max_steps=self.max_steps)
        return training

    def find_responses(self) -> Path | None:
        """Return the absolute folder of impulse responses, and tell what is in it; None is the synthetic set."""
        folder = make_absolute(self.impulse_responses)
        if folder is not None:
            _tell_of_microphones(folder, self.corpus)
        return folder


@functools.cache
def _tell_of_microphones(folder: Path, corpus: str) -> None:
    """Say how far a folder is MicIRP, and warn of microphones that TAU's unseen devices are."""
    if (found := check_micirp(folder)) is not None:
        console.print(f"--impulse-responses {folder}: {found}", markup=False)
    microphones = find_unseen_microphones(folder)
    if microphones and corpus == "tau":
        console.print(
            f"warning: in {folder} {', '.join(microphones.values())} are of the microphones "
            f"({', '.join(microphones)}) by which TAU simulates {', '.join(UNSEEN_DEVICES)}: runs that hear them "
            "know these devices, which are then not unseen, and the report marks them; for accuracy on unseen "
            "devices take a copy of the folder without these files",
            markup=False,
        )


def refuse_beyond(option: str, wanted: float, present: float, unit: str) -> None:
    """Refuse an option that asks for more of something than this machine has.

    Raises:
        UserError: it does.
    """
    if wanted > present:
        raise UserError(
            f"{option} {wanted:g}: this machine has {format_count(int(present), unit)}, and the job runs "
            "on no other: ask for no more, leave the option out, or set RAY_ADDRESS to a cluster with "
            "larger machines (cluster/)"
        )


def parse_splits(splits: Sequence[int | str]) -> tuple[int, ...]:
    """Return the splits that these words mean, each once."""
    found = SPLITS if "all" in splits else splits
    return tuple(int(split) for split in dict.fromkeys(found))
