"""All that a store holds of a corpus, judged on the test fold: what every part of a report reads.

Dimensions: P clips of a test fold, K classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio.clips import Corpus
from ensemble.stored import ensemble_logits
from logit_store import LogitKey, LogitStore
from metrics import Comparison
from report.costs import Cost, ensemble_cost, member_cost
from report.found import KINDS, Found, Kind, find, protocols
from report.names import names_of
from report.objective import objective
from report.summary import JudgedClips, Summary, compared, judged
from students.stored import NoStudent, recipe_of


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Judged:
    """A teacher, an ensemble or a student on one split, once per seed, with its figures on test."""

    name: str
    """What people call it; no other system of its kind and split has the same."""
    kind: Kind
    split: int
    keys: tuple[LogitKey, ...]
    """Its logits, a key a seed; of an ensemble those of its members."""
    records: tuple[Mapping[str, Any], ...]
    """How they came about, in the order of the keys."""
    recipe: Mapping[str, Any]
    """As the first record tells it; of an ensemble the settings of its selection."""
    protocol: str
    """`published` where test clips chose any part of it, a teacher of it for example; else
    `honest`."""
    family: str | None
    """Of a teacher: which kind of network, if it is known."""
    objective: str | None
    """Of a student: how it learns, in words of `students.ways` joined by +; None where its
    recipe is not known, or that of another version."""
    taught_by: str | None
    """Of a student: NAME@HASH of an ensemble, or a member; None: it learnt from labels alone."""
    reference: str | None
    """Of an ensemble: NAME@HASH."""
    document: Mapping[str, Any]
    """Of an ensemble: what its selection wrote into the store."""
    cost: Cost
    summary: Summary

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """In the order of the keys, None where a record tells none; an ensemble has no seed."""
        return () if self.reference else tuple(each.get("seed") for each in self.records)

    @property
    def n_seeds(self) -> int:
        """How many runs its figures are the mean of."""
        return 1 if self.reference else len(self.keys)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Results:
    """What lies in a store for a corpus, judged."""

    store: LogitStore
    corpus: Corpus
    """Its table has no column `file` where only the store knows the clips."""
    systems: tuple[Judged, ...]
    """By split; teachers, ensembles, students; the most accurate first."""
    left_out: tuple[str, ...]
    """Ensembles that could not be judged, and why."""
    clips: Mapping[int, JudgedClips]
    """The test clips of each split that has systems, ascending."""

    @classmethod
    def of(
        cls,
        store: LogitStore,
        corpus: Corpus,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> "Results":
        """Read what there is and judge it, one system at a time.

        Args:
            store: which one.
            corpus: whose clips, in the store's order.
            on_progress: told how many systems are judged, of how many.

        Raises:
            LogitStoreError: there is no such store, or a file of it must not be used.
            CorpusError: a split that was learnt has no test clip.
        """
        found, left_out = find(store, corpus.name)
        told = protocols(found)
        named = list(zip(found, names_of(found, told), told, strict=True))
        clips = {split: JudgedClips.of(corpus, split) for split in _splits(found)}
        systems = []
        for done, (each, name, protocol) in enumerate(named, start=1):
            logits_APK = list(_logits(store, each, clips[each.split].rows))
            figures = judged(clips[each.split], logits_APK)
            systems.append(_judged(each, name, protocol, figures))
            on_progress(done, len(named))
        return cls(
            store=store,
            corpus=corpus,
            systems=tuple(sorted(systems, key=_best_first)),
            left_out=tuple(left_out),
            clips=clips,
        )

    def of_kind(self, kind: Kind, split: int | None = None) -> tuple[Judged, ...]:
        """The systems of a kind, of one split or of all."""
        return tuple(
            each for each in self.systems if each.kind == kind and split in (None, each.split)
        )

    def logits(self, system: Judged) -> Iterator[NDArray[np.float32]]:
        """A system's logits of the test clips of its split, [P, K], one array a seed."""
        return _logits(self.store, system, self.clips[system.split].rows)

    def compare(self, first: Judged, second: Judged, *, unseen_only: bool = False) -> Comparison:
        """Macro-average accuracy of two systems on the same test clips, and of their difference.

        Args:
            first: what the other is compared with.
            second: of the same split, with as many seeds.
            unseen_only: on recording devices only that the split's training clips have not.

        Raises:
            ValueError: the systems are of different splits or numbers of seeds, or there are less
                than two recordings to compare on.
        """
        if (first.split, first.n_seeds) != (second.split, second.n_seeds):
            raise ValueError(
                f"{first.name} (split {first.split}, {first.n_seeds} seeds) and {second.name} "
                f"(split {second.split}, {second.n_seeds} seeds): expected the same split and "
                "number of seeds"
            )
        return compared(
            self.clips[first.split],
            list(self.logits(first)),
            list(self.logits(second)),
            unseen_only=unseen_only,
        )


def _best_first(system: Judged) -> tuple[int, int, float]:
    return system.split, KINDS.index(system.kind), -system.summary.accuracy.value


def _splits(found: Sequence[Found]) -> list[int]:
    return sorted({each.split for each in found})


def _logits(
    store: LogitStore, each: Found | Judged, rows: NDArray[np.int64]
) -> Iterator[NDArray[np.float32]]:
    if each.reference:
        corpus = each.keys[0].corpus
        yield ensemble_logits(store, corpus, each.split, each.reference, rows=rows)
    else:
        for key in each.keys:
            yield store.read([key], rows)[0]


def _judged(each: Found, name: str, protocol: str, figures: Summary) -> Judged:
    return Judged(
        name=name,
        kind=each.kind,
        split=each.split,
        keys=each.keys,
        records=each.records,
        recipe=each.recipe,
        protocol=protocol,
        family=None if each.reference else each.records[0].get("family"),
        objective=_objective(each),
        taught_by=each.taught_by,
        reference=each.reference,
        document=each.document,
        cost=(ensemble_cost if each.reference else member_cost)(each.records),
        summary=figures,
    )


def _objective(each: Found) -> str | None:
    if each.kind != "student" or "model" not in each.recipe:
        return None
    try:
        return objective(recipe_of(each.records[0], each.keys[0]))
    except NoStudent:
        return None
