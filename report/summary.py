"""Scores of systems on the test fold, with intervals over recordings and seeds.

Dimensions: N clips of the corpus, P of its test fold, K classes; A seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio.clips import Corpus
from metrics import (
    MIN_SEEDS,
    Interval,
    PairedComparison,
    bootstrap,
    log_loss,
    main_score,
    name_main_score,
    paired_bootstrap,
)

TOO_FEW_SEEDS = "too few seeds to tell"
"""The verdict on a difference that fewer than `MIN_SEEDS` seeds show, whatever its interval."""


@dataclass(frozen=True, eq=False, slots=True)
class System:
    """A teacher, an ensemble or a student, with all its seeds."""

    name: str
    split: int
    logits_ANK: Sequence[np.ndarray]
    """Logits of all clips of the corpus for each seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A system's scores on test: means over its seeds, log loss in nats."""

    accuracy: Interval
    """Macro-average accuracy, or of several labels a clip the mAP, as all that is called accuracy here;
    with its 95 % interval, see `JudgedClips.name_drawn`."""
    seed_deviation: float | None
    """Standard deviation of the seeds' macro accuracies; None for a single seed."""
    seen_accuracy: float | None
    """Accuracy on recording devices of the split's training clips; None if test has none of
    them."""
    unseen_accuracy: float | None
    """Accuracy on other recording devices; None if test has none of them."""
    log_loss: float


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class JudgedClips:
    """The test clips of a split, in the corpus's order; all arrays are [P], but labels if several."""

    split: int
    rows: NDArray[np.int64]
    """Their rows in the corpus."""
    labels: NDArray[np.integer]
    """True classes [P]; of several labels a clip zeros and ones, [P, K]."""
    recordings: np.ndarray
    groups: NDArray[np.integer]
    """What intervals draw: the source of each clip, or its recording, as a number from 0."""
    has_sources: bool
    """Whether groups are sources."""
    recording_devices: np.ndarray
    cities: np.ndarray
    seen: NDArray[np.bool_]
    """Whether a clip's recording device is in the split's training clips."""

    @classmethod
    def of(cls, corpus: Corpus, split: int) -> "JudgedClips":
        """Find the test clips of a split.

        Raises:
            CorpusError: the split has no test clip.
        """
        rows = corpus.rows(split, "test")
        devices = corpus.column("recording_device")
        known = np.unique(devices[corpus.rows(split, "fit", "select")])
        return cls(
            split=split,
            rows=rows,
            labels=corpus.truth()[rows],
            recordings=corpus.column("recording")[rows],
            # Numbers, as each interval sorts them, and names take ten times as long.
            groups=np.unique(corpus.groups()[rows], return_inverse=True)[1],
            has_sources=corpus.has_sources,
            recording_devices=devices[rows],
            cities=corpus.column("city")[rows],
            seen=np.isin(devices[rows], known),
        )

    def name_drawn(self, n_seeds: int) -> str:
        """Return what an interval of so many seeds is over: groups, and seeds if they are enough."""
        groups = name_groups(has_sources=self.has_sources)
        return f"{groups} and seeds" if has_verdict(n_seeds) else f"{groups} alone"


def name_score(corpus: Corpus) -> str:
    """Return what people call the main score of systems on a corpus."""
    return "mAP" if corpus.has_several_labels else "macro accuracy"


def describe_score(corpus: Corpus) -> str:
    """Return how captions begin that show the main score."""
    several = corpus.has_several_labels
    return "mAP (the mean average precision)" if several else "Macro-average accuracy"


def title_score(corpus: Corpus) -> str:
    """Return how titles begin that compare systems by the main score."""
    return "mAP" if corpus.has_several_labels else "Accuracy"


def name_groups(*, has_sources: bool) -> str:
    """Return the word for what intervals draw."""
    return "sources" if has_sources else "recordings"


def describe_intervals(corpus: Corpus) -> str:
    """Return what the intervals of systems of any number of seeds are over, for captions."""
    groups = name_groups(has_sources=corpus.has_sources)
    return f"over {groups} and seeds (with fewer than {MIN_SEEDS} seeds over {groups} alone)"


def has_verdict(n_seeds: int) -> bool:
    """Return whether so many seeds can tell a difference from chance."""
    return n_seeds >= MIN_SEEDS


def summarise(corpus: Corpus, system: System) -> Summary:
    """Summarise a system's scores on the test fold of its split."""
    test = JudgedClips.of(corpus, system.split)
    return summarise_logits(test, [logits_NK[test.rows] for logits_NK in system.logits_ANK])


def summarise_logits(test: JudgedClips, logits_APK: Sequence[np.ndarray]) -> Summary:
    """Summarise logits of the test clips, one array for each seed.

    Every score is a mean over seeds, each judged by itself: seeds in one list would be ranked against
    each other by the mAP. The interval is over recordings (or sources), and over seeds if there are at
    least three.
    """
    n_seeds = len(logits_APK)
    accuracies = [main_score(each, test.labels) for each in logits_APK]
    return Summary(
        accuracy=bootstrap(
            logits_APK, test.labels, test.groups, metric=name_main_score(test.labels)
        ),
        seed_deviation=float(np.std(accuracies, ddof=1)) if n_seeds > 1 else None,
        seen_accuracy=_measure_accuracy(logits_APK, test.labels, test.seen),
        unseen_accuracy=_measure_accuracy(logits_APK, test.labels, ~test.seen),
        log_loss=float(np.mean([log_loss(each, test.labels) for each in logits_APK])),
    )


def _measure_accuracy(
    logits_APK: Sequence[np.ndarray], labels: np.ndarray, some_P: np.ndarray
) -> float | None:
    if not some_P.any() or (labels.ndim == 2 and not labels[some_P].any()):
        return None
    return float(np.mean([main_score(each[some_P], labels[some_P]) for each in logits_APK]))


def compare_systems(
    corpus: Corpus, first: System, second: System, *, unseen_only: bool = False
) -> PairedComparison:
    """Compare the macro-average accuracy of two systems on the same test clips.

    Args:
        corpus: the corpus of the clips.
        first: the system with which the other is compared.
        second: a system of the same split with as many seeds, in the same order.
        unseen_only: whether to use only clips of recording devices that are not in the split's
            training clips.

    Raises:
        ValueError: the systems are of different splits or numbers of seeds, or there are fewer than
            two recordings (or sources) to compare on.
    """
    counts = len(first.logits_ANK), len(second.logits_ANK)
    if first.split != second.split or counts[0] != counts[1]:
        raise ValueError(
            f"{first.name} (split {first.split}, {counts[0]} seeds) and {second.name} (split "
            f"{second.split}, {counts[1]} seeds): expected the same split and number of seeds"
        )
    test = JudgedClips.of(corpus, first.split)
    pair = [[each_NK[test.rows] for each_NK in system.logits_ANK] for system in (first, second)]
    return compare_logits(test, *pair, unseen_only=unseen_only)


def compare_logits(
    test: JudgedClips,
    first_APK: Sequence[np.ndarray],
    second_APK: Sequence[np.ndarray],
    *,
    unseen_only: bool = False,
) -> PairedComparison:
    """Compare logits of the test clips as `compare_systems` does, with equal numbers of seeds."""
    clips = ~test.seen if unseen_only else np.ones_like(test.seen)
    return paired_bootstrap(
        [logits_PK[clips] for logits_PK in first_APK],
        [logits_PK[clips] for logits_PK in second_APK],
        test.labels[clips],
        test.groups[clips],
        metric=name_main_score(test.labels),
    )
