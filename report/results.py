"""All systems of a store for a corpus, judged on the test fold: the input of all sections.

Dimensions: P clips of a test fold, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio.clips import Corpus
from ensemble.stored import average_members
from logit_store import LogitKey, LogitStore, UnreadableFile
from metrics import PairedComparison
from report.choice import MOST, choose_systems
from report.costs import SystemCost, read_ensemble_cost, read_member_cost
from report.names import name_systems
from report.objective import describe_objective
from report.summary import JudgedClips, Summary, compare_logits, summarise_logits
from report.systems import SYSTEM_KINDS, StoredSystem, SystemKind, find_protocols, find_systems
from students.errors import NoStudent
from students.pools import describe_pools
from students.records import restore_recipe


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class JudgedSystem:
    """A teacher, an ensemble or a student on one split, with its seeds and its scores on test."""

    name: str
    """Its name in the report, unique within its kind and split."""
    kind: SystemKind
    split: int
    keys: tuple[LogitKey, ...]
    """Keys of its logits, one for each seed; of an ensemble, those of its members."""
    records: tuple[Mapping[str, Any], ...]
    """The records of the keys, in their order."""
    recipe: Mapping[str, Any]
    """The recipe in the first record; of an ensemble, the settings of its selection."""
    protocol: str
    """`published` if test clips chose any part of it, for example one of its teachers; otherwise
    `honest`."""
    family: str | None
    """The family of networks of a teacher, if it is known."""
    objective: str | None
    """The objective of a student, in words of `students.ways` joined by +, and its pools; None if its
    recipe is unknown or from another version."""
    taught_by: str | None
    """What taught a student: NAME@HASH of an ensemble, or a member; None if labels alone did."""
    reference: str | None
    """NAME@HASH of an ensemble; None for others."""
    document: Mapping[str, Any]
    """What the selection of an ensemble wrote into the store; empty for others."""
    select_loss: float
    """Mean log loss over the seeds on `select`, in nats; of an ensemble, on clips that no selection
    saw. Infinite without such clips."""
    cost: SystemCost
    summary: Summary

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """The seeds of the keys, None where a record has none; an ensemble has no seeds."""
        return () if self.reference else tuple(each.get("seed") for each in self.records)

    @property
    def n_seeds(self) -> int:
        """The number of runs that its figures are the mean of."""
        return 1 if self.reference else len(self.keys)


@dataclass(frozen=True, slots=True)
class UnshownSystem:
    """A system that is not judged, so that the page stays readable."""

    system: str
    """Its name."""
    kind: SystemKind
    split: int
    protocol: str
    select_loss: float | None
    """As of a judged system; None without clips of this fold."""

    @classmethod
    def of(cls, stored: StoredSystem, name: str, protocol: str) -> "UnshownSystem":
        """Return what is said of a system that is not judged."""
        loss = stored.select_loss if isfinite(stored.select_loss) else None
        return cls(name, stored.kind, stored.split, protocol, loss)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Results:
    """The systems of a store for a corpus, judged."""

    store: LogitStore
    corpus: Corpus
    """Its table has no column `file` if only the store knows the clips."""
    systems: tuple[JudgedSystem, ...]
    """Ordered by split, then kind, then accuracy, the most accurate first."""
    featured: Mapping[int, Mapping[str, JudgedSystem]]
    """For each split, the system in each of the `ROLES`; a role without a system is left out."""
    unshown: tuple[UnshownSystem, ...]
    """The systems that are left out because there are many better ones of their split and kind."""
    left_out: tuple[str, ...]
    """Texts on the systems that could not be judged, with the reasons."""
    clips: Mapping[int, JudgedClips]
    """The test clips of each split that has systems, in ascending order."""

    @classmethod
    def of(
        cls,
        store: LogitStore,
        corpus: Corpus,
        most: int = MOST,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> "Results":
        """Find the systems of a store and judge those that are shown, one at a time.

        Args:
            store: the store to read.
            corpus: the corpus of the systems, with its clips in the store's order.
            most: how many systems of a split and kind are shown, see `choose_systems`.
            on_progress: called with the number of judged systems and that of those to judge.

        Raises:
            LogitStoreError: there is no such store, or a file of it must not be used.
            CorpusError: a split that has systems has no test clip.
        """
        stored, left_out = find_systems(store, corpus.name)
        protocols = find_protocols(stored)
        names = name_systems(stored, protocols)
        clips = {
            split: JudgedClips.of(corpus, split)
            for split in sorted({each.split for each in stored})
        }
        choice = choose_systems(stored, protocols, most)
        judged: dict[StoredSystem, JudgedSystem] = {}
        named = list(zip(stored, names, protocols, strict=True))
        for each, name, protocol in named:
            if each not in choice.shown:
                continue
            try:
                logits_APK = list(_read_logits(store, each, clips[each.split].rows))
            except UnreadableFile as error:
                left_out.append(f"{name} of split {each.split}: {error}")
                continue
            summary = summarise_logits(clips[each.split], logits_APK)
            judged[each] = _judge(each, name, protocol, summary)
            on_progress(len(judged), len(choice.shown))
        return cls(
            store=store,
            corpus=corpus,
            systems=tuple(sorted(judged.values(), key=_rank)),
            featured={
                split: {role: judged[each] for role, each in roles.items() if each in judged}
                for split, roles in choice.roles.items()
            },
            unshown=tuple(UnshownSystem.of(*each) for each in named if each[0] not in choice.shown),
            left_out=tuple(left_out),
            clips=clips,
        )

    def list_systems(self, kind: SystemKind, split: int | None = None) -> tuple[JudgedSystem, ...]:
        """Return the systems of a kind, of one split or of all."""
        return tuple(
            each for each in self.systems if each.kind == kind and split in (None, each.split)
        )

    def read_logits(self, system: JudgedSystem) -> Iterator[NDArray[np.float32]]:
        """Read a system's logits of the test clips of its split: an array [P, K] for each seed."""
        return _read_logits(self.store, system, self.clips[system.split].rows)

    def compare(
        self, first: JudgedSystem, second: JudgedSystem, *, unseen_only: bool = False
    ) -> PairedComparison:
        """Compare the macro-average accuracy of two systems on the same test clips.

        Args:
            first: the system with which the other is compared.
            second: a system of the same split with as many seeds, in the same order.
            unseen_only: whether to use only clips of recording devices that are not in the split's
                training clips.

        Raises:
            ValueError: the systems are of different splits or numbers of seeds, or there are fewer
                than two recordings to compare on.
        """
        if (first.split, first.n_seeds) != (second.split, second.n_seeds):
            raise ValueError(
                f"{first.name} (split {first.split}, {first.n_seeds} seeds) and {second.name} "
                f"(split {second.split}, {second.n_seeds} seeds): expected the same split and "
                "number of seeds"
            )
        return compare_logits(
            self.clips[first.split],
            list(self.read_logits(first)),
            list(self.read_logits(second)),
            unseen_only=unseen_only,
        )


def _rank(system: JudgedSystem) -> tuple[int, int, float]:
    return system.split, SYSTEM_KINDS.index(system.kind), -system.summary.accuracy.value


def _read_logits(
    store: LogitStore, each: StoredSystem | JudgedSystem, rows: NDArray[np.int64]
) -> Iterator[NDArray[np.float32]]:
    if each.reference:
        # Its members were compared with their hashes when it was found.
        yield average_members(store, each.keys, each.document, rows=rows)
    else:
        for key in each.keys:
            yield store.read([key], rows)[0]


def _judge(each: StoredSystem, name: str, protocol: str, summary: Summary) -> JudgedSystem:
    return JudgedSystem(
        name=name,
        kind=each.kind,
        split=each.split,
        keys=each.keys,
        records=each.records,
        recipe=each.recipe,
        protocol=protocol,
        family=None if each.reference else each.records[0].get("family"),
        objective=_describe_objective(each),
        taught_by=each.taught_by,
        reference=each.reference,
        document=each.document,
        select_loss=each.select_loss,
        cost=(read_ensemble_cost if each.reference else read_member_cost)(each.records),
        summary=summary,
    )


def _describe_objective(each: StoredSystem) -> str | None:
    if each.kind != "student" or "model" not in each.recipe:
        return None
    try:
        objective = describe_objective(restore_recipe(each.records[0], each.keys[0]))
        return objective + describe_pools(each.records[0])
    except NoStudent:
        return None
